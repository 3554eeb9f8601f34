"""HunyuanVideo-1.5: loading a diffusers-layout checkpoint, and its phases encode, denoise_step and decode.

Number for number diffusers' `HunyuanVideo15Pipeline`, whose modules, scheduler and conversation are used and whose loop
is not; latents stay float32 where the pipeline's are in half precision.
Shapes: F = 4 k + 1 frames, C = 32 latent channels, f = k + 1, h = H/16, w = W/16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLHunyuanVideo15, FlowMatchEulerDiscreteScheduler, HunyuanVideo15Transformer3DModel
from torch import Tensor, nn
from transformers import (
    ByT5Tokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2_5_VLTextModel,
    T5EncoderModel,
)

from i2v.families.base import Conditioning, Inputs, Stage, StepOutput
from i2v.families.blocks import encoder_layers
from i2v.families.components import Components, Read
from i2v.families.hunyuan_video_15.guider import check_guider
from i2v.families.hunyuan_video_15.programs import PROGRAMS
from i2v.families.hunyuan_video_15.prompts import (
    of_a_sentence,
    of_glyphs,
    texts_in_quotes,
    up_to_the_layer_that_is_read,
)
from i2v.families.hunyuan_video_15.vae import frames_of
from i2v.families.ordinary import NEGATIVE, PROMPT, OrdinaryModel, flow_step, velocity_of
from i2v.families.pixels import in_grey
from i2v.families.schedulers import SchedulerMemory, begun_flow
from i2v.families.weights import read
from i2v.memory.attention import attention_of, check_attention
from i2v.memory.card import Card
from i2v.memory.tokens import token_chunks
from i2v.plan import Plan
from i2v.request import GenerationRequest

CHANNELS = 32  # of latents
TIME_SCALE, SPACE_SCALE = 4, 16  # frames and pixels of a side that a latent stands for

GLYPHS = "_glyphs"  # in the conditioning, behind the name of a sentence
PICTURE, FEATURES = "picture", "features"  # its latents, and how it is seen


def load(folder: Path, precision: torch.dtype) -> HunyuanVideo15:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only. Raises UserError for a way
    of guiding that is not known."""
    return HunyuanVideo15(**parts_of(folder, precision))


def parts_of(folder: Path, precision: torch.dtype, **others: Read) -> dict[str, Any]:
    """What a model is made of, from a checkpoint folder; `others`: what reads further networks."""
    check_guider(folder)
    transformer = HunyuanVideo15Transformer3DModel
    return {
        "tokenizer": PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer", local_files_only=True),
        "tokenizer_2": ByT5Tokenizer.from_pretrained(folder / "tokenizer_2", local_files_only=True),
        "modules": Components(
            {
                "text_encoder": partial(
                    read, Qwen2_5_VLTextModel, folder / "text_encoder", precision, up_to_the_layer_that_is_read
                ),
                "text_encoder_2": partial(read, T5EncoderModel, folder / "text_encoder_2", precision),
                **others,
                "transformer": partial(read, transformer, folder / "transformer", precision),
                "vae": partial(read, AutoencoderKLHunyuanVideo15, folder / "vae", precision),
            }
        ),
        "transformer_config": transformer.load_config(folder / "transformer", local_files_only=True),
        "precision": precision,
        "scheduler": FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
    }


def byt5_layers(encoder: nn.Module) -> Sequence[nn.Module]:
    """The layers of the network that reads texts in quotes."""
    return [*encoder.encoder.block]


def transformer_blocks(transformer: nn.Module) -> Sequence[nn.Module]:
    """The layers that refine the sentence, and the blocks of the transformer."""
    return [*transformer.context_embedder.token_refiner.refiner_blocks, *transformer.transformer_blocks]


