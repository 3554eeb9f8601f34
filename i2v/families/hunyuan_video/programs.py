"""HunyuanVideo's transformer in chunks of tokens: diffusers' blocks, operation for operation, as `memory.tokens` runs
them. Text that is only padding must have been left out: the mask of the tokens is not looked at.

Of a "token_replace" transformer the tokens of the first latent frame, which are the picture's, are modulated by an
embedding of their own (`first`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.normalization import AdaLayerNormContinuous
from diffusers.models.transformers.transformer_hunyuan_video import (
    HunyuanVideoPatchEmbed,
    HunyuanVideoSingleTransformerBlock,
    HunyuanVideoTokenReplaceSingleTransformerBlock,
    HunyuanVideoTokenReplaceTransformerBlock,
    HunyuanVideoTransformerBlock,
)
from torch import Tensor, nn

from i2v.memory.chunking import Forward, chunks
from i2v.memory.tokens import Program, TokenPart, by_heads, joint_attention

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines, each (N, d), of all tokens of the video."""
Turned = Callable[[Tensor, slice], Tensor]
"""Queries or keys of some rows, turned by their places in the video."""
Projection = tuple[nn.Module, nn.Module]
"""The layer that makes queries or keys, and the norm of each head."""


@dataclass(frozen=True)
class _Span:
    """Tokens of the video with the same modulation: which of them, and what that comes from."""

    rows: slice
    modulation: Tensor

    def placed(self, rows: slice) -> slice:
        """`rows` of this span as rows of the whole video."""
        return slice(self.rows.start + rows.start, self.rows.start + rows.stop)


def _spans(tokens: int, modulation: Tensor, first: Tensor | None, first_tokens: int) -> list[_Span]:
    if first is None:
        return [_Span(slice(0, tokens), modulation)]
    return [_Span(slice(0, first_tokens), first), _Span(slice(first_tokens, tokens), modulation)]


def _attending(
    count: int,
    normed: Callable[[slice], Tensor],
    heads: int,
    to_query: Projection,
    to_key: Projection,
    to_value: nn.Module,
    turned: Turned,
    take: Callable[[slice, Tensor], None],
) -> TokenPart:
    """`count` tokens whose queries, keys and values are made of their rows as `normed` gives them."""

    def keys(rows: slice) -> tuple[Tensor, Tensor]:
        inside = normed(rows)
        key = turned(to_key[1](by_heads(to_key[0](inside), heads)), rows)
        return key, by_heads(to_value(inside), heads)

    def query(rows: slice) -> Tensor:
        return turned(to_query[1](by_heads(to_query[0](normed(rows)), heads)), rows)

    return TokenPart(count, keys, query, take)


def _dual(block: nn.Module, size: int) -> Forward:
    """Video and text with weights of their own, joined in attention."""
    attention = block.attn

    def part(
        tokens: Tensor,
        norms: tuple[nn.Module, nn.Module],
        feed_forward: nn.Module,
        to_query: Projection,
        to_key: Projection,
        to_value: nn.Module,
        out: nn.Module,
        modulation: Tensor,
        turned: Turned,
    ) -> TokenPart:
        before, after = norms
        modulations = before.linear(before.silu(modulation)).chunk(6, dim=1)
        shift, scale, gate, shift_after, scale_after, gate_after = (one[:, None] for one in modulations)

        def normed(rows: slice) -> Tensor:
            return before.norm(tokens[:, rows]) * (1 + scale) + shift

        def take(rows: slice, attended: Tensor) -> None:
            stream = tokens[:, rows] + out(attended) * gate
            inside = after(stream) * (1 + scale_after) + shift_after
            tokens[:, rows] = stream + gate_after * feed_forward(inside)

        return _attending(tokens.shape[1], normed, attention.heads, to_query, to_key, to_value, turned, take)

    def forward(
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        attention_mask: Tensor | None = None,
        freqs_cis: Rotary | None = None,
        token_replace_emb: Tensor | None = None,
        num_tokens: int = 0,
    ) -> tuple[Tensor, Tensor]:
        parts = [
            part(
                hidden_states[:, span.rows],
                (block.norm1, block.norm2),
                block.ff,
                (attention.to_q, attention.norm_q),
                (attention.to_k, attention.norm_k),
                attention.to_v,
                attention.to_out[0],
                span.modulation,
                _turning(freqs_cis, span),
            )
            for span in _spans(hidden_states.shape[1], temb, token_replace_emb, num_tokens)
        ]
        parts.append(
            part(
                encoder_hidden_states,
                (block.norm1_context, block.norm2_context),
                block.ff_context,
                (attention.add_q_proj, attention.norm_added_q),
                (attention.add_k_proj, attention.norm_added_k),
                attention.add_v_proj,
                attention.to_add_out,
                temb,
                lambda tokens, rows: tokens,
            )
        )
        joint_attention(parts, size, _backend(attention))
        return hidden_states, encoder_hidden_states

    return forward


