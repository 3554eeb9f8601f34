"""nano: loading it, and its phases encode, denoise_step and decode.

The UNet denoises motion fields (see `fields`) beside low-resolution channels of the picture; decode warps the
photograph itself (see `warp`). K key times, h x w cells, about 32 x 32 for a square picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import DDIMScheduler, UNet3DConditionModel
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from i2v.families.base import Conditioning, Inputs, Stage, StepOutput
from i2v.families.blocks import encoder_layers, unet_blocks
from i2v.families.components import Components
from i2v.families.guidance import guide, scale_at
from i2v.families.nano.fields import (
    CHANNELS,
    CLIP_SECONDS,
    KEY_TIMES,
    field_size,
    picture_channels,
    region_channels,
    summary,
    time_channels,
    unet_input,
)
from i2v.families.nano.finder import Finder, places, working_size
from i2v.families.nano.life import Moment
from i2v.families.nano.place import Place, Wish, place_of
from i2v.families.nano.reader import Reader
from i2v.families.nano.reading import read, rows
from i2v.families.nano.said import Understood, said, shown
from i2v.families.nano.warp import MotionDecoder, Refined
from i2v.families.pixels import to_bytes, to_tensor
from i2v.families.schedulers import SchedulerMemory, begun, by_step, expected, take_step
from i2v.families.text import token_ids
from i2v.memory.card import Card
from i2v.memory.chunking import ChunkSizes, chunks, exact_chunks
from i2v.messages import Message
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video import region as regions

PREVIEW_SIDE = 160  # pixels, the longer side
PREVIEW_FRAMES = 12
HALF_SURE = 0.5


def load(folder: Path, precision: torch.dtype) -> Nano:
    """Load a diffusers-layout folder onto the host, safetensors only, in `precision` whatever the file holds."""
    local = {"local_files_only": True, "use_safetensors": True}
    return Nano(
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=precision, **local),
        unet=UNet3DConditionModel.from_pretrained(folder / "unet", torch_dtype=precision, **local),
        reader=Reader.load(folder / "reader", precision),
        finder=Finder.load(folder / "finder", precision),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
    )


class Nano:
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    denoise_stages: ClassVar = {"denoise": ("unet",)}
    decode_components = ("decoder",)
    decode_stages = ("text", "image")
    blocks: ClassVar = {"unet": unet_blocks, "text_encoder": encoder_layers}

    def __init__(
        self,
        *,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        reader: Reader,
        finder: Finder,
        unet: UNet3DConditionModel,
        scheduler: DDIMScheduler,
    ) -> None:
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder.eval().requires_grad_(False)
        self.unet = unet.eval().requires_grad_(False)
        self.reader = reader.eval().requires_grad_(False)
        self.finder = finder.eval().requires_grad_(False)
        self.decoder = MotionDecoder().eval()
        self.scheduler = scheduler
        self.modules = Components.of({
            "text_encoder": self.text_encoder, "reader": self.reader, "finder": self.finder, "unet": self.unet,
            "decoder": self.decoder,
        })  # fmt: skip

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        def text(card: Card, conditioning: Conditioning) -> None:
            conditioning["prompt"] = self._encode_text(card, request.prompt)
            conditioning["negative"] = self._encode_text(card, request.negative_prompt)
            conditioning["wish"] = self.reader.wish(summary(conditioning["prompt"]))
            with card.on_host():
                ids = torch.cat([token_ids(self.tokenizer, row) for row in rows(request.prompt)])
            conditioning["read"] = read(self.text_encoder, self.reader, card.to_card(ids))

        def image(card: Card, conditioning: Conditioning) -> None:
            h, w = field_size(request.height, request.width)
            with card.on_host():
                pixels = to_tensor(inputs.first)
                channels = picture_channels(pixels, h, w, request.width / request.height)
                size = working_size(request.height, request.width)
                small = functional.interpolate(pixels, size=size, mode="bilinear", antialias=True).clamp(0, 1)
                region, way = _region(request), torch.tensor([request.way or (0.0, 0.0)])
            conditioning["pixels"] = card.to_card(pixels)
            conditioning["picture"] = card.to_card(channels.to(self.unet.dtype))
            conditioning["region"] = card.to_card(region)
            conditioning["way"] = card.to_card(way)
            conditioning["found"] = places(self.finder(card.to_card(small.to(self.unet.dtype))))

        return (
            Stage("text", ("text_encoder", "reader"), text, ("prompt", "negative_prompt")),
            Stage("image", ("finder",), image, ("region", "way"), sees=("image",)),
        )

    def _encode_text(self, card: Card, text: str) -> Tensor:
        """(1, T, D): the last layer for every token, padding included, as in training."""
        with card.on_host():
            ids = token_ids(self.tokenizer, text)
        return self.text_encoder(card.to_card(ids)).last_hidden_state

    def said(self, request: GenerationRequest, conditioning: Conditioning) -> Sequence[Message]:
        return said(Understood.of(request.prompt, conditioning["read"]), brushed=request.region is not None)

    def shown(self, request: GenerationRequest, conditioning: Conditioning, latents: Tensor) -> Sequence[Message]:
        _, refined = self._small(conditioning, latents, request.num_frames / request.fps)
        lost = request.region is None and float(refined.sure) < HALF_SURE
        understood = Understood.of(request.prompt, conditioning["read"])
        return shown(understood, lost=lost, view=float(refined.view.size))

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        """(1, 7, K, h, w): noise drawn in float32 on the host, so that every precision and card starts alike."""
        self._stepping = begun(request, self.scheduler)
        self._timesteps = by_step(self._stepping.timesteps, request.num_inference_steps)
        self.scheduler_memory = SchedulerMemory(self._stepping)
        shape = (1, CHANNELS, len(KEY_TIMES), *field_size(request.height, request.width))
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(request.seed))
        return (noise * self._stepping.init_noise_sigma).to(self.unet.dtype)

    def denoise_stage(self, index: int) -> str:
        return "denoise"

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
            velocity = self._predict_velocity(card, conditioning, latents, timestep, now, plan)
            stepped = take_step(self._stepping, velocity, timestep, latents, seed=request.seed, index=position)
            latents, predicted = stepped.prev_sample, expected(self._stepping, stepped)
        return StepOutput(latents=latents, predicted=latents if predicted is None else predicted)

    def _predict_velocity(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        timestep: int | Tensor,
        request: GenerationRequest,
        plan: Plan,
    ) -> Tensor:
        seen = seen_channels(conditioning, latents)
        sample = unet_input(self._stepping.scale_model_input(latents, timestep), seen, card.to_card(time_channels()))

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
                rescale=request.guidance_rescale,
            )

    def decode(
        self, card: Card, conditioning: Conditioning, latents: Tensor, request: GenerationRequest, plan: Plan
    ) -> Iterator[Tensor]:
        # One frame at a time whatever the plan says: nothing is gained from more.
        on_card = {name: card.to_card(conditioning[name]) for name in ("pixels", "wish", "region", "found")}
        pixels, wish, place = on_card["pixels"], Wish.of(on_card["wish"]), place_in(on_card)
        refined = self.decoder.refine(pixels, latents, wish, place, request.num_frames / request.fps)
        size = request.height, request.width
        for frame in chunks(request.num_frames, 1):
            moment = Moment.of(frame.start, request.num_frames, request.fps)
            yield card.to_host(to_bytes(self.decoder.render(pixels, refined, moment, size)))

    def preview(self, predicted: Tensor, conditioning: Conditioning) -> Tensor:
        thumbnail, refined = self._small(conditioning, predicted, CLIP_SECONDS)
        height, width = thumbnail.shape[-2:]
        moments = (Moment(index / PREVIEW_FRAMES, CLIP_SECONDS) for index in range(PREVIEW_FRAMES))
        return torch.stack(
            [to_bytes(self.decoder.render(thumbnail, refined, moment, (height, width))) for moment in moments]
        )

    def _small(self, conditioning: Conditioning, latents: Tensor, seconds: float) -> tuple[Tensor, Refined]:
        """The photograph in a preview's size (1, 3, h, w), and what is needed to render a clip of it."""
        pixels = conditioning["pixels"]
        scale = PREVIEW_SIDE / max(pixels.shape[-2:])
        size = [max(8, round(side * scale)) for side in pixels.shape[-2:]]
        thumbnail = functional.interpolate(pixels, size=size, mode="area")
        wish, place = Wish.of(conditioning["wish"]), place_in(conditioning)
        return thumbnail, self.decoder.refine(thumbnail, latents, wish, place, seconds)


