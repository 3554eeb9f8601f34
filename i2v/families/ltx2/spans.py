"""What the transformers of LTX have in common, where they run in chunks of tokens as `memory.tokens` says: of what
depends on how noisy a token is there is one row for each degree of noise, not one for each token as in diffusers; and
where tokens stand is worked out chunk by chunk.

Shapes: N tokens, r of a chunk; k degrees of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor, nn

from i2v.memory.chunking import chunks
from i2v.memory.tokens import by_heads

Spans = tuple[tuple[int, int], ...]
"""How noisy tokens are: up to which token, and the row for these."""
Turn = Callable[[Tensor, slice], Tensor]
"""Queries or keys (1, r, D) of these tokens, turned by where the tokens stand."""
Inside = Callable[[slice], Tensor]


def in_spans(spans: Spans, rows: slice) -> Iterator[tuple[slice, int]]:
    """The parts of a chunk that are alike, as they stand in it, and the row of each."""
    start = rows.start
    for stop, row in spans:
        if start < min(stop, rows.stop):
            yield slice(start - rows.start, min(stop, rows.stop) - rows.start), row
            start = min(stop, rows.stop)


def moved(tokens: Tensor, scale: Tensor, shift: Tensor, spans: Spans, rows: slice) -> Tensor:
    """Normed tokens (1, r, D) times 1 + `scale` and plus `shift`, each (k, D)."""
    parts = list(in_spans(spans, rows))
    if len(parts) == 1:
        return tokens * (1 + scale[parts[0][1]]) + shift[parts[0][1]]
    made = torch.empty_like(tokens)
    for part, row in parts:
        made[:, part] = tokens[:, part] * (1 + scale[row]) + shift[row]
    return made


def gated(tokens: Tensor, gate: Tensor, spans: Spans, rows: slice) -> Tensor:
    """The tokens times `gate` (k, D), in their own place."""
    for part, row in in_spans(spans, rows):
        tokens[:, part] *= gate[row]
    return tokens


def modulations(table: Tensor, embedded: Tensor) -> tuple[Tensor, ...]:
    """As many modulations (k, D) as `table` has rows."""
    return (table + embedded.unflatten(1, (len(table), -1))).unbind(1)


Tables = tuple[Tensor, Tensor]
"""Cosines and sines."""


class Turning:
    """Turns queries and keys of one attention; `coordinates` (1, d, N, ...) of all tokens. `tables` gives the sines and
    cosines of some of them, and `turn` turns by these. They are worked out for the tokens of a chunk, or where all are
    taken at once for all of them, one time."""

    def __init__(
        self,
        tables: Callable[[Tensor], Tables],
        turn: Callable[[Tensor, Tables], Tensor],
        coordinates: Tensor,
        size: int,
    ) -> None:
        self._tables, self._turn, self._coordinates = tables, turn, coordinates
        self._all = None if size else tables(coordinates)

    def __call__(self, vectors: Tensor, rows: slice) -> Tensor:
        return self._turn(vectors, self._all or self._tables(self._coordinates[:, :, rows]))


def _as_they_are(vectors: Tensor, rows: slice) -> Tensor:
    return vectors


@dataclass(frozen=True)
class KeysAndValues:
    """What an attention looks at: keys and values (1, N, heads, d) of all its tokens."""

    keys: Tensor
    values: Tensor

    @classmethod
    def of(
        cls, attention: nn.Module, inside: Inside, count: int, size: int, turned: Turn = _as_they_are
    ) -> KeysAndValues:
        """Of `count` tokens, `inside` gives what goes in."""
        keys = values = None
        for rows in chunks(count, size):
            given = inside(rows)
            key = by_heads(turned(attention.norm_k(attention.to_k(given)), rows), attention.heads)
            value = by_heads(attention.to_v(given), attention.heads)
            if keys is None or values is None:
                keys, values = (key.new_empty(1, count, *key.shape[2:]) for _ in range(2))
            keys[:, rows], values[:, rows] = key, value
            del given, key, value
        assert keys is not None
        assert values is not None
        return cls(keys, values)

    def asked(self, attention: nn.Module, given: Tensor, rows: slice, turned: Turn = _as_they_are) -> Tensor:
        """What tokens get to see, `given` as they go in."""
        query = by_heads(turned(attention.norm_q(attention.to_q(given)), rows), attention.heads)
        backend = getattr(attention.processor, "_attention_backend", None)
        found = dispatch_attention_fn(query, self.keys, self.values, backend=backend).to(query.dtype)
        del query
        return attention_out(attention, given, found)


def attention_out(attention: nn.Module, given: Tensor, found: Tensor) -> Tensor:
    """What an attention gives for tokens that went in as `given` and have `found` so much (1, r, heads, d)."""
    if getattr(attention, "to_gate_logits", None) is not None:
        found = found * (2.0 * torch.sigmoid(attention.to_gate_logits(given))).unsqueeze(-1)
    return attention.to_out[0](found.flatten(2, 3))


def through(layer: nn.Linear, given: Tensor, size: int) -> Tensor:
    """What a layer makes of all tokens."""
    made = given.new_empty(*given.shape[:2], layer.out_features)
    for rows in chunks(given.shape[1], size):
        made[:, rows] = layer(given[:, rows])
    return made


def last_layer(
    norm: nn.Module, layer: nn.Linear, table: Tensor, tokens: Tensor, embedded: Tensor, spans: Spans, size: int
) -> Tensor:
    """The network's last layers."""
    shift, scale = (table + embedded.unsqueeze(1)).unbind(1)
    made = tokens.new_empty(*tokens.shape[:2], layer.out_features)
    for rows in chunks(tokens.shape[1], size):
        made[:, rows] = layer(moved(norm(tokens[:, rows]), scale, shift, spans, rows))
    return made
