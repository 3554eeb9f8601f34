"""Blocks that are computed again in the backward pass (gradient checkpointing), so that until then they hold nothing
but what went into them. The gradients are the same; the time of one more forward pass of these blocks is the price.

diffusers has a switch for this that some of its video networks refuse, and that is for all blocks or none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(blocks: Sequence[nn.Module], numbers: Collection[int]) -> Iterator[None]:
    """While the `with` lasts, those of `blocks` with these `numbers` are computed again in the backward pass."""
    chosen = [blocks[number] for number in sorted(set(numbers))]
    try:
        for block in chosen:
            # Nothing in these networks is drawn at random once dropout is off, so no random state has to be kept.
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
        yield
    finally:
        for block in chosen:
            block.__dict__.pop("forward", None)
