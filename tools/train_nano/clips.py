"""Finished clips for the evaluation: from a model, from exact fields, and the controls that must fail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from i2v.families.base import Inputs
from i2v.families.nano.fields import positions
from i2v.families.nano.life import LIVING, PLACED, Moment
from i2v.families.nano.model import Nano, load, place_in
from i2v.families.nano.place import Wish, place_of
from i2v.families.nano.view import View as Shown
from i2v.families.nano.warp import MotionDecoder, Refined
from i2v.memory.card import HostCard
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video.region import written
from tools.train_nano.dataset import to_latents
from tools.train_nano.motions import ZOOM_RATE, Fields, key_times

WAVE_SIZE, WAVES = 0.008, 2  # short sides, and whole swings in a clip, of the warp made by hand


@dataclass(frozen=True)
class Settings:
    """How clips are made: frames, of how many seconds in all, steps, guidance."""

    frames: int = 48
    fps: int = 12
    steps: int = 25
    guidance: float = 1.0

    @property
    def seconds(self) -> float:
        return self.frames / self.fps

    def moment(self, index: int) -> Moment:
        return Moment.of(index, self.frames, self.fps)


@dataclass(frozen=True)
class Brushed:
    """What a person brushed: `region` (H, W) float 0..1, and the way of a stroke, or None."""

    region: np.ndarray
    way: tuple[float, float] | None = None


@dataclass(frozen=True)
class Take:
    """A clip before it is drawn: the picture (1, 3, H, W), what the decoder made of the latents, and the settings."""

    pixels: Tensor
    refined: Refined
    settings: Settings

    @property
    def alive(self) -> np.ndarray:
        """Where it lives, (h, w) 0..1 at the working resolution, of the whole picture."""
        return self.refined.alive[0].numpy()

    @property
    def size(self) -> float:
        """How much of the picture's sides is seen."""
        return float(self.refined.view.size)

    def shown(self, mask: np.ndarray) -> np.ndarray:
        """The part of a mask (H, W) of the picture that the first frame shows, (H, W)."""
        return in_view(mask, self.refined.view)

    @torch.no_grad()
    def frame(self, index: int, pixels: Tensor | None = None) -> np.ndarray:
        """(H, W, 3) uint8; over other `pixels` (1, 3, H, W) where some are given."""
        pixels = self.pixels if pixels is None else pixels
        size = pixels.shape[-2], pixels.shape[-1]
        made = MotionDecoder().render(pixels, self.refined, self.settings.moment(index), size)
        return (made.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)

    def clip(self) -> np.ndarray:
        """(F, H, W, 3) uint8."""
        return np.stack([self.frame(index) for index in range(self.settings.frames)])


