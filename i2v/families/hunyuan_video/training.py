"""How HunyuanVideo is trained: the velocity from a clip's latents to noise, at levels shifted as in its own schedule.

Its guidance is told to the transformer as a number, and what is learned holds for that of no guidance; sentences are
never left out, since the model that is published was made to do without that."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn

from i2v.families.base import Conditioning, FamilyModel
from i2v.families.blocks import transformer_blocks
from i2v.families.hunyuan_video.model import POOLED, HunyuanVideo
from i2v.families.ordinary import PROMPT
from i2v.families.trainable import Draw, Example, change_error, padded, stacked, weighted_error
from i2v.memory.card import Card
from i2v.plan import Plan
from i2v.request import GenerationRequest

TARGETS = (
    r"(single_)?transformer_blocks\.\d+\.attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
    r"|transformer_blocks\.\d+\.(ff|ff_context)\.net\.(0\.proj|2)|single_transformer_blocks\.\d+\.(proj_mlp|proj_out)"
)
TIMESTEPS = 1000.0  # that the transformer is told for pure noise
GUIDANCE = 1000.0  # and for no guidance
ENCODED_FRAMES = 2  # latent ones that the autoencoder makes at once, as the app's own plans go down to


def trainer(model: FamilyModel) -> HunyuanVideoTrainer:
    """See `families.trainable.Trainer`."""
    assert isinstance(model, HunyuanVideo)
    return HunyuanVideoTrainer(model)


class HunyuanVideoTrainer:
    """HunyuanVideo's own; see `families.trainable.Trainer` for the contract of each method."""

    component = "transformer"
    targets = TARGETS
    measured_with: tuple[str, ...] = ("vae",)

    def __init__(self, model: HunyuanVideo) -> None:
        self._model = model
        self._shift = float(model.scheduler.config.shift)

    def blocks(self, network: nn.Module) -> Sequence[nn.Module]:
        return transformer_blocks(network)

    def measured(
        self, card: Card, frames: Sequence[Image.Image], request: GenerationRequest, conditioning: Conditioning
    ) -> Example:
        latents = self._model.clip_latents(card, frames, Plan(decode_frames=ENCODED_FRAMES))
        return {"latents": latents, PROMPT: conditioning[PROMPT], PROMPT + POOLED: conditioning[PROMPT + POOLED]}

    def loss(self, network: nn.Module, examples: Sequence[Example], draw: Draw, consistency: float) -> Tensor:
        clean = stacked(examples, "latents")
        sigma = shifted(draw.levels, self._shift).view(-1, 1, 1, 1, 1)
        noisy = (1 - sigma) * clean + sigma * draw.noise
        predicted = self._predicted(network, examples, self._begun(noisy, clean), sigma.flatten()).float()
        wanted, found = draw.noise - clean, noisy - sigma * predicted
        counted = self._counted(clean)
        loss = weighted_error(predicted[:, :, counted], wanted[:, :, counted])
        if consistency:
            loss = loss + consistency * change_error(found[:, :, counted], clean[:, :, counted], (1 - sigma).square())
        return loss

    def _begun(self, noisy: Tensor, clean: Tensor) -> Tensor:
        """What the transformer is given of noisy latents."""
        return noisy

    def _counted(self, clean: Tensor) -> slice:
        """The latent frames that it is to predict."""
        return slice(None)

    def _predicted(self, network: nn.Module, examples: Sequence[Example], noisy: Tensor, sigma: Tensor) -> Tensor:
        prompt, there = padded([one[PROMPT] for one in examples])
        guided = network.config.get("guidance_embeds", True)
        return network(
            hidden_states=noisy.to(prompt.dtype),
            timestep=(sigma * TIMESTEPS).to(torch.int64),
            encoder_hidden_states=prompt,
            encoder_attention_mask=there,
            pooled_projections=stacked(examples, PROMPT + POOLED),
            guidance=torch.full_like(sigma, GUIDANCE).to(prompt.dtype) if guided else None,
            return_dict=False,
        )[0]


def shifted(levels: Tensor, shift: float) -> Tensor:
    """The share of noise at `levels` (B,) from 0 to 1, as a schedule with this `shift` has it: more of them noisy."""
    return shift * levels / (1 + (shift - 1) * levels)
