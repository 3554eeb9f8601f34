"""A small card made of host memory: what fits with offload and chunks, and does not without, really does both."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path

import pytest
import torch
from torch import nn

from i2v.engine.cancel import GenerationCancelled
from i2v.engine.engine import Engine
from i2v.engine.orders import Orders
from i2v.events import Event, MemorySampled, Noted, StepFinished
from i2v.memory.card import HostCard, SimulatedCard, open_card
from i2v.messages import UserError
from i2v.models.catalogue import ModelEntry
from i2v.plan import Plan, everywhere
from i2v.request import GenerationRequest
from tests.latents import load_latents

MIB = 2**20
SMALL = Plan(
    device="simulated", places=everywhere("staged"), cfg="split", chunk_frames=1, chunk_pixels=48, decode_frames=1
)
LARGE = Plan(
    device="simulated", places=everywhere("resident"), cfg="batch", chunk_frames=0, chunk_pixels=0, decode_frames=0
)
SMALL_CPU = dataclasses.replace(SMALL, device="cpu")


class _Watched(SimulatedCard):
    """Remembers which sets of modules stood on the card together."""

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__(capacity_bytes)
        self.together: list[list[str]] = []

    def place(self, module: nn.Module) -> None:
        super().place(module)
        self.together.append(sorted(type(m).__name__ for m in self.placed))


@pytest.fixture(scope="module")
def job(request_: GenerationRequest) -> GenerationRequest:
    return dataclasses.replace(request_, width=96, height=96, num_frames=4, num_inference_steps=2)


@pytest.fixture(scope="module")
def run(checkpoint: Path, photo, tmp_path_factory: pytest.TempPathFactory):
    """`run(request, plan)`: from the beginning, in a folder of its own, by one engine, and without healing: these tests
    are about one plan. `run.folder` and `run.events` are the last run's, also where it failed."""
    entry = ModelEntry("small", "i2vgen_xl", "small", checkpoint, None, True, 0, None)
    cards: list[SimulatedCard] = []
    engine = Engine(lambda plan: cards.pop() if cards else open_card(plan))

    def run(request, plan, *, card=None, cancelled=lambda: False) -> list[Event]:
        if card is not None:
            cards.append(card)
        run.folder, run.events = tmp_path_factory.mktemp("job"), []
        photo.save(run.folder / "input.png")
        emit, orders = run.events.append, Orders(heals=False)
        engine.run(
            request, plan, entry=entry, job_folder=run.folder, emit=emit, cancelled=cancelled, orders=orders
        )  # fmt: skip
        return run.events

    return run


@dataclasses.dataclass(frozen=True)
class Ran:
    """A run on a card of 1 GiB: its events, its latents, and which modules stood on the card together."""

    events: list[Event]
    latents: torch.Tensor
    together: list[list[str]]

    @property
    def peak(self) -> int:
        return _peak(self.events)


def _ran(run, job: GenerationRequest, plan: Plan) -> Ran:
    card = _Watched(1024 * MIB)
    return Ran(run(job, plan, card=card), load_latents(run.folder / "latents.safetensors"), card.together)


@pytest.fixture(scope="module")
def small(run, job) -> Ran:
    return _ran(run, job, SMALL)


@pytest.fixture(scope="module")
def large(run, job) -> Ran:
    return _ran(run, job, LARGE)


@pytest.fixture(scope="module")
def host(run, job) -> torch.Tensor:
    """The latents that the processor makes of the same."""
    run(job, SMALL_CPU)
    return load_latents(run.folder / "latents.safetensors")


def _capped(plan: Plan, mib: float) -> Plan:
    return dataclasses.replace(plan, memory_cap_bytes=int(mib * MIB))


def _peak(events: list[Event], phase: str | None = None) -> int:
    samples = (event for event in events if isinstance(event, MemorySampled))
    return max(sample.peak_allocated_bytes for sample in samples if phase in (None, sample.phase))


def test_a_job_fits_with_offload_and_chunks_and_does_not_without(run, job, small, large):
    assert small.peak < 0.6 * large.peak
    between = (small.peak + large.peak) / 2 / MIB
    run(job, _capped(SMALL, between))
    with pytest.raises(torch.OutOfMemoryError, match="Simulated card"):
        run(job, _capped(LARGE, between))


@pytest.mark.parametrize(
    "change", [{"chunk_frames": 0, "chunk_pixels": 0}, {"cfg": "batch"}, {"places": everywhere("resident")}], ids=str
)
def test_every_part_of_the_plan_lowers_the_peak(run, job, small, change):
    one_step = dataclasses.replace(job, num_inference_steps=1)
    assert _peak(run(one_step, _capped(dataclasses.replace(SMALL, **change), 1024))) > small.peak


def test_the_card_does_not_change_the_picture(small, host):
    # Copied weights lie otherwise in memory than mapped ones, so the last bit of a sum may differ.
    assert ((small.latents - host).norm() / host.norm()).item() < 1e-5


def test_decoding_holds_no_clip(run, job, small):
    """Three times the frames, the same peak: each frame goes to the writer before the next is decoded."""
    longer = dataclasses.replace(job, num_frames=3 * job.num_frames, num_inference_steps=1)
    assert _peak(run(longer, _capped(SMALL, 1024)), "decode") < 1.05 * _peak(small.events, "decode")


def test_a_staged_plan_never_holds_two_models(small):
    assert small.together == [
        ["CLIPTextModel"],
        ["CLIPVisionModelWithProjection"],
        ["AutoencoderKL"],
        ["I2VGenXLUNet"],
        ["AutoencoderKL"],
    ]


def test_everything_is_off_the_card_after_an_out_of_memory_error(run, job):
    card = SimulatedCard(2 * MIB)
    with pytest.raises(torch.OutOfMemoryError):
        run(job, LARGE, card=card)
    gc.collect()
    assert card.placed == frozenset()
    assert card.read_memory().allocated_bytes == 0


def test_weights_are_unharmed_after_an_out_of_memory_error(run, job, host):
    with pytest.raises(torch.OutOfMemoryError):
        run(job, _capped(LARGE, 2))
    run(job, SMALL_CPU)
    assert torch.equal(host, load_latents(run.folder / "latents.safetensors"))


def test_memory_samples_are_the_cards(small):
    samples = [e for e in small.events if isinstance(e, MemorySampled)]
    assert {e.source for e in samples} == {"simulated"}
    assert all(0 < e.allocated_bytes <= e.reserved_bytes <= e.device_total_bytes == 1024 * MIB for e in samples)


def test_a_full_card_gives_advice_with_the_numbers(run, job, large):
    job = dataclasses.replace(job, num_inference_steps=5)
    notes = [e for e in run(job, _capped(LARGE, large.peak / MIB * 1.05)) if isinstance(e, Noted)]
    assert [n.message.id for n in notes] == ["engine.memory_high"]
    assert "96x96" in notes[0].message.render()


def test_cancel_stops_within_one_step_and_frees_the_card(run, job):
    job = dataclasses.replace(job, num_inference_steps=10)
    card = SimulatedCard(1024 * MIB)

    def cancelled() -> bool:
        return any(isinstance(e, StepFinished) and e.index == 2 for e in run.events)

    with pytest.raises(GenerationCancelled) as stopped:
        run(job, SMALL, card=card, cancelled=cancelled)
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
