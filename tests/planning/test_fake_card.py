"""Every family's phases on a card that is not there: fake tensors of another device than the processor. What would fail
on a card, or wait for it, is seen here without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from i2v.families.base import Inputs
from i2v.families.nano import model as nano_model
from i2v.families.nano import splat
from i2v.families.phases import Phases
from i2v.memory.card import Card, MemoryReading
from i2v.memory.chunking import MOST_ROWS, sampled_chunks
from i2v.memory.storages import tensors_in
from i2v.plan import Plan, everywhere
from tests.planning.support import job, runner

ELSEWHERE = torch.device("lazy", 0)  # a build of torch without CUDA knows no tensors of "cuda", not even fake ones
WHOLE = Plan(device="cuda", precision="float16", places=everywhere("resident"), cfg="batch", decode_frames=4)
SMALL = replace(WHOLE, places=everywhere("staged"), cfg="split", chunk_frames=1, decode_frames=1)
TWO_CHUNKS = {"nano": 300, "i2vgen_xl": 50}  # latent pixels at once
PLANS = {
    "whole": WHOLE,
    "streamed": replace(SMALL, places=everywhere("streamed")),
    "chunks": SMALL,
    "float32": replace(WHOLE, precision="float32"),
    "bfloat16 from int8": replace(SMALL, precision="bfloat16", weights="int8", lossless=False),
    "float16 from float8": replace(WHOLE, weights="float8", lossless=False),
    "on the host": replace(WHOLE, encode_on_host=True, decode_on_host=True),
}


class FakeCard(Card):
    """Another device for fake tensors."""

    device = ELSEWHERE

    def _copy(self, host: Tensor) -> Tensor:
        return host.to(self.device)

    def to_host(self, tensor: Tensor) -> Tensor:
        return tensor.to("cpu")

    def read_memory(self) -> MemoryReading:
        return MemoryReading(0, 0, 0, 1, 0, 0, "cuda")

    def reset_peak(self) -> None: ...

    def release_cache(self) -> None: ...

    def synchronize(self) -> None: ...


class Watch(TorchDispatchMode):
    """What a card would not take, or wait for. torch itself refuses tensors of two devices, but for single numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.stepping = False
        self.waits: list[str] = []
        self.on_card = 0
        self.sums_in_order: list[bool] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given, made = tensors_in(args, kwargs or {}), tensors_in(result)
        self.on_card += any(one.device == ELSEWHERE for one in made)
        if self.stepping and any(one.device == ELSEWHERE for one in given):
            leaves = any(one.device.type == "cpu" for one in made)
            if leaves or func is torch.ops.aten._local_scalar_dense.default:
                self.waits.append(str(func))
        if func is torch.ops.aten.index_add_.default and given[0].device == ELSEWHERE:
            self.sums_in_order.append(torch.are_deterministic_algorithms_enabled())
        return result


@contextmanager
def closing_card(card: Card) -> Iterator[None]:
    """The model is other tests' too: nothing of it stays on `card`."""
    try:
        yield
    finally:
        card.evict_all()


@contextmanager
def steps_watched(model, watch: Watch) -> Iterator[None]:
    """While the `with` lasts, `watch` knows when a denoising step computes."""
    step = model.denoise_step

    def watched(*args):
        watch.stepping = True
        try:
            return step(*args)
        finally:
            watch.stepping = False

    model.denoise_step = watched
    try:
        yield
    finally:
        del model.denoise_step


def run(folder, family: str, plan: Plan, width: int = 48, height: int = 32, steps: int = 1) -> Watch:
    """All phases of two frames."""
    frames = 2
    plan = replace(plan, chunk_pixels=TWO_CHUNKS[family] if plan.chunk_frames else 0)
    dry = runner(family, folder, plan.precision, plan.weights)
    request, card, watch = job(width, height, frames, steps), FakeCard(), Watch()
    with (
        closing_card(card), steps_watched(dry.model, watch),
        dry._fake, card.running(), sampled_chunks(), watch,
    ):  # fmt: skip
        phases, conditioning = Phases(dry.model, card, request, plan), {}
        for _stage, made in phases.encode(Inputs({0: Image.new("RGB", (width, height))})):
            assert {one.device.type for one in made.values()} == {"cpu"}
            conditioning |= made
        with closing(phases.denoise(conditioning)) as stepping:
            for number, latents in enumerate(stepping, start=1):
                assert latents.device == ELSEWHERE
                progress = phases.progress(number, latents)
                assert progress.latents.device.type == "cpu"
        shapes = [(frame.device.type, *frame.shape) for frame in phases.decode(conditioning, progress.latents)]
    assert set(shapes) == {("cpu", height, width, 3)}
    assert watch.on_card > 300
    return watch


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("family", ["nano", "i2vgen_xl"])
def test_a_card_takes_every_phase_and_waits_in_no_step(small_models, family, name):
    """Of one step; and of the next, which has another before it, under the plan that has the fewest operations."""
    watch = run(small_models[family], family, PLANS[name], steps=2 if name == "whole" else 1)
    assert watch.waits == []
    assert all(watch.sums_in_order)


@pytest.mark.parametrize("cfg", ["split", "batch"])
def test_a_card_gets_no_more_rows_of_attention_than_its_grid_has(small_models, monkeypatch, cfg):
    """At a size where a whole step would have 65,536 of them, or twice as many."""
    rows, attend = set(), functional.scaled_dot_product_attention

    def attended(query, *args, **kwargs):
        rows.add(query.shape[0])
        return attend(query, *args, **kwargs)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", attended)
    run(small_models["i2vgen_xl"], "i2vgen_xl", replace(WHOLE, cfg=cfg), 1024, 1024)
    assert max(rows) == MOST_ROWS


def test_what_a_card_would_not_take_is_seen(small_models, monkeypatch):
    """The watch can fail: a tensor left on the host, a number asked of the card, sums in any order."""
    folder = small_models["nano"]
    monkeypatch.setattr(FakeCard, "place", lambda card, module: None)
    with pytest.raises(RuntimeError, match="same device"):
        run(folder, "nano", WHOLE)
    monkeypatch.undo()
    guide = nano_model.guide
    monkeypatch.setattr(nano_model, "guide", lambda *args, **more: guide(*args, **more).cpu().to(ELSEWHERE))
    monkeypatch.setattr(splat, "_in_order", lambda device: nullcontext())
    watch = run(folder, "nano", WHOLE)
    assert len(watch.waits) == 1
    assert set(watch.sums_in_order) == {False}
