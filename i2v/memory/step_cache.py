"""A cache from step to step: where the first block of a transformer adds to its tokens nearly what it added in the last
step that was computed whole, the other blocks are left out, and what they added then is added again. Faster, and not
the picture of every step computed whole.

The rule is that of diffusers' `FirstBlockCache`, number for number (tests/engine/test_step_cache.py), and diffusers'
registry says which blocks it is for. Its hooks do not serve here: they keep tensors that blocks in chunks of tokens
overwrite (`memory.tokens`), hold two more of them than the rule needs, look at values, which a dry run has not, and
weights that stream would come for blocks that are left out.

Shapes: N tokens of width D, (B, N, D); the text's, where blocks change it too, in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from diffusers.hooks._helpers import TransformerBlockRegistry
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from i2v.memory.chunking import Forward
from i2v.messages import UserError

Streams = tuple[Tensor, ...]
"""What blocks hand on: the tokens, and the text's where they change these as well."""

_remembering: ContextVar[nn.Module | None] = ContextVar("remembering", default=None)


@dataclass
class _Kept:
    """Of one network and one pass of guidance, from the last step that was computed whole: what the first block added
    to the tokens, and what all others added to each of the streams; and what the first block gave, until the last one
    has run."""

    first: Tensor | None = None
    others: Streams = ()
    begun: Streams = ()


@dataclass
class StepCache:
    """What one run remembers. `threshold`: by what share the first block's change may differ for the others to be left
    out, 0 for never; `passes` through a network so far, and how many were `shortened`."""

    threshold: float
    passes: int = 0
    shortened: int = 0
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _network: nn.Module | None = None

    def clear(self) -> None:
        """Forget all but the counts."""
        self._kept.clear()
        self._network = None

    @contextmanager
    def used(self, network: nn.Module, blocks: Sequence[nn.Module], name: str) -> Iterator[None]:
        """For the time of one pass through `network`, which calls `blocks` one after the other; `name` tells passes of
        one step apart. To be entered where nothing more is put in the place of the blocks' forwards. Raises UserError
        for a network that this is not for."""
        if self.threshold <= 0:
            yield
            return
        if network is not self._network:  # what another one did says nothing of this one
            self.clear()
            self._network = network
        token = _remembering.set(network)
        try:
            with _Pass(self, self._kept.setdefault(name, _Kept()), blocks).over():
                yield
        finally:
            _remembering.reset(token)


def remembers(network: nn.Module) -> bool:
    """Whether what `network` does now depends on the pass before, so that no pass stands for another."""
    return _remembering.get() is network


def left_out(hidden_states: Tensor, *_others: Any, **_named: Any) -> Tensor:
    """The forward of a block that is left out, of those that hand on tokens alone."""
    return hidden_states


def both_left_out(
    hidden_states: Tensor, encoder_hidden_states: Tensor, *_others: Any, **_named: Any
) -> tuple[Tensor, Tensor]:
    """The same of a block that hands on the text's tokens too."""
    return hidden_states, encoder_hidden_states


LEFT_OUT = {1: left_out, 2: both_left_out}
"""By the number of streams."""


def needs_no_weights(block: nn.Module) -> bool:
    """Whether `block` is left out in the pass at hand."""
    return vars(block).get("forward") in LEFT_OUT.values()


def streams_of(blocks: Sequence[nn.Module]) -> int:
    """How many streams all of `blocks` hand on, which they are given as their first arguments. Raises UserError for
    blocks that the rule is not for."""
    try:
        found = [TransformerBlockRegistry.get(cls) for cls in {type(block) for block in blocks}]
    except ValueError:
        found = []
    orders = {(one.return_hidden_states_index, one.return_encoder_hidden_states_index) for one in found}
    number = {frozenset({(0, None)}): 1, frozenset({(0, 1)}): 2}.get(frozenset(orders))
    if number is None or len(blocks) < 2:
        raise UserError("family.step_cache_no_blocks", blocks=", ".join(sorted({type(one).__name__ for one in blocks})))
    return number


class _Pass:
    """One pass through a network whose `blocks` go by `kept`."""

    def __init__(self, cache: StepCache, kept: _Kept, blocks: Sequence[nn.Module]) -> None:
        self._cache, self._kept, self._blocks = cache, kept, blocks
        self._number = streams_of(blocks)

    @contextmanager
    def over(self) -> Iterator[None]:
        """For the time of the `with` the blocks' forwards do."""
        own = [vars(block).get("forward") for block in self._blocks]
        first, last = self._blocks[0], self._blocks[-1]
        first.forward, last.forward = self._first(first.forward), self._last(last.forward)
        try:
            yield
        finally:
            for block, forward in zip(self._blocks, own, strict=True):
                block.forward = forward
                if forward is None:
                    del block.forward

    def _first(self, inside: Forward) -> Forward:
        def forward(hidden_states: Tensor, *others: Any, **named: Any) -> Any:
            added = hidden_states.clone()  # the block may overwrite what it is given
            given = inside(hidden_states, *others, **named)
            streams = self._streams(given)
            added.neg_().add_(streams[0])
            self._cache.passes += 1
            if self._is_alike(added):
                self._cache.shortened += 1
                for block in self._blocks[1:]:
                    block.forward = LEFT_OUT[self._number]
                for stream, rest in zip(streams, self._kept.others, strict=True):
                    stream.add_(rest)
            else:
                self._kept.first, self._kept.others = added, ()
                self._kept.begun = tuple(stream.clone() for stream in streams)
            return given

        return forward

    def _last(self, inside: Forward) -> Forward:
        def forward(*given: Any, **named: Any) -> Any:
            given = inside(*given, **named)
            begun, self._kept.begun = self._kept.begun, ()
            pairs = zip(begun, self._streams(given), strict=True)
            self._kept.others = tuple(before.neg_().add_(after) for before, after in pairs)
            return given

        return forward

    def _streams(self, given: Any) -> Streams:
        return (given,) if isinstance(given, Tensor) else tuple(given)

    def _is_alike(self, added: Tensor) -> bool:
        """Whether the first block adds nearly what it did; never on tensors without contents: what a pass holds, it
        holds where it is computed whole."""
        before = self._kept.first
        if before is None:
            return False
        change = (added - before).abs_().mean() / before.abs().mean()
        return not isinstance(change, FakeTensor) and change.item() <= self._cache.threshold
