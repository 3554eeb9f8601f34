"""Finishing inside of real runs with the bundled model: told, broken off, gone on with, undone."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from i2v.engine import run
from i2v.engine.cancel import GenerationCancelled, GenerationPaused
from i2v.engine.engine import Engine
from i2v.engine.orders import Orders, Work, never
from i2v.events import Done, Event, MemorySampled, PhaseFinished, PhaseStarted, Resumed, StepFinished
from i2v.finishing.chain import Finishing
from i2v.models.entry import ASSETS, ModelEntry
from i2v.plan import Plan
from i2v.request import AS_DECODED, Finish, GenerationRequest, first_image
from i2v.video import region
from i2v.video.metadata import probe_video, read_metadata
from i2v.video.picture import fit_picture
from i2v.video.rescue import partial_path
from tests.cli_support import generate_words, i2v
from tests.photos import photograph
from tests.video_support import shown

ENTRY = ModelEntry("nano", "nano", "Nano", ASSETS / "nano", None, True, 0, None)
PLAN = Plan()
ALL = Finish(deflicker=True, match_colours=True, interpolate=2, upscale=2)
REQUEST = GenerationRequest(
    "nano", "the camera moves closer", width=96, height=64, num_frames=16, fps=8, num_inference_steps=2,
    guidance_scale=1.0, seed=7, inputs=first_image("input.png"), finish=ALL,
)  # fmt: skip


class Runs:
    """Runs of one engine, and the events of the last one."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.events: list[Event] = []
        self.times: list[float] = []

    def run(
        self,
        folder: Path,
        finish: Finish = ALL,
        work: Work = "generate",
        paused: Callable[[], bool] = never,
        cancelled: Callable[[], bool] = never,
        plan: Plan = PLAN,
        **more: Any,
    ) -> Path:
        folder.mkdir(exist_ok=True)
        if not (folder / "input.png").exists():
            Image.open(photograph()).convert("RGB").save(folder / "input.png")
        self.events, self.times = [], []

        def emit(event: Event) -> None:
            self.events.append(event)
            self.times.append(time.perf_counter())

        return self.engine.run(
            dataclasses.replace(REQUEST, finish=finish, **more), plan, entry=ENTRY, job_folder=folder,
            emit=emit, cancelled=cancelled, orders=Orders(work=work, paused=paused),
        )  # fmt: skip

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def written(self) -> int:
        """The frames written so far."""
        return len([event for event in self.of(StepFinished) if event.phase == "decode"])


@pytest.fixture(scope="module")
def runs() -> Runs:
    return Runs()


