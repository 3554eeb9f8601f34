"""MiniMax-H3: loading a diffusers-layout checkpoint, and its phases encode, denoise_step, sound and decode.

Number for number diffusers' modular blocks for a sentence ("t2va") and for pictures that the video begins and ends with
("fl2va"), whose modules and schedulers are used and whose loops are not. Pictures and sound are denoised together, as
rows of one sequence (`layout.py`). It was distilled to need no guidance: every step asks the network once. What makes
the sound is computed in float32 in every precision, as its authors do.
Shapes: F = 17 n + 5 frames, C = 24 latent channels, f = 5 n + 2, h = H/16, w = W/16; L moments of sound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import (
    AutoencoderKLMiniMaxH3,
    AutoencoderKLMiniMaxH3Audio,
    MiniMaxH3Scheduler,
    MiniMaxH3Transformer3DModel,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from i2v.families.base import Conditioning, Inputs, Stage, StepOutput
from i2v.families.components import Components
from i2v.families.minimax_h3.layout import FIRST, LAST, TEXT, VIDEO, RowLayout, pictures_of
from i2v.families.minimax_h3.programs import PROGRAMS
from i2v.families.minimax_h3.prompts import (
    READ_LAYERS,
    of_a_sentence,
    of_pictures_and_a_sentence,
    text_layers,
    up_to_what_is_read,
)
from i2v.families.minimax_h3.vae import MEAN, STD, by_colour, decoded
from i2v.families.ordinary import PROMPT, OrdinaryModel
from i2v.families.pixels import in_grey, to_bytes, to_tensor
from i2v.families.schedulers import SchedulerMemory, shifted
from i2v.families.weights import read
from i2v.memory.attention import attention_of, check_attention
from i2v.memory.card import Card
from i2v.memory.tokens import token_chunks
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video.sound import Sound

SOUND_PRECISION = torch.float32
PICTURE_SEED = 42  # of what is drawn when a picture becomes latents, whatever the request's
PICTURE_TIME = 0.999  # how clean the picture is held: it was trained with a little noise on it

# In the conditioning: the words' network's rows in the order in which it reads them, and each picture's latents.
ROWS = (("label", TEXT), ("picture", VIDEO), ("last_label", TEXT), ("last_picture", VIDEO), ("prompt", TEXT))
LATENTS = {FIRST: "latents", LAST: "last_latents"}

# The layer that chooses words, and those behind the last that is read, are in the checkpoint and not read.
Qwen3VLModel._keys_to_ignore_on_load_unexpected = [r"\blm_head\.", r"\blanguage_model\.layers\.\d+\."]


def load(folder: Path, precision: torch.dtype) -> MiniMaxH3:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    kinds = {
        "transformer": (MiniMaxH3Transformer3DModel, precision),
        "vae": (AutoencoderKLMiniMaxH3, precision),
        "audio_vae": (AutoencoderKLMiniMaxH3Audio, SOUND_PRECISION),
    }
    reads = {name: partial(read, cls, folder / name, dtype) for name, (cls, dtype) in kinds.items()}
    return MiniMaxH3(
        tokenizer=PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer", local_files_only=True),
        image_processor=Qwen2VLImageProcessorPil.from_pretrained(folder / "processor", local_files_only=True),
        modules=Components({"text_encoder": partial(_qwen, folder / "text_encoder", precision), **reads}),
        channels=MiniMaxH3Transformer3DModel.load_config(folder / "transformer")["in_channels"],
        scheduler=MiniMaxH3Scheduler.from_pretrained(folder / "scheduler", local_files_only=True),
        audio_scheduler=MiniMaxH3Scheduler.from_pretrained(folder / "audio_scheduler", local_files_only=True),
    )


def _qwen(folder: Path, precision: torch.dtype) -> nn.Module:
    config = short(Qwen3VLConfig.from_pretrained(folder))
    return read(Qwen3VLModel, folder, precision, up_to_what_is_read, config=config)


def short(config: Qwen3VLConfig) -> Qwen3VLConfig:
    """`config` with the layers that are read, so that the others are never loaded."""
    config.text_config.num_hidden_layers = min(config.text_config.num_hidden_layers, READ_LAYERS)
    return config


def transformer_blocks(transformer: nn.Module) -> Sequence[nn.Module]:
    """The layers that refine the sentence, and the blocks of the transformer."""
    return [*transformer.token_refiner.refiner_blocks, *transformer.transformer_blocks]


def decoder_blocks(vae: nn.Module) -> Sequence[nn.Module]:
    """The blocks of what makes pictures of latents: nearly all of the autoencoder's weights."""
    return [*vae.decoder.transformer_blocks]


