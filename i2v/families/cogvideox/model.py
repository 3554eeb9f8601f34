"""CogVideoX, all versions: loading a diffusers-layout checkpoint, and its phases encode, denoise_step and decode.

Number for number diffusers' `CogVideoXPipeline` and `CogVideoXImageToVideoPipeline`, whose modules and scheduler are
used and whose loops are not.
Shapes: F = 8 k + 1 frames, C = 16 latent channels, f = 2 k + 1, h = H/8, w = W/8; 1.5 denoises latent frames in pairs,
and so one more before the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel, SchedulerMixin
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from i2v.families.base import Conditioning, Inputs, Stage, StepOutput
from i2v.families.cogvideox.places import SPACE_SCALE, added_places, turns_of, without_unread
from i2v.families.cogvideox.programs import PROGRAMS
from i2v.families.cogvideox.vae import frames_of, of_a_picture
from i2v.families.components import Components
from i2v.families.guidance import guided, scale_at
from i2v.families.ordinary import OrdinaryModel
from i2v.families.pixels import in_grey, to_tensor
from i2v.families.schedulers import SchedulerMemory, begun, by_step, expected, take_step
from i2v.families.skeletons import read_configs
from i2v.families.t5 import t5_blocks, t5_tokenizer
from i2v.families.weights import read
from i2v.memory.attention import attention_of, check_attention
from i2v.memory.card import Card
from i2v.memory.step_cache import StepCache
from i2v.memory.tokens import token_chunks
from i2v.plan import Plan
from i2v.request import GenerationRequest

TIME_SCALE = 4  # frames that a latent stands for
SENTENCE_TOKENS = 226
OFFSET = 2.0  # what networks are told that take an `ofs`

PROMPT, NEGATIVE, PICTURE = "prompt", "negative", "picture"  # in the conditioning


def load(folder: Path, precision: torch.dtype) -> CogVideoX:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    kinds = {
        "text_encoder": T5EncoderModel, "transformer": CogVideoXTransformer3DModel, "vae": AutoencoderKLCogVideoX
    }  # fmt: skip
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))["_class_name"]
    return CogVideoX(
        tokenizer=t5_tokenizer(folder / "tokenizer"),
        modules=Components(
            {
                name: partial(read, cls, folder / name, precision, without_unread if name == "transformer" else None)
                for name, cls in kinds.items()
            }
        ),
        **latents_of(read_configs(folder, ("transformer",))["transformer"]),
        precision=precision,
        scheduler=getattr(diffusers, scheduler).from_pretrained(folder / "scheduler", local_files_only=True),
    )


def latents_of(config: Mapping[str, Any]) -> dict[str, int]:
    """How many channels latents have, and how many of their frames are denoised together, by the transformer's
    configuration."""
    return {"channels": config.get("out_channels", 16), "together": config.get("patch_size_t") or 1}


def transformer_blocks(transformer: nn.Module) -> Sequence[nn.Module]:
    """The blocks of the transformer."""
    return [*transformer.transformer_blocks]


class CogVideoX(OrdinaryModel):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    blocks: ClassVar = {"text_encoder": t5_blocks, "transformer": transformer_blocks}

    def __init__(
        self,
        *,
        tokenizer: PreTrainedTokenizerBase,
        modules: Components,
        channels: int,
        together: int,
        precision: torch.dtype,
        scheduler: SchedulerMixin,
    ) -> None:
        """`modules`: text_encoder, transformer and vae, in `precision`; `channels` of its latents, of whose frames so
        many are denoised `together`."""
        self.tokenizer = tokenizer
        self.modules = modules
        self.scheduler = scheduler
        self.scheduler_memory = SchedulerMemory(scheduler)
        self.step_cache = StepCache(0.0)
        self._channels = channels
        self._together = together
        self._precision = precision

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        sentences = {PROMPT: request.prompt}
        if request.guidance_scale > 1:
            sentences[NEGATIVE] = request.negative_prompt

        def text(card: Card, conditioning: Conditioning) -> None:
            for name, sentence in sentences.items():
                conditioning[name] = self._of_a_sentence(card, sentence)

        def picture(card: Card, conditioning: Conditioning) -> None:
            with card.on_host():
                noise, _ = self._drawn(request)
                pixels = (to_tensor(inputs.first) * 2 - 1).to(self._precision)
            vae = self.modules["vae"]
            found = of_a_picture(vae, card.to_card(pixels).unsqueeze(2))
            latents = found.mean.float() + found.std.float() * card.to_card(noise)
            scale = vae.config.scaling_factor
            # Its authors divided by it in training where they meant to multiply.
            latents = latents / scale if vae.config.invert_scale_latents else latents * scale
            conditioning[PICTURE] = latents.transpose(1, 2)

        reads = ("prompt", "negative_prompt") if NEGATIVE in sentences else ("prompt",)
        stages = [Stage("text", ("text_encoder",), text, reads)]
        if request.task == "i2v":
            stages.append(Stage("picture", ("vae",), picture, ("seed",), sees=("image",)))
        return stages

    def _of_a_sentence(self, card: Card, sentence: str) -> Tensor:
        """(1, T, D): the encoder, without a mask, sees it filled up, and so does the transformer."""
        with card.on_host():
            ids = self.tokenizer(
                sentence, padding="max_length", max_length=SENTENCE_TOKENS, truncation=True, return_tensors="pt"
            ).input_ids
        return self.modules["text_encoder"](card.to_card(ids)).last_hidden_state

    def _drawn(self, request: GenerationRequest) -> tuple[Tensor | None, Tensor]:
        """The noise of a run, from its seed: what the latents of a picture are drawn by, (1, C, 1, h, w), and what the
        clip begins as, (1, f, C, h, w)."""
        generator = torch.Generator().manual_seed(request.seed)
        size = request.height // SPACE_SCALE, request.width // SPACE_SCALE
        picture = None
        if request.task == "i2v":
            picture = torch.randn(1, self._channels, 1, *size, generator=generator)
        frames = (request.num_frames - 1) // TIME_SCALE + 1
        frames += -frames % self._together
        return picture, torch.randn(1, frames, self._channels, *size, generator=generator)

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        """(1, f, C, h, w) float32: noise drawn on the host, so that every precision and card starts alike."""
        check_attention(plan)
        self.step_cache = StepCache(plan.step_cache)
        self._stepping = begun(request, self.scheduler)
        self._timesteps = by_step(self._stepping.timesteps, request.num_inference_steps)
        self.scheduler_memory = SchedulerMemory(self._stepping)
        _, noise = self._drawn(request)
        return noise * self._stepping.init_noise_sigma

    def denoise_step(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> StepOutput:
        predicted = latents
        for position, timestep in self._timesteps[index]:
            given = self._given(card, conditioning, latents, timestep)
            output = self._predicted(conditioning[PROMPT], PROMPT, given, plan)
            if request.guidance_scale > 1:
                without = self._predicted(conditioning[NEGATIVE], NEGATIVE, given, plan)
                scale = scale_at(request.guidance_scale, request, index)
                output = guided(without, output, scale, request.guidance_rescale)
            stepped = take_step(self._stepping, output, timestep, latents, seed=request.seed, index=position)
            latents, predicted = stepped.prev_sample, expected(self._stepping, stepped)
        return StepOutput(latents=latents, predicted=predicted)

    def _given(self, card: Card, conditioning: Conditioning, latents: Tensor, timestep: int | Tensor) -> dict[str, Any]:
        """What the transformer is given beside a sentence."""
        network = self.modules["transformer"]
        with card.on_host():
            places, turns = added_places(network, latents), turns_of(network.config, latents)
            told = torch.full((1,), int(timestep)), torch.full((1,), OFFSET, dtype=self._precision)
        given = latents.to(self._precision)
        if PICTURE in conditioning:  # beside the first frame; beside the others nothing
            beside = torch.zeros_like(given)
            beside[:, :1] = conditioning[PICTURE]
            given = torch.cat([given, beside], dim=2)
        return {
            "latents": given,
            "timestep": card.to_card(told[0]),
            "offset": card.to_card(told[1]),
            "turns": turns and tuple(card.to_card(one) for one in turns),
            "places": None if places is None else card.to_card(places.to(self._precision)),
        }

    def _predicted(self, text: Tensor, sentence: str, given: Mapping[str, Any], plan: Plan) -> Tensor:
        """What the transformer answers to a sentence, in float32."""
        network = self.modules["transformer"]
        with (
            attention_of(plan),
            token_chunks(network, PROGRAMS, plan.chunk_tokens),
            self.step_cache.used(network, transformer_blocks(network), sentence),
        ):
            return network(text=text, **given).float()

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        vae = self.modules["vae"]
        kept = latents[:, self._more(latents) :].transpose(1, 2)
        yield from frames_of(card, vae, (kept / vae.config.scaling_factor).to(self._precision), plan.decode_frames)

    def _more(self, latents: Tensor) -> int:
        """How many latent frames stand before the first of the clip: those of a clip are odd."""
        return 1 - latents.shape[1] % 2

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        """In grey: nobody has published what colours its channels are."""
        return in_grey(predicted[:, self._more(predicted) :].transpose(1, 2).float().cpu())
