"""Wan's transformer in chunks of tokens: diffusers' network and its blocks, operation for operation, as `memory.tokens`
runs them. Norms and modulations are computed in float32, as there, but of one chunk at a time."""

from __future__ import annotations

from itertools import accumulate

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor, nn

from i2v.memory.chunking import Forward, chunks
from i2v.memory.tokens import Program, TokenPart, by_heads, joint_attention

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines, each (1, N, 1, d), of all tokens."""

KeysValues = tuple[Tensor, Tensor]
"""Each (1, n, heads, d)."""

TEXT_TOKENS = 512  # of every sentence, with what it is filled up with


def _network(network: WanTransformer3DModel, size: int) -> Forward:
    """What stands around the blocks. Tokens (1, N, D) overwrite each other from block to block."""

    def forward(
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None = None,
        return_dict: bool = True,
    ) -> tuple[Tensor]:
        frames, height, width = hidden_states.shape[2:]
        in_time, high, wide = network.config.patch_size
        grid = frames // in_time, height // high, width // wide
        rotary = network.rope(hidden_states)
        tokens = _patches(network, hidden_states, grid, size)
        counts = _counts(timestep, grid)
        embedded, modulation, text, pictures = network.condition_embedder(
            timestep, encoder_hidden_states, encoder_hidden_states_image
        )
        modulation = modulation.unflatten(1, (6, -1))
        if pictures is not None:
            text = torch.cat([pictures, text], dim=1)
        for block in network.blocks:
            tokens = block(tokens, text, modulation, rotary, counts)
        made = tokens.new_empty(*tokens.shape[:2], network.proj_out.out_features)
        for of, row in zip(_stretches(counts), embedded.unsqueeze(1).split(1), strict=True):
            shift, scale = (network.scale_shift_table + row).chunk(2, dim=1)
            for part in chunks(of.stop - of.start, size):
                rows = _rows(of, part)
                inside = (network.norm_out(tokens[:, rows].float()) * (1 + scale) + shift).type_as(tokens)
                made[:, rows] = network.proj_out(inside)
                del inside
        del tokens
        patches = made.reshape(1, *grid, in_time, high, wide, -1).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return (patches.flatten(6, 7).flatten(4, 5).flatten(2, 3),)

    return forward


def _counts(timestep: Tensor, grid: tuple[int, int, int]) -> tuple[int, ...]:
    """How many tokens belong to each of the timesteps: one is of all; of two the first is of the first frame."""
    first, total = grid[1] * grid[2], grid[0] * grid[1] * grid[2]
    return (total,) if timestep.shape[0] == 1 else (first, total - first)


def _stretches(counts: tuple[int, ...]) -> list[slice]:
    """So many tokens each, one stretch after the other."""
    ends = [*accumulate(counts)]
    return [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]


def _rows(stretch: slice, part: slice) -> slice:
    """The tokens of the clip that are `part` of a stretch."""
    return slice(stretch.start + part.start, stretch.start + part.stop)


def _patches(network: WanTransformer3DModel, latents: Tensor, grid: tuple[int, int, int], size: int) -> Tensor:
    """The latents as tokens (1, N, D): as many latent frames at once as hold about `size` tokens."""
    frames, each, step = grid[0], grid[1] * grid[2], network.config.patch_size[0]
    heads, width = network.config.num_attention_heads, network.config.attention_head_dim
    tokens = latents.new_empty(latents.shape[0], frames * each, heads * width)
    for part in chunks(frames, size and max(1, size // each)):
        piece = network.patch_embedding(latents[:, :, part.start * step : part.stop * step])
        tokens[:, part.start * each : part.stop * each] = piece.flatten(2).transpose(1, 2)
        del piece
    return tokens


def _block(block: WanTransformerBlock, size: int) -> Forward:
    """Attention over all tokens, attention to the text and to pictures, feed-forward. Tokens of another timestep are
    treated otherwise in all but the attention: they are parts of their own."""
    own, cross = block.attn1, block.attn2

    def forward(
        hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor, rotary_emb: Rotary, counts: tuple[int, ...]
    ) -> Tensor:
        seen = _keys(cross, encoder_hidden_states)
        of_all = zip(_stretches(counts), (block.scale_shift_table + temb.float()).split(1), strict=True)
        parts = [part(hidden_states, stretch, row.chunk(6, dim=1), rotary_emb, seen) for stretch, row in of_all]
        joint_attention(parts, size, _backend(own))
        return hidden_states

    def part(
        tokens: Tensor, stretch: slice, modulations: tuple[Tensor, ...], rotary: Rotary, seen: list[KeysValues]
    ) -> TokenPart:
        shift, scale, gate, shift_after, scale_after, gate_after = modulations

        def normed(rows: slice) -> Tensor:
            inside = tokens[:, _rows(stretch, rows)]
            return (block.norm1(inside.float()) * (1 + scale) + shift).type_as(tokens)

        def turned(vectors: Tensor, rows: slice) -> Tensor:
            rows = _rows(stretch, rows)
            return _turned(vectors, rotary[0][:, rows], rotary[1][:, rows])

        def keys(rows: slice) -> KeysValues:
            inside = normed(rows)
            key = turned(by_heads(own.norm_k(own.to_k(inside)), own.heads), rows)
            return key, by_heads(own.to_v(inside), own.heads)

        def query(rows: slice) -> Tensor:
            return turned(by_heads(own.norm_q(own.to_q(normed(rows))), own.heads), rows)

        def take(rows: slice, attended: Tensor) -> None:
            rows = _rows(stretch, rows)
            stream = (tokens[:, rows].float() + own.to_out[0](attended) * gate).type_as(tokens)
            stream = stream + cross.to_out[0](_looked(block, stream, seen))
            inside = (block.norm3(stream.float()) * (1 + scale_after) + shift_after).type_as(stream)
            tokens[:, rows] = (stream.float() + block.ffn(inside).float() * gate_after).type_as(stream)

        return TokenPart(stretch.stop - stretch.start, keys, query, take)

    return forward


def _keys(cross: nn.Module, given: Tensor) -> list[KeysValues]:
    """What tokens look at beside each other: the text, and pictures where there are some, which come before it."""
    pictures, text = given[:, :-TEXT_TOKENS], given[:, -TEXT_TOKENS:]
    seen = [(by_heads(cross.norm_k(cross.to_k(text)), cross.heads), by_heads(cross.to_v(text), cross.heads))]
    if cross.add_k_proj is not None:
        key = by_heads(cross.norm_added_k(cross.add_k_proj(pictures)), cross.heads)
        seen.append((key, by_heads(cross.add_v_proj(pictures), cross.heads)))
    return seen


def _looked(block: WanTransformerBlock, stream: Tensor, seen: list[KeysValues]) -> Tensor:
    """What tokens find in the text, and that in the pictures is added."""
    cross = block.attn2
    asked = by_heads(cross.norm_q(cross.to_q(block.norm2(stream.float()).type_as(stream))), cross.heads)
    found: Tensor | None = None
    for key, value in seen:
        one = dispatch_attention_fn(asked, key, value, backend=_backend(cross)).flatten(2, 3).type_as(stream)
        found = one if found is None else found + one
    assert found is not None
    return found


def _turned(vectors: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Queries or keys (1, r, heads, d) turned by their places in the video."""
    even, odd = vectors.unflatten(-1, (-1, 2)).unbind(-1)
    cosines, sines = cosines[..., 0::2], sines[..., 1::2]
    turned = torch.empty_like(vectors)
    turned[..., 0::2] = even * cosines - odd * sines
    turned[..., 1::2] = even * sines + odd * cosines
    return turned


def _backend(attention: nn.Module) -> str | None:
    """The one that was asked for with `set_attention_backend`."""
    return getattr(attention.processor, "_attention_backend", None)


PROGRAMS: dict[type[nn.Module], Program] = {WanTransformer3DModel: _network, WanTransformerBlock: _block}
