"""I2VGen-XL: loading a diffusers-layout checkpoint, and its phases encode, denoise_step and decode.

The phases follow diffusers' `I2VGenXLPipeline` number for number, but not its `__call__`, which has no step
callback, crashes with transformers >= 5.6 (its `text_encoder.text_model` is gone) and draws the picture's latents
from the global random state instead of the seed. Shapes: F frames, C = 4 latent channels, h = H/8, w = W/8.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
from diffusers import AutoencoderKL, I2VGenXLUNet
from diffusers.pipelines.deprecated.i2vgen_xl.pipeline_i2vgen_xl import _center_crop_wide, _resize_bilinear
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from i2v.families.anchors import Anchors
from i2v.families.base import Conditioning, Inputs, Stage, StepOutput
from i2v.families.blocks import encoder_layers, unet_blocks
from i2v.families.components import Components
from i2v.families.fused import fused
from i2v.families.guidance import guide, scale_at
from i2v.families.long_clips import SIXTEEN_FRAMES
from i2v.families.ordinary import OrdinaryModel
from i2v.families.pixels import in_colours, to_bytes, to_tensor
from i2v.families.schedulers import SchedulerMemory, begun, by_step, expected, take_step
from i2v.families.text import token_ids
from i2v.families.weights import read_half
from i2v.memory.card import Card
from i2v.memory.chunking import ChunkSizes, chunks, exact_chunks
from i2v.plan import Plan
from i2v.request import GenerationRequest

# The picture's latents are drawn from a stream of their own, so that they share no value with the initial noise.
PICTURE_SEED_OFFSET = 1


def load(folder: Path, precision: torch.dtype) -> I2VGenXL:
    """A checkpoint folder, whose networks are read when they are needed. Safetensors only; the fp16 variant is taken
    where the folder has it, unless float32 is asked for and the full weights are there too."""
    classes = {
        "text_encoder": CLIPTextModel, "image_encoder": CLIPVisionModelWithProjection, "unet": I2VGenXLUNet,
        "vae": AutoencoderKL,
    }  # fmt: skip
    return I2VGenXL(
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        feature_extractor=CLIPImageProcessor.from_pretrained(folder / "feature_extractor", local_files_only=True),
        modules=Components(
            {name: partial(read_half, network, folder / name, precision) for name, network in classes.items()}
        ),
        latent_scale=latent_scale(AutoencoderKL.load_config(folder / "vae", local_files_only=True)),
        precision=precision,
        scheduler=_scheduler(folder / "scheduler"),
    )


def latent_scale(vae_config: Mapping[str, Any]) -> int:
    """How many pixels a side of a latent stands for. A configuration may leave out what is AutoencoderKL's default."""
    return 2 ** (len(vae_config.get("block_out_channels", (64,))) - 1)


def _scheduler(folder: Path) -> diffusers.SchedulerMixin:
    name = json.loads((folder / "scheduler_config.json").read_text(encoding="utf-8"))["_class_name"]
    return getattr(diffusers, name).from_pretrained(folder, local_files_only=True)


