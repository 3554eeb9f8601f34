"""nano: loading it, and its phases encode, denoise_step and decode.

The UNet denoises motion fields (see `fields`) beside low-resolution channels of the picture; decode warps the
photograph itself (see `warp`). F frames, h x w cells, about 24 x 24 for a square picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet3DConditionModel
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from i2v.families.base import Conditioning, Stage, StepOutput
from i2v.families.guidance import guide
from i2v.families.nano.fields import CHANNELS, field_size, picture_channels, summary, time_channels, unet_input
from i2v.families.nano.warp import MotionDecoder
from i2v.families.pixels import to_bytes, to_tensor
from i2v.families.schedulers import SchedulerMemory, take_step
from i2v.families.text import token_ids
from i2v.memory.card import Card
from i2v.memory.chunking import ChunkSizes, chunks, exact_chunks
from i2v.plan import Plan
from i2v.request import GenerationRequest

PREVIEW_SIDE = 160  # pixels, the longer side


def load(folder: Path, precision: torch.dtype) -> Nano:
    """Load a diffusers-layout folder onto the host, safetensors only, in `precision` whatever the file holds."""
    local = {"local_files_only": True, "use_safetensors": True}
    return Nano(
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=precision, **local),
        unet=UNet3DConditionModel.from_pretrained(folder / "unet", torch_dtype=precision, **local),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
    )


class Nano:
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    denoise_components = ("unet",)
    decode_components = ("decoder",)
    decode_stages = ("image",)

    def __init__(
        self,
        *,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        unet: UNet3DConditionModel,
        scheduler: DDIMScheduler,
    ) -> None:
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder.eval().requires_grad_(False)
        self.unet = unet.eval().requires_grad_(False)
        self.decoder = MotionDecoder().eval()
        self.scheduler = scheduler
        self.modules = {"text_encoder": self.text_encoder, "unet": self.unet, "decoder": self.decoder}

    def encode_stages(self, request: GenerationRequest, picture: Image.Image, plan: Plan) -> Sequence[Stage]:
        def text(card: Card, conditioning: Conditioning) -> None:
            conditioning["prompt"] = self._encode_text(card, request.prompt)
            conditioning["negative"] = self._encode_text(card, request.negative_prompt)

        def image(card: Card, conditioning: Conditioning) -> None:
            h, w = field_size(request.height, request.width)
            with card.on_host():
                pixels = to_tensor(picture)
                channels = picture_channels(pixels, h, w, request.width / request.height).to(self.unet.dtype)
            conditioning["pixels"] = card.to_card(pixels)
            conditioning["picture"] = card.to_card(channels)

        return (
            Stage("text", ("text_encoder",), text, ("prompt", "negative_prompt")),
            Stage("image", (), image, (), sees_picture=True),
        )

    def _encode_text(self, card: Card, text: str) -> Tensor:
        """(1, T, D): the last layer for every token, padding included, as in training."""
        with card.on_host():
            ids = token_ids(self.tokenizer, text)
        return self.text_encoder(card.to_card(ids)).last_hidden_state

    def prepare(self, request: GenerationRequest, plan: Plan) -> Tensor:
        """(1, 7, F, h, w): noise drawn in float32 on the host, so that every precision and card starts alike."""
        self.scheduler.set_timesteps(request.num_inference_steps)
        self._timesteps = [int(timestep) for timestep in self.scheduler.timesteps]
        self.scheduler_memory = SchedulerMemory(self.scheduler)
        shape = (1, CHANNELS, request.num_frames, *field_size(request.height, request.width))
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(request.seed))
        return (noise * self.scheduler.init_noise_sigma).to(self.unet.dtype)

    def denoise_step(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> StepOutput:
        timestep = self._timesteps[index]
        velocity = self._predict_velocity(card, conditioning, latents, timestep, request, plan)
        stepped = take_step(self.scheduler, velocity, timestep, latents, seed=request.seed, index=index)
        return StepOutput(latents=stepped.prev_sample, predicted=stepped.pred_original_sample)

    def _predict_velocity(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        timestep: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> Tensor:
        times = time_channels(torch.arange(request.num_frames, dtype=torch.float32))
        sample = unet_input(latents, conditioning["picture"], card.to_card(times))

        def predict(text: Tensor) -> Tensor:
            batch = text.shape[0]
            return self.unet(
                sample.expand(batch, -1, -1, -1, -1),
                timestep,
                encoder_hidden_states=text,
                timestep_cond=summary(text),
                return_dict=False,
            )[0]

        with exact_chunks(self.unet, ChunkSizes(frames=plan.chunk_frames, pixels=plan.chunk_pixels)):
            return guide(
                predict,
                without=(conditioning["negative"],),
                wanted=(conditioning["prompt"],),
                scale=request.guidance_scale,
                mode=plan.cfg,
            )

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        # One frame at a time whatever the plan says: nothing is gained from more.
        pixels = card.to_card(conditioning["pixels"])
        refined = self.decoder.refine(pixels, latents)
        for frame in chunks(request.num_frames, 1):
            yield card.to_host(to_bytes(self.decoder.render(pixels, refined, frame.start)))

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        pixels = conditioning["pixels"]
        scale = PREVIEW_SIDE / max(pixels.shape[-2:])
        size = [max(8, round(side * scale)) for side in pixels.shape[-2:]]
        thumbnail = functional.interpolate(pixels, size=size, mode="area")
        refined = self.decoder.refine(thumbnail, predicted)
        frames = range(predicted.shape[2])
        return torch.stack([to_bytes(self.decoder.render(thumbnail, refined, index)) for index in frames])