def _region(request: GenerationRequest) -> Tensor:
    """(1, 2, h, w), as long as a region is kept with: what a person brushed, and 1 everywhere if one did."""
    if (brushed := regions.in_frame_of(request)) is None:
        width, height = regions.size_in_shape_of(request.width, request.height)
        return torch.zeros(1, 2, height, width)
    region = to_tensor(brushed.convert("RGB"))[:, :1]
    return torch.cat([region, torch.ones_like(region)], dim=1)


def place_in(conditioning: Conditioning) -> Place:
    """Where what was asked for lives, from what encode has made."""
    return place_of(Wish.of(conditioning["wish"]), conditioning["region"], conditioning["found"])


def seen_channels(conditioning: Conditioning, latents: Tensor) -> Tensor:
    """What the UNet sees of picture and region beside `latents` (B, 7, K, h, w): (1, 21, h, w)."""
    place, (h, w) = place_in(conditioning), latents.shape[-2:]
    lives = torch.lerp(_sized(place.found, h, w), _sized(place.brushed, h, w), place.painted)
    region = region_channels(lives, place.known, conditioning["way"].float(), h, w).to(latents)
    return torch.cat([conditioning["picture"], region], dim=1)


def _sized(region: Tensor, h: int, w: int) -> Tensor:
    return functional.interpolate(region, size=(h, w), mode="area")