class I2VGenXL(OrdinaryModel):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    denoise_stages: ClassVar = {"denoise": ("unet",)}
    longer = SIXTEEN_FRAMES
    by_frame = ("image_latents",)
    blocks: ClassVar = {"text_encoder": encoder_layers, "image_encoder": encoder_layers, "unet": unet_blocks}

    def __init__(
        self,
        *,
        tokenizer: CLIPTokenizer,
        feature_extractor: CLIPImageProcessor,
        modules: Components,
        latent_scale: int,
        precision: torch.dtype,
        scheduler: diffusers.SchedulerMixin,
    ) -> None:
        """`modules`: text_encoder, image_encoder, unet and vae, in `precision`."""
        self.tokenizer = tokenizer
        self.feature_extractor = feature_extractor
        self.modules = modules
        self.scheduler = scheduler
        self._latent_scale = latent_scale
        self._precision = precision

    @property
    def text_encoder(self) -> CLIPTextModel:
        return self.modules["text_encoder"]

    @property
    def image_encoder(self) -> CLIPVisionModelWithProjection:
        return self.modules["image_encoder"]

    @property
    def unet(self) -> I2VGenXLUNet:
        return self.modules["unet"]

    @property
    def vae(self) -> AutoencoderKL:
        return self.modules["vae"]

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        def text(card: Card, conditioning: Conditioning) -> None:
            conditioning["prompt"] = self._encode_text(card, request.prompt)
            conditioning["negative"] = self._encode_text(card, request.negative_prompt)

        def image(card: Card, conditioning: Conditioning) -> None:
            conditioning["image_embeds"] = self._encode_image(card, inputs.first)

        def latents(card: Card, conditioning: Conditioning) -> None:
            conditioning["image_latents"] = self._encode_latents(card, inputs.first, request)

        return (
            Stage("text", ("text_encoder",), text, ("prompt", "negative_prompt")),
            Stage("image", ("image_encoder",), image, (), sees=("image",)),
            Stage("latents", ("vae",), latents, ("num_frames", "seed"), sees=("image",)),
        )

    def _encode_text(self, card: Card, text: str) -> Tensor:
        """(1, 77, D): the last but one layer, through the final norm, as the model was trained (clip_skip=1)."""
        with card.on_host():
            ids = token_ids(self.tokenizer, text)
        hidden = self.text_encoder(card.to_card(ids), output_hidden_states=True).hidden_states[-2]
        # transformers 5.6 took away the inner `text_model`.
        return getattr(self.text_encoder, "text_model", self.text_encoder).final_layer_norm(hidden)

    def _encode_image(self, card: Card, picture: Image.Image) -> Tensor:
        """(1, 1, D): CLIP's embedding of the picture's middle square."""
        with card.on_host():
            crop = self.feature_extractor.crop_size
            square = _resize_bilinear(
                _center_crop_wide(picture, (picture.width, picture.width)), (crop["width"], crop["height"])
            )
            pixels = self.feature_extractor(
                images=to_tensor(square),
                do_normalize=True,
                do_center_crop=False,
                do_resize=False,
                do_rescale=False,
                return_tensors="pt",
            ).pixel_values.to(self.image_encoder.dtype)
        return self.image_encoder(card.to_card(pixels)).image_embeds.unsqueeze(1)

    def _encode_latents(self, card: Card, picture: Image.Image, request: GenerationRequest) -> Tensor:
        """(1, C, F, h, w): the picture's latents, then planes that count from 0 to 1 to mark each frame's place."""
        with card.on_host():
            pixels = (to_tensor(picture) * 2 - 1).to(self.vae.dtype)
        posterior = self.vae.encode(card.to_card(pixels)).latent_dist
        with card.on_host():
            generator = torch.Generator().manual_seed(request.seed + PICTURE_SEED_OFFSET)
            noise = torch.randn(posterior.mean.shape, generator=generator).to(self.vae.dtype)
        first = posterior.mean + posterior.std * card.to_card(noise)
        first = card.to_host((first * self.vae.config.scaling_factor).unsqueeze(2))
        later = request.num_frames - 1
        with card.on_host():
            planes = [torch.ones_like(first) * ((index + 1) / later) for index in range(later)]
            return torch.cat([first, *planes], dim=2)

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        """(1, C, F, h, w): noise drawn in float32 on the host, so that every precision and card starts alike."""
        self._stepping = begun(request, self.scheduler)
        self._timesteps = by_step(self._stepping.timesteps, request.num_inference_steps)
        self.scheduler_memory = SchedulerMemory(self._stepping)
        shape = (
            1,
            self.unet.config.in_channels,
            request.num_frames,
            request.height // self._latent_scale,
            request.width // self._latent_scale,
        )
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(request.seed))
        return (noise * self._stepping.init_noise_sigma).to(self._precision)

    def denoise_step(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> StepOutput:
        now, predicted = replace(request, guidance_scale=scale_at(request.guidance_scale, request, index)), None
        for position, timestep in self._timesteps[index]:
            noise = self._predict_noise(card, conditioning, latents, timestep, now, plan)
            # The scheduler treats every frame alone, as pictures.
            with self._where_the_clip_is(card, request):
                noise, sample = _as_pictures(noise), _as_pictures(latents)
                stepped = take_step(self._stepping, noise, timestep, sample, seed=request.seed, index=position)
                latents = _as_clip(stepped.prev_sample)
                predicted = expected(self._stepping, stepped)
        return StepOutput(latents=latents, predicted=latents if predicted is None else _as_clip(predicted))

    def _where_the_clip_is(self, card: Card, request: GenerationRequest) -> AbstractContextManager[None]:
        """A long clip is on the host."""
        return card.on_host() if self.longer.is_long(request.num_frames) else nullcontext()

    def _predict_noise(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        timestep: int | Tensor,
        request: GenerationRequest,
        plan: Plan,
    ) -> Tensor:
        with self._where_the_clip_is(card, request):
            sample = self._stepping.scale_model_input(latents, timestep)
        image_latents = conditioning["image_latents"]
        if not self.longer.is_long(request.num_frames):
            return self._predict_at_once(card, conditioning, sample, image_latents, timestep, request, plan)
        anchors = Anchors(card, self.unet, self.longer.anchor_frames)

        def predict(window: slice) -> Tensor:
            with anchors.shared(keeps=window.start == 0), self._beginning_with(card.to_card(image_latents[:, :, 0])):
                part, its_place = (card.to_card(whole[:, :, window]) for whole in (sample, image_latents))
                return self._predict_at_once(card, conditioning, part, its_place, timestep, request, plan)

        return fused(card, self.longer, sample, predict)

    @contextmanager
    def _beginning_with(self, picture: Tensor) -> Iterator[None]:
        """For the time of the `with`, the network sees `picture` (1, C, h, w) as the frame that the clip begins with,
        whichever window of it is asked about. The planes that mark each frame's place are the window's own."""
        layer = self.unet.image_latents_context_embedding
        forward = layer.forward
        layer.forward = lambda first: forward(picture.expand_as(first))
        try:
            yield
        finally:
            del layer.forward

    def _predict_at_once(
        self,
        card: Card,
        conditioning: Conditioning,
        sample: Tensor,
        image_latents: Tensor,
        timestep: int | Tensor,
        request: GenerationRequest,
        plan: Plan,
    ) -> Tensor:
        """Of frames that all are on the card: `sample` and `image_latents` (1, C, F, h, w)."""
        image_embeds = conditioning["image_embeds"]

        def predict(text: Tensor, image: Tensor) -> Tensor:
            batch = text.shape[0]
            return self.unet(
                sample.expand(batch, -1, -1, -1, -1),
                timestep,
                fps=card.to_card(torch.full((batch,), request.fps)),
                image_latents=image_latents.expand(batch, -1, -1, -1, -1),
                image_embeddings=image,
                encoder_hidden_states=text,
                return_dict=False,
            )[0]

        with exact_chunks(self.unet, ChunkSizes(frames=plan.chunk_frames, pixels=plan.chunk_pixels)):
            return guide(
                predict,
                without=(conditioning["negative"], torch.zeros_like(image_embeds)),
                wanted=(conditioning["prompt"], image_embeds),
                scale=max(1.0, request.guidance_scale),  # as diffusers: below 1 is no guidance
                mode=plan.cfg,
                rescale=request.guidance_rescale,
            )

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        is_long = self.longer.is_long(request.num_frames)
        at_once = min(plan.decode_frames or self.longer.native_frames, self.longer.native_frames)
        for part in chunks(latents.shape[2], at_once if is_long else plan.decode_frames):
            frames = latents[:, :, part]
            if is_long:
                frames = card.to_card(frames)
            pixels = self.vae.decode(_as_pictures(frames) / self.vae.config.scaling_factor, return_dict=False)[0]
            for picture in pixels:
                yield card.to_host(to_bytes(picture / 2 + 0.5))
            del frames, pixels, picture  # or they would stand beside the next ones

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        return in_colours(_as_pictures(predicted))


def _as_pictures(clip: Tensor) -> Tensor:
    """(1, C, F, h, w) -> (F, C, h, w)"""
    return clip[0].transpose(0, 1)


def _as_clip(pictures: Tensor) -> Tensor:
    """(F, C, h, w) -> (1, C, F, h, w)"""
    return pictures.transpose(0, 1).unsqueeze(0)
