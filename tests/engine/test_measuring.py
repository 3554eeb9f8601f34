"""A run measures how steady its frames are, and no fault of measuring reaches the video."""

from __future__ import annotations

from pathlib import Path

import pytest

from i2v.engine import measuring
from i2v.engine.engine import Engine
from i2v.events import Done, Event, Noted, SteadinessMeasured
from i2v.models.entry import ASSETS, ModelEntry
from i2v.plan import Plan
from i2v.request import GenerationRequest, Input
from i2v.video.picture import load_picture
from i2v.video.steadiness_files import FRAMES_CSV, REPORT, kept_steadiness, measure_video
from i2v.video.steadiness_meter import SteadinessMeter
from tests.photos import photograph
from tests.video_support import shown

FRAMES = 5
REQUEST = GenerationRequest("nano", "slow zoom in", 64, 64, FRAMES, 8, 2, 1.0, 7, inputs=(Input("image", "input.png"),))


def run(folder: Path, engine: Engine) -> list[Event]:
    """The events of a small run in `folder`."""
    folder.mkdir()
    load_picture(photograph()).save(folder / "input.png")
    entry = ModelEntry("nano", "nano", "nano", ASSETS / "nano", None, True, 0, None)
    events: list[Event] = []
    engine.run(REQUEST, Plan(), entry=entry, job_folder=folder, emit=events.append, cancelled=lambda: False)
    return events


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> tuple[Path, list[Event]]:
    folder = tmp_path_factory.mktemp("runs") / "unharmed"
    return folder, run(folder, engine)


def test_a_finished_run_has_its_report(unharmed: tuple[Path, list[Event]]) -> None:
    folder, events = unharmed
    *_, measured, done = events
    assert isinstance(done, Done)
    assert isinstance(measured, SteadinessMeasured)
    report = kept_steadiness(folder)
    assert report is not None
    assert report.summary == measured.summary
    assert (len(report.frames), report.source, report.fps) == (FRAMES, "frames", 8)
    assert len((folder / FRAMES_CSV).read_text().splitlines()) == FRAMES + 1
    coded = measure_video(folder / "video.mp4")
    for one, other in zip(report.frames, coded.frames, strict=True):
        assert one.luma == pytest.approx(other.luma, abs=0.01)


def fails(*_: object, **__: object) -> None:
    raise MemoryError("no room for a flow")


def is_full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("owner", "name", "fault", "reason"),
    [
        (SteadinessMeter, "__init__", fails, "no room for a flow"),
        (SteadinessMeter, "add", fails, "no room for a flow"),
        (SteadinessMeter, "report", fails, "no room for a flow"),
        (measuring, "keep_steadiness", is_full, "No space left on device"),
    ],
)
def test_a_fault_of_measuring_costs_the_report_alone(
    tmp_path: Path,
    engine: Engine,
    unharmed: tuple[Path, list[Event]],
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    fault: object,
    reason: str,
) -> None:
    monkeypatch.setattr(owner, name, fault)
    events = run(tmp_path / "harmed", engine)
    *_, told, done = events
    assert isinstance(done, Done)
    assert isinstance(told, Noted)
    assert told.message.id == "engine.steadiness_not_measured"
    assert reason in told.message.render()
    assert not (tmp_path / "harmed" / REPORT).exists()
    assert shown(tmp_path / "harmed" / "video.mp4") == shown(unharmed[0] / "video.mp4")
