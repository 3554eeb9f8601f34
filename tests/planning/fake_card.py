"""A card that is not there: fake tensors of another device than the processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from i2v.dryrun.runner import DryRunner, blank_inputs
from i2v.families.phases import Phases
from i2v.memory.card import Card, MemoryReading
from i2v.memory.chunking import sampled_chunks
from i2v.memory.storages import tensors_in
from i2v.plan import Plan
from i2v.request import GenerationRequest

ELSEWHERE = torch.device("lazy", 0)  # a build of torch without CUDA knows no tensors of "cuda", not even fake ones


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


def watched(dry: DryRunner, request: GenerationRequest, plan: Plan) -> Watch:
    """All phases of `request`, and what of them a card would not take or wait for."""
    card, watch = FakeCard(), Watch()
    with (
        closing_card(card), steps_watched(dry.model, watch),
        dry._fake, card.running(), sampled_chunks(), watch,
    ):  # fmt: skip
        phases, conditioning = Phases(dry.model, card, request, plan), {}
        for _stage, made in phases.encode(blank_inputs(request)):
            assert {one.device.type for one in made.values()} == {"cpu"}
            conditioning |= made
        with closing(phases.denoise(conditioning)) as stepping:
            for number, latents in enumerate(stepping, start=1):
                longer = getattr(dry.model, "longer", None)
                is_long = longer is not None and longer.is_long(request.num_frames)
                assert latents.device.type == ("cpu" if is_long else ELSEWHERE.type)
                progress = phases.progress(number, latents)
                assert progress.latents.device.type == "cpu"
        shapes = [(frame.device.type, *frame.shape) for frame in phases.decode(conditioning, progress.latents)]
    assert set(shapes) == {("cpu", request.height, request.width, 3)}
    assert watch.on_card > 300
    return watch