def _single(block: nn.Module, size: int) -> Forward:
    """Video and text under the same weights."""
    attention = block.attn

    def part(tokens: Tensor, modulation: Tensor, turned: Turned) -> TokenPart:
        modulations = block.norm.linear(block.norm.silu(modulation)).chunk(3, dim=1)
        shift, scale, gate = (one[:, None] for one in modulations)

        def normed(rows: slice) -> Tensor:
            return block.norm.norm(tokens[:, rows]) * (1 + scale) + shift

        to_query, to_key = (attention.to_q, attention.norm_q), (attention.to_k, attention.norm_k)

        def take(rows: slice, attended: Tensor) -> None:
            inside = block.act_mlp(block.proj_mlp(normed(rows)))
            tokens[:, rows] += gate * block.proj_out(torch.cat([attended, inside], dim=2))

        return _attending(tokens.shape[1], normed, attention.heads, to_query, to_key, attention.to_v, turned, take)

    def forward(
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Rotary | None = None,
        token_replace_emb: Tensor | None = None,
        num_tokens: int = 0,
    ) -> tuple[Tensor, Tensor]:
        parts = [
            part(hidden_states[:, span.rows], span.modulation, _turning(image_rotary_emb, span))
            for span in _spans(hidden_states.shape[1], temb, token_replace_emb, num_tokens)
        ]
        parts.append(part(encoder_hidden_states, temb, lambda tokens, rows: tokens))
        joint_attention(parts, size, _backend(attention))
        return hidden_states, encoder_hidden_states

    return forward


def _patches(embed: nn.Module, size: int) -> Forward:
    """As many latent frames at once as hold about `size` tokens."""

    def forward(latents: Tensor) -> Tensor:
        batch, _, *sizes = latents.shape
        channels, _, *patch = embed.proj.weight.shape  # of a LoRA's wrapper as well, which has no stride
        frames, height, width = (side // step for side, step in zip(sizes, patch, strict=True))
        each, step = height * width, patch[0]
        tokens = latents.new_empty(batch, frames * each, channels)
        for part in chunks(frames, size and max(1, size // each)):
            piece = embed.proj(latents[:, :, part.start * step : part.stop * step]).flatten(2).transpose(1, 2)
            tokens[:, part.start * each : part.stop * each] = piece
            del piece
        return tokens

    return forward


def _last_norm(norm: nn.Module, size: int) -> Forward:
    def forward(tokens: Tensor, conditioning: Tensor) -> Tensor:
        scale, shift = norm.linear(norm.silu(conditioning).to(tokens.dtype)).chunk(2, dim=1)
        for rows in chunks(tokens.shape[1], size):
            tokens[:, rows] = norm.norm(tokens[:, rows]) * (1 + scale)[:, None] + shift[:, None]
        return tokens

    return forward


def _turning(rotary: Rotary | None, span: _Span) -> Turned:
    """Rows of `span` turned by their places in the video."""

    def turned(tokens: Tensor, rows: slice) -> Tensor:
        if rotary is None:
            return tokens
        return apply_rotary_emb(tokens, tuple(one[span.placed(rows)] for one in rotary), sequence_dim=1)

    return turned


def _backend(attention: nn.Module) -> str | None:
    """The one that was asked for with `set_attention_backend`."""
    return getattr(attention.processor, "_attention_backend", None)


PROGRAMS: dict[type[nn.Module], Program] = {
    HunyuanVideoPatchEmbed: _patches,
    HunyuanVideoTransformerBlock: _dual,
    HunyuanVideoTokenReplaceTransformerBlock: _dual,
    HunyuanVideoSingleTransformerBlock: _single,
    HunyuanVideoTokenReplaceSingleTransformerBlock: _single,
    AdaLayerNormContinuous: _last_norm,
}
