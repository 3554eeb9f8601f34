"""Finished clips for the evaluation: from a model, from exact fields, and the controls that must fail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from i2v.families.nano.model import Nano, load
from i2v.families.nano.warp import MotionDecoder
from i2v.memory.card import HostCard
from i2v.plan import Plan
from i2v.request import GenerationRequest
from tools.train_nano.dataset import to_latents
from tools.train_nano.motions import ZOOM_RATE, Fields


@dataclass(frozen=True)
class Settings:
    """How clips are made: square side in pixels, frames, steps, guidance."""

    side: int = 256
    frames: int = 16
    steps: int = 25
    guidance: float = 2.0


class Maker:
    """Clips (F, H, W, 3) uint8 from a model folder."""

    def __init__(self, folder: Path) -> None:
        self.model: Nano = load(folder, torch.float32)

    def latents(
        self, picture: Image.Image, prompt: str, seed: int, settings: Settings
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Clean latents and the conditioning for `prompt`."""
        request, plan, card = self._request(picture, prompt, seed, settings), Plan(), HostCard()
        conditioning: dict[str, Tensor] = {}
        with torch.no_grad():
            for stage in self.model.encode_stages(request, picture, plan):
                stage.run(card, conditioning)
            latents = self.model.prepare(request, plan)
            for index in range(settings.steps):
                latents = self.model.denoise_step(card, conditioning, latents, index, request, plan).latents
        return latents, conditioning

    def clip(self, picture: Image.Image, prompt: str, seed: int, settings: Settings) -> np.ndarray:
        return self.render(*self.latents(picture, prompt, seed, settings))

    def render(self, latents: Tensor, conditioning: dict[str, Tensor]) -> np.ndarray:
        """The finished clip of clean latents over the photograph in the conditioning."""
        height, width = conditioning["pixels"].shape[-2:]
        request = GenerationRequest(
            model="nano", prompt="", width=width, height=height, num_frames=latents.shape[2], fps=12,
            num_inference_steps=1, guidance_scale=1.0, seed=0,
        )  # fmt: skip
        with torch.no_grad():
            return np.stack([f.numpy() for f in self.model.decode(HostCard(), conditioning, latents, request, Plan())])

    def randomised(self) -> Maker:
        """The same networks with random weights: the control that must not move as asked."""
        twin = object.__new__(Maker)
        twin.model = self.model
        generator = torch.Generator().manual_seed(0)
        for parameter in [*self.model.unet.parameters(), *self.model.text_encoder.parameters()]:
            if parameter.ndim > 1:
                spread = parameter.std() if parameter.numel() > 1 else 1.0
                parameter.data = torch.randn(parameter.shape, generator=generator) * spread
        return twin

    @staticmethod
    def _request(picture: Image.Image, prompt: str, seed: int, settings: Settings) -> GenerationRequest:
        return GenerationRequest(
            model="nano", prompt=prompt, width=picture.width, height=picture.height, num_frames=settings.frames,
            fps=12, num_inference_steps=settings.steps, guidance_scale=settings.guidance, seed=seed,
        )  # fmt: skip


def true_clip(picture: np.ndarray, truth: Fields) -> np.ndarray:
    """The clip that exact fields give: what a perfect model would make. `picture` (H, W, 3) float 0..1."""
    latents = to_latents(truth)[None]
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
    decoder = MotionDecoder()
    with torch.no_grad():
        frames = decoder(pixels, latents)
    return np.stack([(f.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for f in frames])


def frozen_clip(picture: np.ndarray, frames: int) -> np.ndarray:
    """The photograph, standing."""
    return np.repeat((picture * 255).round().astype(np.uint8)[None], frames, axis=0)


def zoom_clip(picture: np.ndarray, frames: int) -> np.ndarray:
    """The same zoom whatever was asked: moves well, follows nothing."""
    x = np.linspace(-0.5, 0.5, 24, dtype=np.float32)
    grow = (np.exp(ZOOM_RATE * np.arange(frames) / 16) - 1).astype(np.float32)[:, None, None]
    flat, rest = np.zeros((24, 24), np.float32), np.zeros((2, frames, 24, 24), np.float32)
    zoom = np.stack([grow * np.repeat(x[None], 24, 0), grow * np.repeat(x[:, None], 24, 1)])
    return true_clip(picture, Fields(zoom, rest, flat, flat, rest[0]))
