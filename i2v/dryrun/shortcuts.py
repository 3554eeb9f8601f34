"""Identical layers run once in a dry run: the second time, what the first one held and did is replayed.

A layer on fake tensors depends on its structure and on the shapes that go in, so the same structure and shapes give
the same peak, the same work and outputs of the same shapes. A test holds that a dry run with shortcuts equals one
without to the byte.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from diffusers import I2VGenXLUNet, UNet3DConditionModel, UNetSpatioTemporalConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from i2v.dryrun.blocks import BlockWatch, Passed
from i2v.dryrun.operations import NewTensor
from i2v.dryrun.work_tracker import Measured, WorkTracker
from i2v.families.anchors import sharing
from i2v.memory.chunking import Forward, repeats, sampled_chunks
from i2v.memory.step_cache import remembers

NETWORKS = (I2VGenXLUNet, UNet3DConditionModel, UNetSpatioTemporalConditionModel)
LAYERS = (
    *NETWORKS,
    *(Transformer2DModel, TransformerTemporalModel, TemporalConvLayer),
    *(BasicTransformerBlock, ResnetBlock2D, CLIPEncoderLayer),
)
Methods = tuple[tuple[type[nn.Module], str], ...]


@dataclass(frozen=True)
class _Output:
    """A tensor as a layer returned it: which of the storages it made, and where it begins in it."""

    storage: int
    offset: int
    layout: NewTensor


@dataclass(frozen=True)
class _Given:
    """A tensor that a layer was given, changed in place and gave back: which of those it was given."""

    number: int


@dataclass(frozen=True)
class _Seen:
    """One layer on one set of shapes: what it held and did, its outputs: their storages' sizes and numbers, and the
    blocks in it that were passed."""

    measured: Measured
    storages: tuple[int, ...]
    numbers: tuple[int | None, ...]
    leaves: tuple[Any, ...]
    spec: Any
    passed: Passed
    mode: FakeTensorMode | None

    def replay(self, tracker: WorkTracker, watch: BlockWatch, given: Any) -> Any:
        with watch.repeating(self.passed):
            tracker.account(self.measured, self.measured.work * repeats(), self.numbers)
        if self.apart:
            return tree_unflatten([tracker.make(leaf.layout, self.mode) for leaf in self.leaves], self.spec)
        made = [torch.empty(nbytes, dtype=torch.uint8) for nbytes in self.storages]
        before = tree_leaves(given)
        return tree_unflatten([_tensor(leaf, made, before) for leaf in self.leaves], self.spec)

    @cached_property
    def apart(self) -> bool:
        """Whether its outputs are tensors alone, each all of a storage of its own, as nearly every layer's are."""
        return len(self.leaves) == len(self.storages) and all(
            isinstance(leaf, _Output) and leaf.offset == 0 and leaf.layout.span_bytes == self.storages[leaf.storage]
            for leaf in self.leaves
        )


class Shortcuts:
    """What has been seen so far; good for dry runs of one precision, so a search over plans shares it. `repeated` are a
    family's own methods that are called alike again and again, beside the forwards of `LAYERS`."""

    def __init__(self, repeated: Methods = ()) -> None:
        self._methods: Methods = (*((layer, "forward") for layer in LAYERS), *repeated)
        # Whose inside depends on how they are chunked.
        self._chunked = {*((network, "forward") for network in NETWORKS), *repeated}
        self._seen: dict[Any, _Seen | None] = {}
        self._structures: dict[nn.Module, Any] = {}

    @contextlib.contextmanager
    def taken(self, tracker: WorkTracker, watch: BlockWatch, sizes: tuple[int, ...]) -> Iterator[None]:
        """Inside this, these methods, and all that runs in chunks of `sizes`, take shortcuts on the account of
        `tracker` and `watch`."""

        def around(module: nn.Module, chunked: Forward) -> Forward:
            def forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
                return chunked(*args, **kwargs)

            return partial(self._shortened(forward, tracker, watch, sizes), module)

        methods = [(layer, name, getattr(layer, name)) for layer, name in self._methods]
        try:
            for layer, name, method in methods:
                inside = sizes if (layer, name) in self._chunked else None
                setattr(layer, name, self._shortened(method, tracker, watch, inside))
            with sampled_chunks(around):
                yield
        finally:
            for layer, name, method in methods:
                setattr(layer, name, method)

    def _shortened(
        self, forward: Forward, tracker: WorkTracker, watch: BlockWatch, sizes: tuple[int, ...] | None
    ) -> Forward:
        def run(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if remembers(module):
                return forward(module, *args, **kwargs)
            key = (forward.__name__, self._structure(module), sizes, sharing(), tuple(kwargs))
            key += tuple(map(_described, tree_leaves((args, kwargs))))
            seen = self._seen.get(key)
            if seen is not None:
                return seen.replay(tracker, watch, (args, kwargs))
            with tracker.measuring() as measured, watch.recording(module) as passed:
                result = forward(module, *args, **kwargs)
            self._seen[key] = _remember(result, (args, kwargs), measured, passed, tracker)
            return result

        return run

    def _structure(self, module: nn.Module) -> Any:
        """All that sets one module apart from another of its class, without its weights' values."""
        if module not in self._structures:
            self._structures[module] = tuple(_one_structure(part) for part in module.modules())
        return self._structures[module]


def _one_structure(part: nn.Module) -> Any:
    plain = tuple((name, value) for name, value in vars(part).items() if isinstance(value, int | float | str | tuple))
    weights = tuple((name, tuple(p.shape), p.dtype) for name, p in part.named_parameters(recurse=False))
    return type(part), plain, weights


def _described(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return tuple(leaf.shape), leaf.stride(), leaf.dtype
    return leaf if isinstance(leaf, int | float | str | bool | None) else type(leaf)


def _remember(result: Any, given: Any, measured: Measured, passed: Passed, tracker: WorkTracker) -> _Seen | None:
    """The call as it can be replayed, or None where a replay would not be the same."""
    before = tree_leaves(given)
    outside = {leaf.untyped_storage()._cdata for leaf in before if isinstance(leaf, Tensor)}
    leaves, spec = tree_flatten(result)
    numbers: dict[int, int] = {}
    sizes: list[int] = []
    allocated: list[int | None] = []
    kept: list[Any] = []
    mode = None
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            kept.append(leaf)
            continue
        if (same := next((number for number, one in enumerate(before) if one is leaf), None)) is not None:
            kept.append(_Given(same))
            continue
        storage = leaf.untyped_storage()
        if storage._cdata in outside:
            return None
        if storage._cdata not in numbers:
            numbers[storage._cdata] = len(sizes)
            sizes.append(storage.nbytes())
            allocated.append(tracker.number_of(storage))
        number = numbers[storage._cdata]
        mode = leaf.fake_mode
        kept.append(_Output(number, leaf.storage_offset(), NewTensor.like(leaf)))
    if measured.left_bytes != sum(sizes):
        return None
    return _Seen(measured, tuple(sizes), tuple(allocated), tuple(kept), spec, passed, mode)


def _tensor(output: Any, storages: list[Tensor], given: list[Any]) -> Any:
    if isinstance(output, _Given):
        return given[output.number]
    if not isinstance(output, _Output):
        return output
    lies = output.layout
    return storages[output.storage].view(lies.dtype).as_strided(lies.size, lies.stride, output.offset)
