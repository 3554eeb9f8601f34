"""HunyuanVideo-1.5's transformer in chunks of tokens: diffusers' network and its blocks, operation for operation, as
`memory.tokens` runs them. The blocks are those of HunyuanVideo. Only text that counts is given: padding and pictures
that are not there are left out, where diffusers sorts them to the end and masks them, pair by pair of all tokens.
"""

from __future__ import annotations

import torch
from diffusers import HunyuanVideo15Transformer3DModel
from diffusers.models.normalization import AdaLayerNormContinuous
from diffusers.models.transformers.transformer_hunyuan_video import (
    HunyuanVideoPatchEmbed,
    HunyuanVideoTransformerBlock,
)
from diffusers.models.transformers.transformer_hunyuan_video15 import (
    HunyuanVideo15PatchEmbed,
    HunyuanVideo15TransformerBlock,
)
from torch import Tensor, nn

from i2v.families.hunyuan_video.programs import PROGRAMS as OF_HUNYUAN_VIDEO
from i2v.memory.chunking import Forward
from i2v.memory.tokens import Program

SENTENCE, GLYPHS, PICTURE = range(3)  # the kinds of text tokens, each with an embedding of its own


def _network(network: HunyuanVideo15Transformer3DModel, _size: int) -> Forward:
    """What stands around the blocks."""

    def of_kind(tokens: Tensor, kind: int) -> Tensor:
        return tokens + network.cond_type_embed(torch.full_like(tokens[:, :, 0], kind, dtype=torch.long))

    def forward(
        latents: Tensor,
        timestep: Tensor,
        sentence: Tensor,
        glyphs: Tensor | None,
        picture: Tensor | None,
        timestep_after: Tensor | None,
    ) -> Tensor:
        """The velocity of `latents` (1, C, f, h, w). `sentence`, `glyphs` and `picture`, each (1, T, D), as their
        encoders give them; `timestep_after`: of the next step, for a network that was distilled to look ahead."""
        turns, noise = network.rope(latents), network.time_embed(timestep, timestep_r=timestep_after)
        text = of_kind(network.context_embedder(sentence, timestep), SENTENCE)
        if glyphs is not None:
            text = torch.cat([of_kind(network.context_embedder_2(glyphs), GLYPHS), text], dim=1)
        if picture is not None:
            text = torch.cat([of_kind(network.image_embedder(picture), PICTURE), text], dim=1)
        rows = network.x_embedder(latents)
        for block in network.transformer_blocks:
            rows, text = block(rows, text, noise, None, turns)
        out = network.proj_out(network.norm_out(rows, noise))
        del rows, text, turns
        each, in_time = network.config.patch_size, network.config.patch_size_t
        frames, height, width = (
            side // step for side, step in zip(latents.shape[2:], (in_time, each, each), strict=True)
        )
        out = out.reshape(out.shape[0], frames, height, width, -1, in_time, each, each)
        return out.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    return forward


PROGRAMS: dict[type[nn.Module], Program] = {
    HunyuanVideo15Transformer3DModel: _network,
    HunyuanVideo15TransformerBlock: OF_HUNYUAN_VIDEO[HunyuanVideoTransformerBlock],
    HunyuanVideo15PatchEmbed: OF_HUNYUAN_VIDEO[HunyuanVideoPatchEmbed],
    AdaLayerNormContinuous: OF_HUNYUAN_VIDEO[AdaLayerNormContinuous],
}