class MiniMaxH3(OrdinaryModel):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    transformer: MiniMaxH3Transformer3DModel
    vae: AutoencoderKLMiniMaxH3
    decode_components = ("vae", "audio_vae")
    blocks: ClassVar = {"text_encoder": text_layers, "transformer": transformer_blocks, "vae": decoder_blocks}

    def __init__(
        self,
        *,
        tokenizer: PreTrainedTokenizerFast,
        image_processor: Qwen2VLImageProcessorPil,
        modules: Components,
        channels: int,
        scheduler: MiniMaxH3Scheduler,
        audio_scheduler: MiniMaxH3Scheduler,
    ) -> None:
        """`modules`: text_encoder, transformer, vae in one precision, audio_vae in SOUND_PRECISION."""
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.modules = modules
        self.scheduler = scheduler
        self.audio_scheduler = audio_scheduler
        self._stepping = scheduler
        self.scheduler_memory = SchedulerMemory(scheduler)  # it remembers nothing: a step is a blend of two numbers
        self._channels = channels
        self._prepared: RowLayout | None = None

    def layout(self, request: GenerationRequest) -> RowLayout:
        """Of the rows of `request`."""
        return RowLayout.of(request, self._channels)

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        given = pictures_of(request)

        def text(card: Card, conditioning: Conditioning) -> None:
            qwen = self.modules["text_encoder"]
            if not given:
                conditioning[PROMPT] = of_a_sentence(card, self.tokenizer, qwen, request.prompt)
                return
            *of_pictures, conditioning[PROMPT] = of_pictures_and_a_sentence(
                card, self.tokenizer, self.image_processor, qwen, [inputs.images[at] for at in given], request.prompt
            )
            conditioning.update(zip((name for name, _ in ROWS), of_pictures, strict=False))

        def latents(card: Card, conditioning: Conditioning) -> None:
            for at in given:
                conditioning[LATENTS[at]] = self._of_a_picture(card, inputs.images[at])

        if not given:
            return [Stage("text", ("text_encoder",), text, ("prompt",))]
        return [
            Stage("text", ("text_encoder",), text, ("prompt",), sees=("image",)),
            Stage("latents", ("vae",), latents, (), sees=("image",)),
        ]

    def _of_a_picture(self, card: Card, picture: Image.Image) -> Tensor:
        """(1, C, 1, h, w): drawn with a seed of their own, and rounded as its authors do."""
        with card.on_host():
            pixels = (to_tensor(picture).unsqueeze(2) - by_colour(MEAN)) / by_colour(STD)
        moments = card.to_host(self.vae.encode(card.to_card(pixels)).latent_dist.parameters)
        with card.on_host():
            drawn = DiagonalGaussianDistribution(moments).sample(torch.Generator().manual_seed(PICTURE_SEED))
            mean, std = (self._known(self.vae, name) for name in ("latents_mean", "latents_std"))
            latents = (drawn.to(torch.float16).float() - mean) / std
        return card.to_card(latents)

    @staticmethod
    def _known(vae: nn.Module, name: str) -> Tensor:
        return torch.tensor(getattr(vae.config, name), dtype=torch.float32).view(1, -1, 1, 1, 1)

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        """(1, N) float32, as `layout` parts it: noise drawn on the host, so that every precision and card starts alike;
        before it the pictures, with as little noise as it was trained with."""
        check_attention(plan)
        self._prepared = layout = self.layout(request)
        self._begin(request)
        generator = torch.Generator().manual_seed(request.seed)
        each = 1, layout.channels, layout.frames, layout.height, layout.width
        held = [torch.empty(0, layout.shapes[0][1])]
        for at in pictures_of(request):
            clean = conditioning[LATENTS[at]].float()
            noise = torch.randn(clean.shape, generator=generator)
            held.append(layout.as_rows(self.scheduler.scale_noise(clean, PICTURE_TIME, noise)))
        frames = layout.as_rows(torch.randn(each, generator=generator))
        sounds = torch.randn(layout.shapes[2], generator=generator)
        return layout.joined(torch.cat(held), frames, sounds)

    def _begin(self, request: GenerationRequest) -> None:
        """Both schedules, that of the pictures shifted as is asked. They count the end, which nothing is asked at, as a
        step."""
        steps = request.num_inference_steps
        self._stepping = shifted(request, self.scheduler)
        for scheduler in (self._stepping, self.audio_scheduler):
            scheduler.set_timesteps(steps + 1)
            if len(scheduler.timesteps) != steps:
                error = f"{len(scheduler.timesteps)} of {steps}"
                raise UserError("models.scheduler_steps", scheduler=type(scheduler).__name__, steps=steps, error=error)
        self.scheduler_memory = SchedulerMemory(self._stepping)

    def denoise_step(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> StepOutput:
        layout = self.layout(request)
        held, frames, sounds = layout.parted(latents)
        sentence = [(conditioning[name], kind) for name, kind in ROWS if name in conditioning]
        spans = layout.spans(tuple((part.shape[1], kind) for part, kind in sentence))
        text = torch.cat([part for part, _ in sentence], dim=1)
        with card.on_host():
            times = [one.timesteps[index] for one in (self._stepping, self.audio_scheduler)]
            timesteps = torch.stack([*times, times[0].clamp(min=PICTURE_TIME)])
            places = layout.places(text.shape[1]).float()
        with attention_of(plan), token_chunks(self.transformer, PROGRAMS, plan.chunk_tokens):
            velocities = self.transformer(
                held, frames, sounds, text, card.to_card(timesteps), spans, card.to_card(places)
            )
        del text
        stepped, clean = [], []
        for scheduler, rows, velocity in zip(
            (self._stepping, self.audio_scheduler), (frames, sounds), velocities, strict=True
        ):
            with card.on_host():
                left = 1 - scheduler.timesteps[index]
                ratio = scheduler.sigmas[index + 1] / scheduler.sigmas[index]
            # As the scheduler steps: it copies these numbers to the card, and the card would be waited for.
            expected = rows + left * velocity.float()
            stepped.append(ratio * rows + (1 - ratio) * expected)
            clean.append(expected)
            del expected
        return StepOutput(layout.joined(held, *stepped), layout.joined(held, *clean))

    def sound(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Sound:
        layout, vae = self.layout(request), self.modules["audio_vae"]
        rows = layout.as_sound(layout.parted(latents)[2])
        with card.on_host():
            mean, std = (self._known(vae, name)[:, :, :, 0, 0] for name in ("latents_mean", "latents_std"))
        waves = vae.decode(rows * card.to_card(std) + card.to_card(mean)).sample
        return Sound(card.to_host(waves[:, 0].float()), vae.config.sampling_rate)

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        layout = self.layout(request)
        found = layout.as_frames(layout.parted(latents)[1])
        with card.on_host():
            mean, std = (self._known(self.vae, name) for name in ("latents_mean", "latents_std"))
            pixel_mean, pixel_std = by_colour(MEAN)[0], by_colour(STD)[0]
        found = found * card.to_card(std) + card.to_card(mean)
        pixel_mean, pixel_std = card.to_card(pixel_mean), card.to_card(pixel_std)
        for clip in decoded(self.vae, found):
            for picture in clip[0].transpose(0, 1):
                yield card.to_host(to_bytes(picture.float() * pixel_std[:, 0] + pixel_mean[:, 0]))

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        """In grey: nobody has published what colours its channels are."""
        assert self._prepared is not None
        layout = self._prepared
        latents = layout.as_frames(layout.parted(predicted.float().cpu())[1])
        return in_grey(latents)
