"""LTX-Video's transformer in chunks of tokens: diffusers' network and its blocks, operation for operation, as
`memory.tokens` runs them; what depends on how noisy a token is, and where it stands, as in LTX-2."""

from __future__ import annotations

from diffusers import LTXVideoTransformer3DModel
from diffusers.models.transformers.transformer_ltx import LTXVideoTransformerBlock, apply_rotary_emb
from torch import Tensor, nn

from i2v.families.ltx2.spans import KeysAndValues, Spans, Turn, Turning, gated, last_layer, modulations, moved, through
from i2v.memory.chunking import Forward, chunks
from i2v.memory.tokens import Program


def _network(network: LTXVideoTransformer3DModel, size: int) -> Forward:
    """What stands around the blocks. Tokens overwrite each other from block to block."""

    def forward(tokens: Tensor, text: Tensor, *, timesteps: Tensor, spans: Spans, coordinates: Tensor) -> Tensor:
        """Velocities (1, N, C). `timesteps`: one for each row of `spans`; `coordinates` (1, 3, N): where tokens stand,
        in seconds and pixels."""

        def tables(where: Tensor) -> tuple[Tensor, Tensor]:
            return network.rope(where, video_coords=where)

        turned = Turning(tables, apply_rotary_emb, coordinates, size)
        noise, last = network.time_embed(timesteps, batch_size=1, hidden_dtype=tokens.dtype)
        text = network.caption_projection(text)
        tokens = through(network.proj_in, tokens, size)
        for block in network.transformer_blocks:
            tokens = block(tokens, text, noise, spans, turned)
        return last_layer(network.norm_out, network.proj_out, network.scale_shift_table, tokens, last, spans, size)

    return forward


def _block(block: LTXVideoTransformerBlock, size: int) -> Forward:
    """Attention to all tokens and to the sentence, feed-forward."""
    own, words = block.attn1, block.attn2

    def forward(tokens: Tensor, text: Tensor, noise: Tensor, spans: Spans, turned: Turn) -> Tensor:
        shift, scale, gate, shift_after, scale_after, gate_after = modulations(block.scale_shift_table, noise)

        def inside(rows: slice) -> Tensor:
            return moved(block.norm1(tokens[:, rows]), scale, shift, spans, rows)

        read = KeysAndValues.of(words, lambda rows: text[:, rows], text.shape[1], 0)
        seen = KeysAndValues.of(own, inside, tokens.shape[1], size, turned)
        for rows in chunks(tokens.shape[1], size):
            stream = tokens[:, rows] + gated(seen.asked(own, inside(rows), rows, turned), gate, spans, rows)
            stream = stream + read.asked(words, stream, rows)
            given = moved(block.norm2(stream), scale_after, shift_after, spans, rows)
            tokens[:, rows] = stream + gated(block.ff(given), gate_after, spans, rows)
            del stream, given
        return tokens

    return forward


PROGRAMS: dict[type[nn.Module], Program] = {
    LTXVideoTransformer3DModel: _network,
    LTXVideoTransformerBlock: _block,
}
