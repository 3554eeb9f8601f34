"""Wan 2.1: loading a diffusers-layout checkpoint, and its phases encode, denoise_step and decode.

Number for number diffusers' `WanPipeline` and `WanVideoToVideoPipeline`, whose modules and scheduler are used and whose
loop is not. Its autoencoder is computed in float32 in every precision, as its authors do.
Shapes: F = 4 k + 1 frames, C = 16 latent channels, f = k + 1, h = H/8, w = W/8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from i2v.families.base import Conditioning, Inputs, Stage, StepOutput
from i2v.families.components import Components, Read
from i2v.families.ordinary import NEGATIVE, PROMPT, OrdinaryModel, flow_step, velocity_of
from i2v.families.pixels import to_bytes, window_of
from i2v.families.schedulers import SchedulerMemory, SchedulerState, begun
from i2v.families.wan.programs import PROGRAMS
from i2v.families.wan.prompts import of_a_sentence
from i2v.families.wan.vae import frames_of
from i2v.families.wan.vae_strips import encode
from i2v.families.weights import read
from i2v.memory.attention import attention_of, check_attention
from i2v.memory.card import Card
from i2v.memory.step_cache import StepCache
from i2v.memory.tokens import token_chunks
from i2v.plan import Plan
from i2v.request import GenerationRequest

TIME_SCALE, SPACE_SCALE = 4, 8  # frames and pixels of a side that a latent stands for
VAE_PRECISION = torch.float32

PICTURES, CLIP = "pictures", "clip"  # in the conditioning

# Latents seen directly as colours, rows channels, columns R, G, B, and what is added to them: the factors that ComfyUI
# publishes for this autoencoder (comfy/latent_formats.py, class Wan21).
LATENT_TO_RGB = (
    (-0.1299, -0.1692, 0.2932),
    (0.0671, 0.0406, 0.0442),
    (0.3568, 0.2548, 0.1747),
    (0.0372, 0.2344, 0.1420),
    (0.0313, 0.0189, -0.0328),
    (0.0296, -0.0956, -0.0665),
    (-0.3477, -0.4059, -0.2925),
    (0.0166, 0.1902, 0.1975),
    (-0.0412, 0.0267, -0.1364),
    (-0.1293, 0.0740, 0.1636),
    (0.0680, 0.3019, 0.1128),
    (0.0032, 0.0581, 0.0639),
    (-0.1251, 0.0927, 0.1699),
    (0.0060, -0.0633, 0.0005),
    (0.3477, 0.2275, 0.2950),
    (0.1984, 0.0913, 0.1861),
)
LATENT_TO_RGB_OFFSET = (-0.1835, -0.0868, -0.3360)


def load(folder: Path, precision: torch.dtype) -> Wan:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    return Wan(**parts_of(folder, precision))


def parts_of(
    folder: Path, precision: torch.dtype, transformers: Sequence[str] = ("transformer",), **others: Read
) -> dict[str, Any]:
    """What a model is made of, from a checkpoint folder. `transformers`: the folders of those that denoise; `others`:
    what reads further networks."""
    return {
        "tokenizer": PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer", local_files_only=True),
        "modules": Components(
            {
                "text_encoder": partial(read, UMT5EncoderModel, folder / "text_encoder", precision),
                **others,
                **{name: partial(read, WanTransformer3DModel, folder / name, precision) for name in transformers},
                "vae": partial(read, AutoencoderKLWan, folder / "vae", VAE_PRECISION),
            }
        ),
        "precision": precision,
        "scheduler": UniPCMultistepScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
    }


def text_blocks(encoder: nn.Module) -> Sequence[nn.Module]:
    """The layers of the text encoder."""
    return [*encoder.encoder.block]


def transformer_blocks(transformer: nn.Module) -> Sequence[nn.Module]:
    """The blocks of the transformer."""
    return [*transformer.blocks]


class Wan(OrdinaryModel):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    transformer: WanTransformer3DModel
    vae: AutoencoderKLWan
    blocks: ClassVar = {"text_encoder": text_blocks, "transformer": transformer_blocks}
    latent_to_rgb: ClassVar = (LATENT_TO_RGB, LATENT_TO_RGB_OFFSET)
    space_scale: ClassVar = SPACE_SCALE

    def __init__(
        self,
        *,
        tokenizer: PreTrainedTokenizerFast,
        modules: Components,
        precision: torch.dtype,
        scheduler: UniPCMultistepScheduler,
    ) -> None:
        """`modules`: text_encoder and transformer in `precision`, vae in VAE_PRECISION."""
        self.tokenizer = tokenizer
        self.modules = modules
        self.scheduler = scheduler
        self.scheduler_memory = SchedulerMemory(scheduler)
        self.step_cache = StepCache(0.0)
        self._precision = precision

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        sentences = {PROMPT: request.prompt}
        if request.guidance_scale > 1:
            sentences[NEGATIVE] = request.negative_prompt

        def text(card: Card, conditioning: Conditioning) -> None:
            for name, sentence in sentences.items():
                conditioning[name] = of_a_sentence(card, self.tokenizer, self.modules["text_encoder"], sentence)

        def clip(card: Card, conditioning: Conditioning) -> None:
            size = request.num_frames, request.height, request.width
            mean, std = self._statistics(card)
            latents = encode(self.vae, size, partial(window_of, card, inputs.clip), plan.decode_rows)
            conditioning[CLIP] = (latents - mean) / std

        reads = ("prompt", "negative_prompt") if NEGATIVE in sentences else ("prompt",)
        stages = [Stage("text", ("text_encoder",), text, reads)]
        if request.task == "v2v":
            stages.append(Stage("clip", ("vae",), clip, (), sees=("video",)))
        return stages

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        """(1, C, f, h, w) float32: noise drawn on the host, so that every precision and card starts alike. From a video
        all steps are made over what its strength leaves of the schedule."""
        check_attention(plan)
        self.step_cache = StepCache(plan.step_cache)
        shift = self.scheduler.config.flow_shift
        begin = request.strength if request.task == "v2v" else 1.0
        self._stepping = begun(request, self.scheduler, begin=begin, shift=shift, flow_shift=shift)
        self._stepping.set_begin_index(0)  # else a step would look for its place by value
        self.scheduler_memory = SchedulerMemory(self._stepping)
        frames = (request.num_frames - 1) // TIME_SCALE + 1
        size = request.height // self.space_scale, request.width // self.space_scale
        shape = 1, len(self.latent_to_rgb[0]), frames, *size
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(request.seed))
        if CLIP not in conditioning:
            return noise
        sigma = self._stepping.sigmas[0]
        return sigma * noise + (1 - sigma) * conditioning[CLIP]

    def denoise_step(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> StepOutput:
        answer = partial(self._velocity, card, conditioning, latents, index, plan)
        velocity = velocity_of(answer, self._scale(request, index), request, index)
        return flow_step(card, self._stepping, velocity, latents, seed=request.seed, index=index)

    def _scale(self, request: GenerationRequest, index: int) -> float:
        """How strong guidance is at step `index`, before its curve."""
        return request.guidance_scale

    def _velocity(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        plan: Plan,
        sentence: str,
    ) -> Tensor:
        """What the transformer answers to `latents` and a sentence at step `index`, in its own precision."""
        (name,) = self.denoise_stages[self.denoise_stage(index)]
        transformer, timestep = self.modules[name], self._timestep(card, index)
        blocks = transformer_blocks(transformer)
        with (
            attention_of(plan),
            token_chunks(transformer, PROGRAMS, plan.chunk_tokens),
            self.step_cache.used(transformer, blocks, sentence),
        ):
            return transformer(
                hidden_states=self._given(latents, conditioning),
                timestep=timestep,
                encoder_hidden_states=conditioning[sentence],
                encoder_hidden_states_image=conditioning.get(PICTURES),
                return_dict=False,
            )[0]

    def _timestep(self, card: Card, index: int) -> Tensor:
        """That of step `index`, on the card: of all tokens, or of the first latent frame's and of the others."""
        with card.on_host():
            timestep = self._stepping.timesteps[index].reshape(1)
        return card.to_card(timestep)

    def _given(self, latents: Tensor, conditioning: Conditioning) -> Tensor:
        """What the transformer is given in the place of `latents`."""
        return latents.to(self._precision)

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        self.scheduler_memory.write(SchedulerState(), card.to_card)  # it is done, and what it remembers is on the card
        mean, std = self._statistics(card)
        latents = latents.to(VAE_PRECISION) * std + mean
        yield from frames_of(card, self.vae, latents, plan.decode_rows)

    def _statistics(self, card: Card) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the autoencoder's latents by channel: those that are denoised have 0 and 1."""
        with card.on_host():
            mean, std = (
                torch.tensor(getattr(self.vae.config, name), dtype=VAE_PRECISION).view(1, -1, 1, 1, 1)
                for name in ("latents_mean", "latents_std")
            )
        return card.to_card(mean), card.to_card(std)

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        factors, offset = map(torch.tensor, self.latent_to_rgb)
        colours = torch.einsum("cfhw,cr->frhw", predicted[0].float().cpu(), factors)
        colours += offset[:, None, None]
        return torch.stack([to_bytes(picture / 2 + 0.5) for picture in colours])
