"""Stable Video Diffusion: loading a diffusers-layout checkpoint, and its phases encode, denoise_step and decode.

The phases follow diffusers' `StableVideoDiffusionPipeline` number for number. It reads no sentence: a video is made of
the picture alone. Shapes: F frames, C = 4 latent channels, h = H/8, w = W/8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    SchedulerMixin,
    UNetSpatioTemporalConditionModel,
)
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from i2v.families.base import Conditioning, Inputs, Stage, StepOutput
from i2v.families.blocks import encoder_layers, spatio_temporal_blocks
from i2v.families.components import Components
from i2v.families.guidance import guide, scale_at
from i2v.families.ordinary import OrdinaryModel
from i2v.families.pixels import in_colours, to_bytes, to_tensor
from i2v.families.schedulers import SchedulerMemory, begun, by_step, expected, take_step
from i2v.families.svd.vae import decoded
from i2v.families.weights import read_half
from i2v.memory.card import Card
from i2v.memory.chunking import ChunkSizes
from i2v.memory.spatio_temporal import spatio_temporal_chunks
from i2v.plan import Plan
from i2v.request import GenerationRequest

# The picture's noise is drawn from a stream of its own, so that it shares no value with the initial latents.
PICTURE_SEED_OFFSET = 1
SPACE_SCALE = 8
CLIP_SIZE = (224, 224)

# What diffusers' pipeline asks for where nothing is said: how much moves, how far the picture is from clean, and the
# guidance of the first frame, from which it rises to the last.
MOTION_BUCKET_ID = 127
NOISE_AUG_STRENGTH = 0.02
MIN_GUIDANCE_SCALE = 1.0


def motion_of(request: GenerationRequest) -> int:
    """How much is to move, from 0 to 255."""
    return MOTION_BUCKET_ID if request.motion_bucket_id is None else request.motion_bucket_id


def noise_of(request: GenerationRequest) -> float:
    """How much noise the picture is given."""
    return NOISE_AUG_STRENGTH if request.noise_aug_strength is None else request.noise_aug_strength


def first_guidance_of(request: GenerationRequest) -> float:
    """The guidance of the first frame."""
    return MIN_GUIDANCE_SCALE if request.min_guidance_scale is None else request.min_guidance_scale


def load(folder: Path, precision: torch.dtype) -> Svd:
    """A checkpoint folder, whose networks are read when they are needed. Safetensors only; the fp16 variant is taken
    where the folder has it, unless float32 is asked for and the full weights are there too."""
    classes = {
        "image_encoder": CLIPVisionModelWithProjection,
        "unet": UNetSpatioTemporalConditionModel,
        "vae": AutoencoderKLTemporalDecoder,
    }
    return Svd(
        feature_extractor=CLIPImageProcessor.from_pretrained(folder / "feature_extractor", local_files_only=True),
        modules=Components(
            {name: partial(read_half, network, folder / name, precision) for name, network in classes.items()}
        ),
        precision=precision,
        scheduler=EulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
    )


class Svd(OrdinaryModel):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    denoise_stages: ClassVar = {"denoise": ("unet",)}
    blocks: ClassVar = {"image_encoder": encoder_layers, "unet": spatio_temporal_blocks}

    def __init__(
        self,
        *,
        feature_extractor: CLIPImageProcessor,
        modules: Components,
        precision: torch.dtype,
        scheduler: SchedulerMixin,
    ) -> None:
        """`modules`: image_encoder, unet and vae, in `precision`."""
        self.feature_extractor = feature_extractor
        self.modules = modules
        self.scheduler = scheduler
        self._precision = precision

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        def image(card: Card, conditioning: Conditioning) -> None:
            conditioning["image_embeds"] = self._encode_image(card, inputs.first)

        def latents(card: Card, conditioning: Conditioning) -> None:
            conditioning["image_latents"] = self._encode_latents(card, inputs.first, request)

        return (
            Stage("image", ("image_encoder",), image, (), sees=("image",)),
            Stage("latents", ("vae",), latents, ("seed", "noise_aug_strength"), sees=("image",)),
        )

    def _encode_image(self, card: Card, picture: Image.Image) -> Tensor:
        """(1, 1, D): CLIP's embedding of the whole picture, made square."""
        encoder = self.modules["image_encoder"]
        with card.on_host():
            square = _resize_with_antialiasing(to_tensor(picture) * 2 - 1, CLIP_SIZE)
            pixels = self.feature_extractor(
                images=(square + 1) / 2,
                do_normalize=True,
                do_center_crop=False,
                do_resize=False,
                do_rescale=False,
                return_tensors="pt",
            ).pixel_values.to(encoder.dtype)
        return encoder(card.to_card(pixels)).image_embeds.unsqueeze(1)

    def _encode_latents(self, card: Card, picture: Image.Image, request: GenerationRequest) -> Tensor:
        """(1, C, h, w): the picture with a little noise, as the model was trained; not scaled, as latents are."""
        vae = self.modules["vae"]
        with card.on_host():
            pixels = (to_tensor(picture) * 2 - 1).contiguous()  # else torch sums up with an error of 1e-4
            generator = torch.Generator().manual_seed(request.seed + PICTURE_SEED_OFFSET)
            noise = torch.randn(pixels.shape, generator=generator)
            pixels = (pixels + noise_of(request) * noise).to(vae.dtype)
        return vae.encode(card.to_card(pixels)).latent_dist.mode()

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        """(1, F, C, h, w): noise drawn in float32 on the host, so that every precision and card starts alike."""
        self._stepping = begun(request, self.scheduler)
        self._stepping.set_begin_index(0)  # else a step would look for its place by value
        self._stepping.sigmas = self._stepping.sigmas.tolist()  # a step asks them questions, which a dry run can not
        self._timesteps = [
            [(position, float(timestep)) for position, timestep in steps]
            for steps in by_step(self._stepping.timesteps, request.num_inference_steps)
        ]
        self.scheduler_memory = SchedulerMemory(self._stepping)
        shape = (1, request.num_frames, 4, request.height // SPACE_SCALE, request.width // SPACE_SCALE)
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
        predicted = None
        for position, timestep in self._timesteps[index]:
            sample = self._stepping.scale_model_input(latents, timestep)
            output = self._predict(card, conditioning, sample, timestep, index, request, plan)
            stepped = take_step(self._stepping, output, timestep, latents, seed=request.seed, index=position)
            latents, predicted = stepped.prev_sample, expected(self._stepping, stepped)
        return StepOutput(latents=latents, predicted=latents if predicted is None else predicted)

    def _predict(
        self,
        card: Card,
        conditioning: Conditioning,
        sample: Tensor,
        timestep: float,
        index: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> Tensor:
        unet, frames = self.modules["unet"], request.num_frames
        # The network was trained on one frame per second less than a clip has.
        told = torch.tensor([[request.fps - 1, motion_of(request), noise_of(request)]], dtype=self._precision)
        told, timestep = card.to_card(told), card.to_card(torch.full((1,), timestep))
        scale: float | Tensor = scale_at(request.guidance_scale, request, index)
        if scale > 1:
            rising = torch.linspace(first_guidance_of(request), scale, frames).to(self._precision)
            scale = card.to_card(rising[None, :, None, None, None])
        else:
            scale = 1.0
        embeds, picture = conditioning["image_embeds"], conditioning["image_latents"]

        def predict(embeds: Tensor, picture: Tensor) -> Tensor:
            batch = embeds.shape[0]
            of_each = picture.unsqueeze(1).expand(-1, frames, -1, -1, -1)
            return unet(
                torch.cat([sample.expand(batch, -1, -1, -1, -1), of_each], dim=2),
                timestep,
                encoder_hidden_states=embeds,
                added_time_ids=told.expand(batch, -1),
                return_dict=False,
            )[0]

        with spatio_temporal_chunks(unet, ChunkSizes(frames=plan.chunk_frames, pixels=plan.chunk_pixels)):
            return guide(
                predict,
                without=(torch.zeros_like(embeds), torch.zeros_like(picture)),
                wanted=(embeds, picture),
                scale=scale,
                mode=plan.cfg,
                rescale=request.guidance_rescale,
            )

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        vae = self.modules["vae"]
        for picture in decoded(vae.decoder, latents[0] / vae.config.scaling_factor, plan.decode_frames):
            yield card.to_host(to_bytes(picture / 2 + 0.5))

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        return in_colours(predicted[0])
