"""CogVideoX's transformer in chunks of tokens: diffusers' network and its blocks, operation for operation, as
`memory.tokens` runs them. Text and video are one sequence for attention, and have modulations of their own."""

from __future__ import annotations

from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import CogVideoXPatchEmbed, apply_rotary_emb
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock
from torch import Tensor, nn

from i2v.memory.chunking import Forward, chunks
from i2v.memory.tokens import Program, TokenPart, by_heads, joint_attention

Turns = tuple[Tensor, Tensor]
"""Cosines and sines, each (N, d), of all tokens of the video."""


def _network(network: CogVideoXTransformer3DModel, size: int) -> Forward:
    """What stands around the blocks."""

    def forward(
        *,
        text: Tensor,
        latents: Tensor,
        timestep: Tensor,
        offset: Tensor | None,
        turns: Turns | None,
        places: Tensor | None,
    ) -> Tensor:
        """What the network predicts of `latents` (1, f, C, h, w). `offset`: for a network that is told it (`ofs`);
        `places` (1, N, D): what is added to tokens of the video for where they stand."""
        noise = network.time_embedding(network.time_proj(timestep).to(latents.dtype))
        if network.ofs_embedding is not None:
            noise = noise + network.ofs_embedding(network.ofs_proj(offset).to(latents.dtype))
        joined, words = _joined(network.patch_embed, text, latents, size), text.shape[1]
        text, tokens = joined[:, :words], joined[:, words:]
        if places is not None:
            tokens += places
        for block in network.transformer_blocks:
            tokens, text = block(tokens, text, noise, turns)
        made = tokens.new_empty(*tokens.shape[:2], network.proj_out.out_features)
        for rows in chunks(tokens.shape[1], size):
            last = network.norm_out(network.norm_final(tokens[:, rows]), temb=noise)
            made[:, rows] = network.proj_out(last)
            del last
        del tokens, text, joined
        return _by_places(made, latents, network.config.patch_size, network.config.patch_size_t)

    return forward


def _joined(patches: CogVideoXPatchEmbed, text: Tensor, latents: Tensor, size: int) -> Tensor:
    """(1, T + N, D): tokens of the text, and of the video some latent frames at a time."""
    _, frames, _, height, width = latents.shape
    side, together = patches.patch_size, patches.patch_size_t or 1
    each, words = height // side * (width // side), text.shape[1]
    first = patches.text_proj(text)
    joined = first.new_empty(1, words + frames // together * each, first.shape[2])
    joined[:, :words] = first
    for part in chunks(frames // together, -(-size // each)):
        some = latents[0, part.start * together : part.stop * together]
        if patches.patch_size_t is None:
            made = patches.proj(some).flatten(2).transpose(1, 2)
        else:
            some = some.unflatten(0, (-1, together)).unflatten(3, (-1, side)).unflatten(5, (-1, side))
            made = patches.proj(some.permute(0, 3, 5, 2, 1, 4, 6).flatten(3))
        joined[:, words + part.start * each : words + part.stop * each] = made.reshape(1, -1, made.shape[-1])
        del some, made
    if patches.use_learned_positional_embeddings:
        joined += patches.pos_embedding.to(joined.dtype)
    return joined


def _by_places(made: Tensor, latents: Tensor, side: int, together: int | None) -> Tensor:
    """What was made of all tokens, as `latents` lie."""
    frames, (height, width) = latents.shape[1], (length // side for length in latents.shape[3:])
    if together is None:
        made = made.reshape(1, frames, height, width, -1, side, side)
        return made.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
    made = made.reshape(1, frames // together, height, width, -1, together, side, side)
    return made.permute(0, 1, 5, 4, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(1, 2)


def _block(block: CogVideoXBlock, size: int) -> Forward:
    """Attention of text and video to both, feed-forward. Tokens overwrite each other."""
    attention = block.attn1

    def forward(tokens: Tensor, text: Tensor, noise: Tensor, turns: Turns | None) -> tuple[Tensor, Tensor]:
        first, second = (
            norm.linear(norm.silu(noise)).unsqueeze(1).chunk(6, dim=2) for norm in (block.norm1, block.norm2)
        )

        def part(stream: Tensor, place: int, turned_by: Turns | None) -> TokenPart:
            shift, scale, gate = first[place : place + 3]
            shift_after, scale_after, gate_after = second[place : place + 3]

            def normed(rows: slice) -> Tensor:
                return block.norm1.norm(stream[:, rows]) * (1 + scale) + shift

            def turned(norm: nn.Module, heads: Tensor, rows: slice) -> Tensor:
                heads = norm(by_heads(heads, attention.heads))
                if turned_by is None:
                    return heads
                return apply_rotary_emb(heads, tuple(one[rows] for one in turned_by), sequence_dim=1)

            def keys(rows: slice) -> tuple[Tensor, Tensor]:
                given = normed(rows)
                return (
                    turned(attention.norm_k, attention.to_k(given), rows),
                    by_heads(attention.to_v(given), attention.heads),
                )

            def query(rows: slice) -> Tensor:
                return turned(attention.norm_q, attention.to_q(normed(rows)), rows)

            def take(rows: slice, attended: Tensor) -> None:
                one = stream[:, rows] + gate * attention.to_out[0](attended)
                given = block.norm2.norm(one) * (1 + scale_after) + shift_after
                stream[:, rows] = one + gate_after * block.ff(given)

            return TokenPart(stream.shape[1], keys, query, take)

        joint_attention([part(text, 3, None), part(tokens, 0, turns)], size)
        return tokens, text

    return forward


PROGRAMS: dict[type[nn.Module], Program] = {CogVideoXTransformer3DModel: _network, CogVideoXBlock: _block}
