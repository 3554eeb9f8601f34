"""A small card made of host memory: what fits with offload and chunks, and does not without, really does both."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path

import pytest
import torch
from torch import nn

from i2v.engine.cancel import GenerationCancelled
from i2v.engine.checkpoint import load_latents
from i2v.engine.engine import Engine
from i2v.engine.orders import Orders
from i2v.events import Event, MemorySampled, Noted, StepFinished
from i2v.memory.card import HostCard, SimulatedCard
from i2v.messages import UserError
from i2v.models.catalogue import ModelEntry
from i2v.plan import Plan
from i2v.request import GenerationRequest

MIB = 2**20
SMALL = Plan(device="simulated", offload="staged", cfg="split", chunk_frames=1, chunk_pixels=48, decode_frames=1)
LARGE = Plan(device="simulated", offload="resident", cfg="batch", chunk_frames=0, chunk_pixels=0, decode_frames=0)


@pytest.fixture
def job(request_: GenerationRequest) -> GenerationRequest:
    return dataclasses.replace(request_, width=96, height=96, num_frames=4, num_inference_steps=2)


@pytest.fixture
def run(checkpoint: Path, photo, tmp_path: Path):
    photo.save(tmp_path / "input.png")
    entry = ModelEntry("small", "i2vgen_xl", "small", checkpoint, None, True, False, 0, None)

    def run(request, plan, *, engine=None, cancelled=lambda: False) -> list[Event]:
        """From the beginning, and without healing: these tests are about one plan."""
        events: list[Event] = []
        run.events = events
        for kept in tmp_path.glob("*.safetensors"):
            kept.unlink()
        orders = Orders(heals=False)
        (engine or Engine()).run(
            request, plan, entry=entry, job_folder=tmp_path, emit=events.append, cancelled=cancelled, orders=orders
        )
        return events

    run.folder = tmp_path
    return run


def _capped(plan: Plan, mib: float) -> Plan:
    return dataclasses.replace(plan, memory_cap_bytes=int(mib * MIB))


def _peak(events: list[Event]) -> int:
    return max(event.peak_allocated_bytes for event in events if isinstance(event, MemorySampled))


def test_a_job_fits_with_offload_and_chunks_and_does_not_without(run, job):
    small = _peak(run(job, _capped(SMALL, 1024)))
    large = _peak(run(job, _capped(LARGE, 1024)))
    assert small < 0.6 * large
    between = (small + large) / 2 / MIB
    run(job, _capped(SMALL, between))
    with pytest.raises(torch.OutOfMemoryError, match="Simulated card"):
        run(job, _capped(LARGE, between))


@pytest.mark.parametrize(
    "change", [{"chunk_frames": 0, "chunk_pixels": 0}, {"cfg": "batch"}, {"offload": "resident"}], ids=str
)
def test_every_part_of_the_plan_lowers_the_peak(run, job, change):
    assert _peak(run(job, _capped(dataclasses.replace(SMALL, **change), 1024))) > _peak(run(job, _capped(SMALL, 1024)))


def test_the_card_does_not_change_the_picture(run, job):
    run(job, _capped(SMALL, 1024))
    simulated = load_latents(run.folder / "latents.safetensors")
    run(job, dataclasses.replace(SMALL, device="cpu"))
    host = load_latents(run.folder / "latents.safetensors")
    # Copied weights lie otherwise in memory than mapped ones, so the last bit of a sum may differ.
    assert ((simulated - host).norm() / host.norm()).item() < 1e-5


def test_decoding_holds_no_clip(run, job):
    """Three times the frames, the same peak: each frame goes to the writer before the next is decoded."""

    def peak(num_frames: int) -> int:
        events = run(dataclasses.replace(job, num_frames=num_frames, num_inference_steps=1), _capped(SMALL, 1024))
        return max(e.peak_allocated_bytes for e in events if isinstance(e, MemorySampled) and e.phase == "decode")

    assert peak(12) < 1.05 * peak(4)


class _Watched(SimulatedCard):
    """Remembers which sets of modules stood on the card together."""

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__(capacity_bytes)
        self.together: list[list[str]] = []

    def place(self, module: nn.Module) -> None:
        super().place(module)
        self.together.append(sorted(type(m).__name__ for m in self.placed))


def test_a_staged_plan_never_holds_two_models(run, job):
    card = _Watched(1024 * MIB)
    run(job, _capped(SMALL, 1024), engine=Engine(lambda plan: card))
    assert card.together == [
        ["CLIPTextModel"],
        ["CLIPVisionModelWithProjection"],
        ["AutoencoderKL"],
        ["I2VGenXLUNet"],
        ["AutoencoderKL"],
    ]


def test_everything_is_off_the_card_after_an_out_of_memory_error(run, job):
    card = SimulatedCard(2 * MIB)
    with pytest.raises(torch.OutOfMemoryError):
        run(job, LARGE, engine=Engine(lambda plan: card))
    gc.collect()
    assert card.placed == frozenset()
    assert card.read_memory().allocated_bytes == 0


def test_weights_are_unharmed_after_an_out_of_memory_error(run, job):
    engine = Engine()
    run(job, SMALL_CPU, engine=engine)
    before = load_latents(run.folder / "latents.safetensors")
    with pytest.raises(torch.OutOfMemoryError):
        run(job, _capped(LARGE, 2), engine=engine)
    run(job, SMALL_CPU, engine=engine)
    assert torch.equal(before, load_latents(run.folder / "latents.safetensors"))


SMALL_CPU = dataclasses.replace(SMALL, device="cpu")


def test_memory_samples_are_the_cards(run, job):
    samples = [e for e in run(job, _capped(SMALL, 1024)) if isinstance(e, MemorySampled)]
    assert {e.source for e in samples} == {"simulated"}
    assert all(0 < e.allocated_bytes <= e.reserved_bytes <= e.device_total_bytes == 1024 * MIB for e in samples)


def test_a_full_card_gives_advice_with_the_numbers(run, job):
    job = dataclasses.replace(job, num_inference_steps=5)
    peak = _peak(run(job, _capped(LARGE, 1024))) / MIB
    notes = [e for e in run(job, _capped(LARGE, peak * 1.05)) if isinstance(e, Noted)]
    assert [n.message.id for n in notes] == ["engine.memory_high"]
    assert "96x96" in notes[0].message.render()


def test_cancel_stops_within_one_step_and_frees_the_card(run, job):
    job = dataclasses.replace(job, num_inference_steps=10)
    card = SimulatedCard(1024 * MIB)

    def cancelled() -> bool:
        return any(isinstance(e, StepFinished) and e.index == 2 for e in run.events)

    with pytest.raises(GenerationCancelled) as stopped:
        run(job, _capped(SMALL, 1024), engine=Engine(lambda plan: card), cancelled=cancelled)
    assert stopped.value.step == 2
    del stopped  # its traceback holds the run's tensors
    assert sum(isinstance(e, StepFinished) for e in run.events) == 2
    gc.collect()
    assert card.read_memory().allocated_bytes == 0
    assert not (run.folder / "video.mp4").exists()


def test_values_that_are_not_numbers_are_named(run, job, monkeypatch):
    monkeypatch.setattr(
        "i2v.families.i2vgen_xl.model.I2VGenXL._predict_noise",
        lambda self, card, conditioning, latents, *rest: torch.full_like(latents, float("nan")),
    )
    with pytest.raises(UserError) as refused:
        run(job, SMALL_CPU)
    assert refused.value.message.id == "engine.not_finite"


def test_latents_are_on_disk_before_decode(run, job, monkeypatch):
    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory in decode")

    monkeypatch.setattr("i2v.families.i2vgen_xl.model.I2VGenXL.decode", fail)
    with pytest.raises(torch.OutOfMemoryError):
        run(job, SMALL_CPU)
    assert load_latents(run.folder / "latents.safetensors").shape == (1, 4, 4, 12, 12)
    assert not list(run.folder.glob("*.mp4"))


def test_placing_is_a_copy_and_evicting_frees_it():
    card, layer = SimulatedCard(MIB), nn.Linear(64, 64)
    host = layer.weight.data_ptr()
    with card.running():
        card.place(layer)
        assert layer.weight.data_ptr() != host
        assert card.read_memory().allocated_bytes == 4 * (64 * 64 + 64)
        card.place(layer)  # twice is once
        assert card.read_memory().allocated_bytes == 4 * (64 * 64 + 64)
        card.evict(layer)
    assert layer.weight.data_ptr() == host
    assert card.read_memory().allocated_bytes == 0


def test_a_module_that_does_not_fit_is_wholly_on_the_host():
    card, layers = SimulatedCard(70_000), nn.Sequential(nn.Linear(128, 128), nn.Linear(128, 128))
    hosts = [p.data_ptr() for p in layers.parameters()]
    with card.running(), pytest.raises(torch.OutOfMemoryError):
        card.place(layers)
    assert [p.data_ptr() for p in layers.parameters()] == hosts
    assert card.placed == frozenset()
    assert card.read_memory().allocated_bytes == 0


def test_the_host_card_copies_nothing():
    card, layer = HostCard(), nn.Linear(4, 4)
    pointer = layer.weight.data_ptr()
    card.place(layer)
    tensor = torch.ones(3)
    assert layer.weight.data_ptr() == pointer
    assert card.to_card(tensor) is tensor
    assert card.read_memory().source == "process"