class HunyuanVideo15(OrdinaryModel):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    transformer: HunyuanVideo15Transformer3DModel
    vae: AutoencoderKLHunyuanVideo15
    blocks: ClassVar = {
        "text_encoder": encoder_layers, "text_encoder_2": byt5_layers, "transformer": transformer_blocks
    }  # fmt: skip

    def __init__(
        self,
        *,
        tokenizer: PreTrainedTokenizerBase,
        tokenizer_2: PreTrainedTokenizerBase,
        modules: Components,
        transformer_config: Mapping[str, Any],
        precision: torch.dtype,
        scheduler: FlowMatchEulerDiscreteScheduler,
        in_quotes: Callable[[str], str | None] = texts_in_quotes,
    ) -> None:
        """`modules`: text_encoder, text_encoder_2, transformer and vae, in `precision`; `in_quotes`: what of a sentence
        is to be written in the video."""
        self.tokenizer = tokenizer
        self.tokenizer_2 = tokenizer_2
        self.modules = modules
        self.scheduler = scheduler
        self.scheduler_memory = SchedulerMemory(scheduler)
        self._looks_ahead = bool(transformer_config.get("use_meanflow"))
        self._precision = precision
        self._in_quotes = in_quotes

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        sentences = {PROMPT: request.prompt}
        if request.guidance_scale > 1:
            sentences[NEGATIVE] = request.negative_prompt

        def text(card: Card, conditioning: Conditioning) -> None:
            for name, sentence in sentences.items():
                conditioning[name] = of_a_sentence(card, self.tokenizer, self.modules["text_encoder"], sentence)

        def glyphs(card: Card, conditioning: Conditioning) -> None:
            for name, sentence in sentences.items():
                if texts := self._in_quotes(sentence):
                    encoder = self.modules["text_encoder_2"]
                    conditioning[name + GLYPHS] = of_glyphs(card, self.tokenizer_2, encoder, texts)

        reads = ("prompt", "negative_prompt") if NEGATIVE in sentences else ("prompt",)
        return [
            Stage("text", ("text_encoder",), text, reads),
            Stage("glyphs", ("text_encoder_2",), glyphs, reads),
        ]

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        """(1, C, f, h, w) float32: noise drawn on the host, so that every precision and card starts alike."""
        check_attention(plan)
        self._stepping = begun_flow(request, self.scheduler, shift=self.scheduler.config.shift, begin=1.0)
        self.scheduler_memory = SchedulerMemory(self._stepping)
        frames = (request.num_frames - 1) // TIME_SCALE + 1
        shape = 1, CHANNELS, frames, request.height // SPACE_SCALE, request.width // SPACE_SCALE
        return torch.randn(shape, generator=torch.Generator().manual_seed(request.seed))

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
        velocity = velocity_of(answer, request.guidance_scale, request, index)
        return flow_step(card, self._stepping, velocity, latents, seed=request.seed, index=index)

    def _velocity(
        self, card: Card, conditioning: Conditioning, latents: Tensor, index: int, plan: Plan, sentence: str
    ) -> Tensor:
        """What the transformer answers to `latents` and a sentence at step `index`, in its own precision."""
        with card.on_host():
            times = torch.cat([self._stepping.timesteps, torch.zeros(1)])[index : index + 2].to(self._precision)
        now, after = card.to_card(times).split(1)
        with attention_of(plan), token_chunks(self.transformer, PROGRAMS, plan.chunk_tokens):
            return self.transformer(
                self._given(latents, conditioning.get(PICTURE)),
                now,
                conditioning[sentence],
                conditioning.get(sentence + GLYPHS),
                conditioning.get(FEATURES),
                after if self._looks_ahead else None,
            )

    def _given(self, latents: Tensor, picture: Tensor | None) -> Tensor:
        """(1, 2 C + 1, f, h, w): the latents, the picture in the first frame alone, and 1 where it is."""
        channels = latents.shape[1]
        given = latents.new_zeros(1, 2 * channels + 1, *latents.shape[2:], dtype=self._precision)
        given[:, :channels] = latents
        if picture is not None:
            given[:, channels:-1, :1] = picture
            given[:, -1:, :1] = 1
        return given

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        latents = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        return frames_of(card, self.vae, latents, plan.decode_rows)

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        """In grey: nobody has published what colours its channels are."""
        return in_grey(predicted.float().cpu())
