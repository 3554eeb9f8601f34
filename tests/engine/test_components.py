"""Components are read when they are needed: no sooner, none that a run does not need, and where RAM is short none for
longer than its phase."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from i2v.engine.checkpoint import LATENTS
from i2v.engine.engine import Engine
from i2v.engine.orders import Orders
from i2v.events import Event, Noted
from i2v.families.i2vgen_xl import model as i2vgen_xl
from i2v.memory.card import SimulatedCard
from i2v.messages import UserError
from i2v.models.entry import ModelEntry
from i2v.plan import Plan, everywhere
from i2v.units import GIB
from tests.latents import load_latents

ALL = {"text_encoder", "image_encoder", "unet", "vae"}
STAGED = Plan(device="simulated", places=everywhere("staged"), memory_cap_bytes=GIB)


class Watched:
    """An engine whose readings are noted: which components, and how many were on the host at once."""

    def __init__(self, folder: Path, photo, jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = Engine(lambda plan: SimulatedCard(GIB))
        self.entry = ModelEntry("small", "i2vgen_xl", "small", folder, None, True, 0, None)
        self.photo, self.jobs = photo, jobs
        self.read: list[str] = []
        self.most = 0
        self.living: list[weakref.ref[nn.Module]] = []
        self.fails_at: str | None = None
        read_whole = i2vgen_xl.read_half

        def read(network: type, folder: Path, precision: torch.dtype) -> nn.Module:
            if folder.name == self.fails_at:
                self.fails_at = None
                raise MemoryError
            self.read.append(folder.name)
            gc.collect()
            before = [one for one in self.living if one() is not None]
            module = read_whole(network, folder, precision)
            self.living = [*before, weakref.ref(module)]
            self.most = max(self.most, len(self.living))
            return module

        monkeypatch.setattr(i2vgen_xl, "read_half", read)

    def run(self, request, plan: Plan, name: str = "job", *, photo: bool = True, **orders) -> list[Event]:
        folder = self.jobs / name
        folder.mkdir(exist_ok=True)
        if photo:
            self.photo.save(folder / "input.png")
        events: list[Event] = []
        self.read.clear()
        self.engine.run(
            request, plan, entry=self.entry, job_folder=folder, emit=events.append, cancelled=lambda: False,
            orders=Orders(**orders),
        )  # fmt: skip
        return events

    def latents(self, name: str = "job") -> torch.Tensor:
        return load_latents(self.jobs / name / LATENTS)


@pytest.fixture
def watched(light_checkpoint: Path, photo, tmp_path: Path, monkeypatch) -> Watched:
    return Watched(light_checkpoint, photo, tmp_path, monkeypatch)


@pytest.fixture
def job(request_):
    return replace(request_, width=64, height=64, num_frames=3, num_inference_steps=2)


@pytest.mark.parametrize("residency", ["staged", "streamed"])
def test_where_ram_is_short_one_component_at_a_time_is_in_it(watched, job, residency):
    watched.run(job, STAGED, "kept")
    assert set(watched.read) == ALL
    assert watched.most == len(ALL)
    watched.most = 0  # what was kept for a next job leaves first
    watched.run(job, replace(STAGED, places=everywhere(residency), keep_loaded=False), "sparing")
    assert watched.read == ["text_encoder", "image_encoder", "vae", "unet", "vae"]
    assert watched.most == 1
    assert torch.equal(watched.latents("sparing"), watched.latents("kept"))


def test_what_was_encoded_before_needs_no_encoder(watched, job, tmp_path):
    watched.run(job, STAGED, "first", cache=tmp_path / "cache")
    watched.engine.release()
    watched.run(replace(job, guidance_scale=3.0), STAGED, "second", cache=tmp_path / "cache")
    assert set(watched.read) == {"unet", "vae"}
    watched.engine.release()
    watched.run(replace(job, prompt="snow falls"), STAGED, "third", cache=tmp_path / "cache")
    assert set(watched.read) == {"text_encoder", "unet", "vae"}


def test_nothing_is_read_again_that_is_there(watched, job):
    watched.run(job, STAGED, "first")
    watched.run(replace(job, seed=8), STAGED, "second")
    assert watched.read == []


def test_only_the_decoder_is_read_for_decoding(watched, job):
    watched.run(job, STAGED)
    watched.engine.release()
    for plan in (STAGED, replace(STAGED, places=everywhere("resident"))):
        watched.run(job, plan, work="decode")
        assert watched.read == ["vae"]
        watched.engine.release()


def test_decoding_again_needs_no_photograph(watched, job):
    watched.run(job, STAGED)
    (watched.jobs / "job" / "input.png").unlink()
    watched.run(job, STAGED, photo=False, work="decode")
    assert (watched.jobs / "job" / "video.mp4").is_file()
    (watched.jobs / "job" / LATENTS).unlink()
    with pytest.raises(UserError) as refused:
        watched.run(job, STAGED, photo=False)
    assert "input.png" in str(refused.value.message.params)


@pytest.mark.parametrize("name", sorted(ALL))
def test_memory_that_runs_out_while_loading_is_tried_once_more(watched, job, name):
    watched.fails_at = name
    events = watched.run(job, STAGED)
    told = [event.message.id for event in events if isinstance(event, Noted)]
    assert told.count("engine.load_again") == 1
    assert set(watched.read) == ALL


def test_without_keeping_a_reading_that_fails_heals_or_ends_the_run_and_the_next_goes_on(watched, job):
    watched.run(job, STAGED, "kept")
    watched.engine.release()
    watched.fails_at = "unet"
    sparing = replace(STAGED, keep_loaded=False)
    with pytest.raises(MemoryError):
        watched.run(job, sparing, heals=False)
    watched.run(job, sparing)
    assert torch.equal(watched.latents(), watched.latents("kept"))


def test_what_a_run_does_not_need_leaves_before_another_component_comes(watched, job, tmp_path, photo):
    """Nothing leaves for a run that needs nothing more."""
    cache = tmp_path / "cache"
    watched.run(job, STAGED, "pictures", cache=cache)
    watched.engine.release()
    watched.run(replace(job, prompt="snow falls"), STAGED, "words", cache=cache)
    assert set(watched.read) == {"text_encoder", "unet", "vae"}
    watched.run(job, STAGED, "nothing more", cache=cache)
    assert watched.read == []
    watched.most, watched.photo = 0, photo.rotate(180)
    watched.run(job, STAGED, "another picture", cache=cache)
    assert watched.read == ["image_encoder"]
    assert watched.most == len({"image_encoder", "unet", "vae"})
