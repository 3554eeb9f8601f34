"""Exact token chunks for transformers: the same numbers while only a few thousand tokens are worked on at a time.

diffusers' own transformer runs, and for the time of a `with` the forward of its blocks is replaced by a program: the
block written for chunks of tokens. Keys and values are made for all tokens, a chunk at a time; then query, attention,
projection, residual, norm and feed-forward run for one chunk from beginning to end, and its result overwrites its own
place in the residual stream. What stays whole is that stream, keys and values. To chunk single modules gains nothing:
the highest point is in what a block holds across attention.

Shapes: B batch, N tokens, r rows of a chunk, D width, d width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor, nn

from i2v.memory.chunking import Forward, around_chunks, chunks

Program = Callable[[nn.Module, int], Forward]
"""From a module and the number of tokens at once, the forward that takes the place of its own. What it is given as
tokens it may overwrite and give back."""


@dataclass(frozen=True)
class TokenPart:
    """Tokens of a joint sequence that are treated alike, `count` of them.

    `keys` gives keys and values of some rows, `query` their queries, each (B, r, heads, d); `take` is handed what the
    rows attended to, (B, r, heads * d), and finishes the block for them."""

    count: int
    keys: Callable[[slice], tuple[Tensor, Tensor]]
    query: Callable[[slice], Tensor]
    take: Callable[[slice, Tensor], None]


def joint_attention(parts: Sequence[TokenPart], size: int, backend: str | None = None) -> None:
    """Every token of all `parts` attends to all of them, `size` tokens at a time (0: all of a part). `backend`: of
    diffusers' attention dispatcher; None for the one that is set there."""
    total, start = sum(part.count for part in parts), 0
    keys: Tensor | None = None
    values: Tensor | None = None
    for part in parts:
        for rows in chunks(part.count, size):
            key, value = part.keys(rows)
            if keys is None or values is None:
                keys, values = (key.new_empty(key.shape[0], total, *key.shape[2:]) for _ in range(2))
            keys[:, start + rows.start : start + rows.stop] = key
            values[:, start + rows.start : start + rows.stop] = value
            del key, value
        start += part.count
    for part in parts:
        for rows in chunks(part.count, size):
            query = part.query(rows)
            attended = dispatch_attention_fn(query, keys, values, backend=backend).flatten(2, 3).to(query.dtype)
            del query
            part.take(rows, attended)
            del attended


def by_heads(tokens: Tensor, heads: int) -> Tensor:
    """(B, r, heads * d) -> (B, r, heads, d)"""
    return tokens.unflatten(2, (heads, -1))


@contextmanager
def token_chunks(network: nn.Module, programs: Mapping[type[nn.Module], Program], size: int) -> Iterator[None]:
    """Run the modules of `network` that there are `programs` for in chunks of `size` tokens (0: all at once) while the
    `with` lasts."""
    replaced: list[nn.Module] = []
    try:
        for module in network.modules():
            if program := programs.get(type(module)):
                module.forward = around_chunks()(module, program(module, size))
                replaced.append(module)
        yield
    finally:
        for module in replaced:
            del module.forward
