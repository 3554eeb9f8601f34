"""MiniMax-H3's transformer in chunks of rows: diffusers' network and its blocks, operation for operation, as
`memory.tokens` runs them. What modulates rows has one line for each noise and kind of row, as in diffusers; it is
looked up by stretches of rows that are alike, instead of row by row.

Shapes: N rows of the whole sequence, r of a chunk, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from diffusers import MiniMaxH3Transformer3DModel
from diffusers.models.modeling_utils import get_parameter_dtype
from diffusers.models.transformers.transformer_minimax_h3 import (
    MiniMaxH3TransformerBlock,
    _apply_rotary_emb,
)
from torch import Tensor, nn

from i2v.families.minimax_h3.layout import Spans
from i2v.memory.chunking import Forward, chunks
from i2v.memory.tokens import Program, TokenPart, by_heads, joint_attention


def _network(network: MiniMaxH3Transformer3DModel, size: int) -> Forward:
    """What stands around the blocks. Rows overwrite each other from block to block."""

    def forward(
        held: Tensor, frames: Tensor, sounds: Tensor, text: Tensor, timesteps: Tensor, spans: Spans, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Velocities of the rows of the frames and of the sound. `timesteps`: for which `spans` have lines, three kinds
        of rows of each; `places` (N, 3) in their order: sentence, picture, sound, frames."""
        words = network.token_refiner(network.context_embedder(text))
        rows = words.new_empty(1, places.shape[0], words.shape[2])
        begin = words.shape[1]
        rows[:, :begin] = words
        del words
        for layer, given in ((network.proj_in, held), (network.audio_proj_in, sounds), (network.proj_in, frames)):
            _embed(layer, given, rows[:, begin : begin + given.shape[0]], size)
            begin += given.shape[0]
        noise = network.time_embedder(network.time_proj(timesteps).to(get_parameter_dtype(network.time_embedder)))
        turns = network.rope(places)
        for block in network.transformer_blocks:
            rows = block(rows, noise, spans, turns)
        last = network.norm_out
        shift, scale = last.linear(nn.functional.silu(noise).to(last.linear.weight.dtype)).chunk(2, dim=-1)
        made = []
        for layer, count, end in (
            (network.proj_out, frames.shape[0], rows.shape[1]),
            (network.audio_proj_out, sounds.shape[0], rows.shape[1] - frames.shape[0]),
        ):
            out = rows.new_empty(count, layer.out_features, dtype=get_parameter_dtype(layer))
            for part in chunks(count, size):
                inside = slice(end - count + part.start, end - count + part.stop)
                given = _moved(last.norm(rows[:, inside]), shift, scale, _noises(spans), inside)
                out[part] = layer(given[0].to(out.dtype))
                del given
            made.append(out)
        return made[0], made[1]

    return forward


def _embed(layer: nn.Linear, given: Tensor, into: Tensor, size: int) -> None:
    for part in chunks(given.shape[0], size) if len(given) else ():
        into[:, part] = layer(given[part].to(layer.weight.dtype))


def _noises(spans: Spans) -> Spans:
    """The same stretches, by their noise alone."""
    return tuple((end, line // 3) for end, line in spans)


def _stretches(spans: Spans, rows: slice) -> Iterator[tuple[slice, int]]:
    """The stretches of a chunk, as they lie in it, and the line of each."""
    begin = rows.start
    for end, line in spans:
        if begin < min(end, rows.stop):
            yield slice(begin - rows.start, min(end, rows.stop) - rows.start), line
            begin = min(end, rows.stop)


def _moved(given: Tensor, shift: Tensor, scale: Tensor, spans: Spans, rows: slice) -> Tensor:
    """Normed rows (1, r, D), each stretch times 1 + its line of `scale`, plus that of `shift`; in place."""
    for part, line in _stretches(spans, rows):
        given[:, part] = given[:, part] * (1.0 + scale[line]) + shift[line]
    return given


def _gated(given: Tensor, gate: Tensor, spans: Spans, rows: slice) -> Tensor:
    """Rows (1, r, D), each stretch times its line of `gate`; in place."""
    for part, line in _stretches(spans, rows):
        given[:, part] *= gate[line]
    return given


def _block(block: MiniMaxH3TransformerBlock, size: int) -> Forward:
    """Attention of all rows to all, feed-forward."""
    own = block.attn

    def forward(rows: Tensor, noise: Tensor, spans: Spans, turns: Sequence[Tensor]) -> Tensor:
        shift, scale, gate, shift_after, scale_after, gate_after = block.adaln_proj(noise)

        def inside(part: slice) -> Tensor:
            return _moved(block.norm1(rows[:, part]), shift, scale, spans, part)

        def turned(vectors: Tensor, part: slice) -> Tensor:
            return _apply_rotary_emb(vectors, turns[0][part], turns[1][part])

        def keys(part: slice) -> tuple[Tensor, Tensor]:
            given = inside(part)
            key = turned(own.norm_k(by_heads(own.to_k(given), own.heads)), part)
            return key, by_heads(own.to_v(given), own.heads)

        def query(part: slice) -> Tensor:
            return turned(own.norm_q(by_heads(own.to_q(inside(part)), own.heads)), part)

        def take(part: slice, attended: Tensor) -> None:
            stream = rows[:, part] + _gated(own.to_out[0](attended), gate, spans, part)
            given = _moved(block.norm2(stream), shift_after, scale_after, spans, part)
            rows[:, part] = stream + _gated(block.ff(given), gate_after, spans, part)

        joint_attention([TokenPart(rows.shape[1], keys, query, take)], size, own.processor._attention_backend)
        return rows

    return forward


PROGRAMS: dict[type[nn.Module], Program] = {
    MiniMaxH3Transformer3DModel: _network,
    MiniMaxH3TransformerBlock: _block,
}