@pytest.fixture(scope="module")
def whole(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that nothing came between."""
    return runs.run(tmp_path_factory.mktemp("whole"))


def test_a_finished_video_is_what_was_asked_for_and_says_what_was_changed(runs: Runs, tmp_path: Path) -> None:
    video = runs.run(tmp_path / "job")
    info, told = probe_video(video), read_metadata(video)
    assert (info.width, info.height, info.fps, info.frames) == (192, 128, 16, 31)
    assert [event.frames for event in runs.of(Done)] == [31]
    assert GenerationRequest.from_json(told["request"]).finish == ALL
    assert list(told["finishing"]) == ["deflicker", "match_colours", "interpolate", "upscale"]
    assert len(told["finishing"]["deflicker"]["lightness_added"]) == 16
    assert told["finishing"]["interpolate"]["frames_made"] == 15
    assert (runs.written, runs.of(StepFinished)[-1].total) == (31, 31)
    # Its time is no part of decoding's, which is held against what was foretold.
    phases = {event.phase: event.seconds for event in runs.of(PhaseFinished)}
    assert phases["finish"] > 0
    begun, ended = (
        next(when for when, event in zip(runs.times, runs.events, strict=True) if event in of_decoding)
        for of_decoding in (runs.of(PhaseStarted)[-1:], runs.of(PhaseFinished)[-1:])
    )
    assert phases["decode"] + phases["finish"] < ended - begun + 0.01
    assert "finish" not in {event.phase for event in runs.of(PhaseStarted)}


@pytest.mark.parametrize("frames", [0, 5])
def test_laid_down_in_mid_finishing_it_goes_on_without_a_new_step(
    runs: Runs, tmp_path: Path, whole: Path, frames: int
) -> None:
    """The latents are on the disk by then; what was not written is made anew and comes out the same. Before the first
    frame is written the stages hold those that they look ahead."""
    taken = 0

    def paused() -> bool:
        nonlocal taken
        taken += runs.of(PhaseStarted)[-1].phase == "decode"
        return taken > 3 and runs.written >= frames

    with pytest.raises(GenerationPaused):
        runs.run(tmp_path / "job", paused=paused)
    assert runs.written == frames
    assert not (tmp_path / "job" / "video.mp4").exists()
    video = runs.run(tmp_path / "job")
    assert [event.step for event in runs.of(Resumed)] == [2]
    assert [event for event in runs.of(StepFinished) if event.phase == "denoise"] == []
    assert shown(video) == shown(whole)
    assert read_metadata(video) == read_metadata(whole)


def test_cancelled_in_mid_finishing_it_keeps_what_plays(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(GenerationCancelled):
        runs.run(tmp_path / "job", cancelled=lambda: runs.written >= 9)
    assert runs.written == 9
    left = partial_path(tmp_path / "job" / "video.mp4")
    assert probe_video(left).width == 192
    assert "finishing" not in read_metadata(left)  # it was not finished


def test_a_card_holds_no_more_for_it(runs: Runs, tmp_path: Path) -> None:
    """To the byte: frames that wait are on the host."""
    peaks = []
    for finish in (AS_DECODED, ALL):
        runs.run(tmp_path / str(len(peaks)), finish, plan=Plan(device="simulated", memory_cap_bytes=2**30))
        peaks.append(max(one.peak_allocated_bytes for one in runs.of(MemorySampled) if one.phase == "decode"))
    assert peaks[0] == peaks[1] > 0


def test_another_finish_and_none_take_no_step(runs: Runs, tmp_path: Path, whole: Path) -> None:
    """Finished and then undone it is, frame for frame, what it would have been."""
    plain = runs.run(tmp_path / "plain", AS_DECODED)
    assert "finishing" not in read_metadata(plain)
    assert "finish" not in {event.phase for event in runs.of(PhaseFinished)}
    before = shown(plain)
    finished = runs.run(tmp_path / "plain", ALL, work="decode")
    assert [event for event in runs.of(StepFinished) if event.phase == "denoise"] == []
    assert shown(finished) == shown(whole)
    assert shown(runs.run(tmp_path / "plain", AS_DECODED, work="decode")) == before
    # A request that differs in that alone goes on from the same latents.
    runs.run(tmp_path / "plain", Finish(upscale=2))
    assert [event.step for event in runs.of(Resumed)] == [2]


def test_the_photograph_is_what_colours_are_matched_to(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the video shows it; what is to move is left out."""
    given: list[tuple] = []

    class Seen(Finishing):
        def __init__(self, *more: Any) -> None:
            given.append(more)
            super().__init__(*more)

    monkeypatch.setattr(run, "Finishing", Seen)
    painted = Image.new("L", (96, 64))
    painted.paste(255, (0, 0, 48, 64))
    asked = Finish(match_colours=True)
    runs.run(tmp_path / "job", asked)
    runs.run(tmp_path / "job", asked, region=region.written(painted))
    (plain, photograph, still), (_, _, masked) = given
    assert (plain, still) == (asked, None)
    picture = Image.open(tmp_path / "job" / "input.png")
    assert np.array_equal(photograph, np.asarray(fit_picture(picture, 96, 64, "crop")))
    assert masked[:, masked.shape[1] * 6 // 10 :].all()
    assert not masked[:, : masked.shape[1] * 3 // 10].any()


def test_from_the_command_line_to_the_video_and_back(tmp_path: Path) -> None:
    words = generate_words(tmp_path, "--frames", "9", "--deflicker", "--interpolate", "4", "--upscale", "2")
    made = i2v(tmp_path, *words)
    assert made.returncode == 0, made.stderr
    video = Path(made.stdout.strip())
    info = probe_video(video)
    assert (info.width, info.height, info.frames, info.fps) == (128, 128, 33, 96)
    again = i2v(
        tmp_path, "redecode", video.parent.name, "--no-deflicker", "--interpolate", "1", "--upscale", "1",
        "--out", str(tmp_path / "outputs"), "--models", str(tmp_path / "models"), "--cpu",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    undone = Path(again.stdout.strip())
    info = probe_video(undone)
    assert (info.width, info.height, info.frames, info.fps) == (64, 64, 9, 24)
    assert "finishing" not in read_metadata(undone)