class Maker:
    """Clips from a model folder, on one processor, through the phases that the app runs."""

    def __init__(self, folder: Path) -> None:
        self.model: Nano = load(folder, torch.float32)

    @torch.no_grad()
    def latents(
        self, picture: Image.Image, prompt: str, seed: int, settings: Settings, brushed: Brushed | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Clean latents and the conditioning for `prompt`."""
        request = _request(picture, prompt, seed, settings, brushed)
        plan, card, conditioning = Plan(), HostCard(), {}
        for stage in self.model.encode_stages(request, Inputs({0: picture}), plan):
            stage.run(card, conditioning)
        latents = self.model.prepare(request, plan, conditioning)
        for index in range(settings.steps):
            latents = self.model.denoise_step(card, conditioning, latents, index, request, plan).latents
        return latents, conditioning

    def take(
        self, picture: Image.Image, prompt: str, seed: int, settings: Settings, brushed: Brushed | None = None
    ) -> Take:
        """Everything but the frames."""
        latents, conditioning = self.latents(picture, prompt, seed, settings, brushed)
        wish = Wish.of(conditioning["wish"])
        pixels = conditioning["pixels"]
        with torch.no_grad():
            place = place_in(conditioning)
            refined = self.model.decoder.refine(pixels, latents, wish, place, settings.seconds)
        return Take(pixels, refined, settings)

    def clip(
        self, picture: Image.Image, prompt: str, seed: int, settings: Settings, brushed: Brushed | None = None
    ) -> np.ndarray:
        """(F, H, W, 3) uint8."""
        return self.take(picture, prompt, seed, settings, brushed).clip()

    def randomise(self) -> None:
        """Random weights from now on, as large as the trained ones: the control that must not move as asked."""
        generator = torch.Generator().manual_seed(0)
        for parameter in [*self.model.unet.parameters(), *self.model.text_encoder.parameters()]:
            if parameter.ndim > 1:
                spread = parameter.std() if parameter.numel() > 1 else 1.0
                parameter.data = torch.randn(parameter.shape, generator=generator) * spread


def _request(
    picture: Image.Image, prompt: str, seed: int, settings: Settings, brushed: Brushed | None
) -> GenerationRequest:
    region = None
    if brushed is not None:
        region = written(Image.fromarray((brushed.region * 255).round().astype(np.uint8)))
    return GenerationRequest(
        model="nano", prompt=prompt, width=picture.width, height=picture.height, num_frames=settings.frames,
        fps=settings.fps, num_inference_steps=settings.steps, guidance_scale=settings.guidance, seed=seed,
        region=region, way=brushed and brushed.way,
    )  # fmt: skip


def in_view(mask: np.ndarray, view: Shown, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """`mask` (H, W) of the picture as the first frame of a video shows it, (H, W)."""
    height, width = mask.shape
    short = min(height, width)
    place = view.seen(positions(height, width, width / height)).numpy() * short
    x, y = (place[0] + width / 2 - 0.5, place[1] + height / 2 - 0.5)
    return cv2.remap(mask.astype(np.float32), x, y, interpolation, None, cv2.BORDER_REPLICATE)


def wish_for(living: str | None = None, *, held: bool = False) -> Wish:
    """What a sentence that is read without doubt asks for."""
    asked = torch.zeros(len(LIVING) + 1)
    asked[len(LIVING) if living is None else LIVING.index(living)] = 1
    return Wish(asked, torch.tensor(float(held)), torch.tensor(1.0))


def exact_take(
    picture: np.ndarray, truth: Fields, wish: Wish, settings: Settings, region: np.ndarray | None = None
) -> Take:
    """What a perfect model would give. `picture` (H, W, 3) float 0..1, `region` (H, W) brushed."""
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
    brush = torch.zeros(1, 2, *pixels.shape[-2:])
    if region is not None:
        brush[0, 0], brush[0, 1] = torch.from_numpy(region), 1
    alive = torch.from_numpy(truth.alive.astype(np.float32))[None, None]
    place = place_of(wish, brush, alive.expand(-1, len(PLACED), -1, -1))
    with torch.no_grad():
        refined = MotionDecoder().refine(pixels, to_latents(truth)[None], wish, place, settings.seconds)
    return Take(pixels, refined, settings)


def frozen_clip(picture: np.ndarray, frames: int) -> np.ndarray:
    """The photograph, standing."""
    return np.repeat((picture * 255).round().astype(np.uint8)[None], frames, axis=0)


def zoom_clip(picture: np.ndarray, settings: Settings) -> np.ndarray:
    """The same zoom whatever was asked: moves well, follows nothing."""
    place = positions(32, 32, 1.0).numpy()
    grow = np.exp(ZOOM_RATE * key_times()) - 1
    flat, rest = np.zeros((32, 32), np.float32), np.zeros((2, 32, 32), np.float32)
    zoom = np.stack([grow * place[0], grow * place[1]])
    return exact_take(picture, Fields(zoom, rest, flat, flat, flat), wish_for(), settings).clip()


def waved_clip(picture: np.ndarray, region: np.ndarray, frames: int) -> np.ndarray:
    """A warp made by hand, the same for every picture: within `region` (H, W) 0..1 everything swings to and fro."""
    height, width = region.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    size = np.float32(WAVE_SIZE * min(height, width)) * region.astype(np.float32)
    levels = np.rint(picture * 255).astype(np.uint8)
    swings = np.sin(2 * np.pi * WAVES * np.arange(frames, dtype=np.float32) / frames)
    ways = [x - swing * size for swing in swings]
    return np.stack([cv2.remap(levels, way, y, cv2.INTER_CUBIC, None, cv2.BORDER_REPLICATE) for way in ways])
