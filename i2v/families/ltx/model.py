"""LTX-Video 0.9.0 and 0.9.1: loading a diffusers-layout checkpoint, and its phases encode, denoise_step and decode.

Number for number diffusers' `LTXPipeline` and `LTXImageToVideoPipeline`, whose modules and scheduler are used and whose
loops are not.
Shapes: F = 8 k + 1 frames, C = 128 latent channels, f = k + 1, h = H/32, w = W/32; N = f h w tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXVideoTransformer3DModel
from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from i2v.families.base import Conditioning, Inputs, Stage, StepOutput
from i2v.families.components import Components
from i2v.families.ltx.programs import PROGRAMS
from i2v.families.ltx.prompts import of_a_sentence
from i2v.families.ltx.vae import NOISE_SCALE, TIMESTEP, LtxCalls, noises, vae_blocks
from i2v.families.ltx2.layout import SPACE_SCALE, TIME_SCALE, as_tokens
from i2v.families.ltx2.vae import frames_of
from i2v.families.ordinary import NEGATIVE, PROMPT, OrdinaryModel, flow_step, mean_and_std, velocity_of
from i2v.families.pixels import in_grey, to_tensor
from i2v.families.schedulers import STEP_SEED_OFFSET, SchedulerMemory, shifted
from i2v.families.skeletons import read_configs
from i2v.families.t5 import t5_blocks, t5_tokenizer
from i2v.families.weights import read
from i2v.memory.attention import attention_of, check_attention
from i2v.memory.card import Card
from i2v.memory.step_cache import StepCache
from i2v.memory.tokens import token_chunks
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.request import GenerationRequest

PICTURE, LAST = "picture", "last"  # in the conditioning


def load(folder: Path, precision: torch.dtype) -> Ltx:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    return Ltx(**parts_of(folder, precision))


def parts_of(folder: Path, precision: torch.dtype) -> dict[str, Any]:
    """What a model is made of, from a checkpoint folder."""
    kinds = {"text_encoder": T5EncoderModel, "transformer": LTXVideoTransformer3DModel, "vae": AutoencoderKLLTXVideo}
    return {
        "tokenizer": t5_tokenizer(folder / "tokenizer"),
        "modules": Components({name: partial(read, cls, folder / name, precision) for name, cls in kinds.items()}),
        "channels": read_configs(folder, ("vae",))["vae"]["latent_channels"],
        "precision": precision,
        "scheduler": FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
    }


def transformer_blocks(transformer: nn.Module) -> Sequence[nn.Module]:
    """The blocks of the transformer."""
    return [*transformer.transformer_blocks]


class Ltx(OrdinaryModel):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    transformer: LTXVideoTransformer3DModel
    vae: AutoencoderKLLTXVideo
    blocks: ClassVar = {"text_encoder": t5_blocks, "transformer": transformer_blocks, "vae": vae_blocks}
    sentence_tokens: ClassVar = 128
    sentence_filled: ClassVar = True  # what it is filled up with changes what the encoder makes of it

    def __init__(
        self,
        *,
        tokenizer: PreTrainedTokenizerBase,
        modules: Components,
        channels: int,
        precision: torch.dtype,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        """`modules`: text_encoder, transformer and vae, in `precision`; `channels` of its latents."""
        self.tokenizer = tokenizer
        self.modules = modules
        self.scheduler = scheduler
        self._stepping = scheduler
        self.scheduler_memory = SchedulerMemory(scheduler)
        self.step_cache = StepCache(0.0)
        self._channels = channels
        self._precision = precision

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        sentences = {PROMPT: request.prompt}
        if request.guidance_scale > 1:
            sentences[NEGATIVE] = request.negative_prompt

        def text(card: Card, conditioning: Conditioning) -> None:
            given = self.tokenizer, self.modules["text_encoder"]
            for name, sentence in sentences.items():
                conditioning[name] = of_a_sentence(card, *given, sentence, self.sentence_tokens, self.sentence_filled)

        def picture(card: Card, conditioning: Conditioning) -> None:
            with card.on_host():
                _, drawn = self._drawn(request)
            for name, noise in drawn.items():
                with card.on_host():
                    pixels = to_tensor(inputs.images[-1 if name == LAST else 0]) * 2 - 1
                found = self.vae.encode(card.to_card(pixels.to(self._precision)).unsqueeze(2)).latent_dist
                latents = found.mean.float() + found.std.float() * card.to_card(noise)
                mean, std = mean_and_std(self.vae, latents)
                conditioning[name] = (latents - mean) / std
                del found, latents

        reads = ("prompt", "negative_prompt") if NEGATIVE in sentences else ("prompt",)
        stages = [Stage("text", ("text_encoder",), text, reads)]
        if request.task == "i2v":
            stages.append(Stage("picture", ("vae",), picture, ("seed", "num_frames"), sees=("image",)))
        return stages

    def _drawn(self, request: GenerationRequest) -> tuple[Tensor, dict[str, Tensor]]:
        """The noise of a run, from its seed: what the clip begins as, and what the latents of pictures are drawn by."""
        generator = torch.Generator().manual_seed(request.seed)
        drawn = {}
        if request.task == "i2v":
            drawn[PICTURE] = torch.randn(self._shape(request, 1), generator=generator)
        return torch.randn(self._shape(request), generator=generator), drawn

    def _shape(self, request: GenerationRequest, frames: int | None = None) -> tuple[int, ...]:
        """Of the latents of the clip, or of so many `frames` of it."""
        frames = frames or (request.num_frames - 1) // TIME_SCALE + 1
        return 1, self._channels, frames, request.height // SPACE_SCALE, request.width // SPACE_SCALE

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        """(1, C, f, h, w) float32: noise drawn on the host, so that every precision and card starts alike; in the first
        frame's place the picture."""
        check_attention(plan)
        self.step_cache = StepCache(plan.step_cache)
        self._stepping = shifted(request, self.scheduler)
        self._begin(request)
        self._stepping.set_begin_index(0)  # else a step would look for its place by value
        self.scheduler_memory = SchedulerMemory(self._stepping)
        latents, _ = self._drawn(request)
        if PICTURE in conditioning:
            latents[:, :, :1] = conditioning[PICTURE]
        return latents

    def _begin(self, request: GenerationRequest) -> None:
        """The schedule of a run: it leans towards noise the more, the more tokens there are, or as is asked."""
        config, steps = self._stepping.config, request.num_inference_steps
        if steps < 2 and config.get("shift_terminal"):
            name = type(self._stepping).__name__
            raise UserError("models.scheduler_steps", scheduler=name, steps=steps, error="shift_terminal takes two.")
        _, _, frames, height, width = self._shape(request)
        names, usual = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift"), (256, 4096, 0.5, 1.15)
        mu = calculate_shift(frames * height * width, *map(config.get, names, usual))
        self._stepping.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)

    def denoise_step(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> StepOutput:
        with card.on_host():
            timestep = self._stepping.timesteps[index]
        latents, behind = self._held(card, conditioning, latents, index, request)
        held = 1 if PICTURE in conditioning else 0  # latent frames that are the picture's, and stay so
        tokens = torch.cat([as_tokens(latents), *behind], dim=1).to(self._precision)
        given = self._given(card, latents, timestep, held, len(behind), request)

        def answer(sentence: str) -> Tensor:
            network, blocks = self.transformer, transformer_blocks(self.transformer)
            with (
                attention_of(plan),
                token_chunks(network, PROGRAMS, plan.chunk_tokens),
                self.step_cache.used(network, blocks, sentence),
            ):
                return network(tokens, conditioning[sentence], **given)

        velocity = velocity_of(answer, request.guidance_scale, request, index)
        count = latents[0, 0].numel()
        velocity = velocity[:, :count].transpose(1, 2).unflatten(2, latents.shape[2:]).contiguous()
        velocity[:, :, :held] = 0
        made = flow_step(card, self._stepping, velocity, latents, seed=request.seed, index=index)
        made.latents[:, :, :held] = latents[:, :, :held]
        return made

    def _held(
        self, card: Card, conditioning: Conditioning, latents: Tensor, index: int, request: GenerationRequest
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """The latents as step `index` sees them, and tokens that stand behind theirs, never noisy."""
        return latents, ()

    def _given(
        self, card: Card, latents: Tensor, timestep: Tensor, held: int, behind: int, request: GenerationRequest
    ) -> dict[str, Any]:
        """What the network is told beside tokens and sentences; `behind`: of how many frames there are tokens behind
        those of the clip."""
        frames, height, width = latents.shape[2:]
        each, count = height * width, frames * height * width
        spans = ((held * each, 1), (count, 0), (count + behind * each, 1))
        with card.on_host():
            timesteps = torch.stack([timestep, torch.zeros_like(timestep)][: 2 if held else 1])
            rows, columns = (torch.arange(size) * float(SPACE_SCALE) for size in (height, width))
            seconds = self._seconds(frames, behind, request)
            where = torch.stack(torch.meshgrid(seconds, rows, columns, indexing="ij")).flatten(1).unsqueeze(0)
        return {"timesteps": card.to_card(timesteps), "spans": spans, "coordinates": card.to_card(where)}

    def _seconds(self, frames: int, behind: int, request: GenerationRequest) -> Tensor:
        """When the latent frames are, the clip's and those that stand behind."""
        return torch.arange(frames, dtype=torch.float32) * (TIME_SCALE / request.fps)

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        vae = self.vae
        mean, std = mean_and_std(vae, latents)
        found = latents * std / vae.config.scaling_factor + mean
        found, timestep = found.to(self._precision), None
        with card.on_host():
            generator = torch.Generator().manual_seed(
                request.seed + STEP_SEED_OFFSET * (request.num_inference_steps + 1)
            )
        if vae.config.timestep_conditioning:
            with card.on_host():
                noise = torch.randn(found.shape, generator=generator).to(self._precision)
                timestep = torch.tensor([TIMESTEP], dtype=self._precision)
            found = (1 - NOISE_SCALE) * found + NOISE_SCALE * card.to_card(noise)
            timestep = card.to_card(timestep)
            del noise
        with card.on_host():
            added = noises(vae.decoder, *found.shape[3:], generator)
        added = {layer: tuple(card.to_card(one.to(self._precision)) for one in drawn) for layer, drawn in added.items()}
        yield from frames_of(card, vae, found, plan.decode_rows, LtxCalls(vae.decoder, timestep, added))

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        """In grey: nobody has published what colours its channels are."""
        return in_grey(predicted.float().cpu())
