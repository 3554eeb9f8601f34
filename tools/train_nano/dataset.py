"""Training examples made on the fly: a scene, a sentence, and the exact fields that sentence means there."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from i2v.families.nano.fields import Motion, pack, picture_channels, time_channels
from tools.train_nano.motions import Fields, fields
from tools.train_nano.prompts import CAMERA, LIVING, Asked, sentence
from tools.train_nano.scenes import CELL, Library, make_scene

TEXT_DROPOUT = 0.12  # examples without a sentence, for guidance; they move as gently as sentences that ask for nothing
BOTH = 0.2  # two motions at once
UNKNOWN = 0.12  # sentences that say nothing of motion
OFTENER = {"handheld": 3.0, "sway": 2.0, "breathing": 2.0, "flicker": 2.0}  # what is hardest to learn


@dataclass(frozen=True)
class Shape:
    """The size of one batch: cells (h, w), frames, and the distance between frames."""

    h: int
    w: int
    frames: int
    stride: int = 1


@dataclass(frozen=True)
class Batch:
    """latents (B, 7, F, h, w), picture (B, 17, h, w), times (B, F, 2), and the sentences."""

    latents: Tensor
    picture: Tensor
    times: Tensor
    texts: list[str]


def random_request(rng: random.Random) -> Asked:
    """A sentence in the proportions nano is trained with."""
    pick = rng.random()
    if pick < TEXT_DROPOUT:
        return Asked("")
    if pick < TEXT_DROPOUT + UNKNOWN:
        return sentence(None, None, rng)
    if pick < TEXT_DROPOUT + UNKNOWN + BOTH:
        return sentence(_one_of(CAMERA, rng), _one_of(LIVING, rng), rng)
    if rng.random() < 0.45:
        return sentence(_one_of(CAMERA, rng), None, rng)
    return sentence(None, _one_of(LIVING, rng), rng)


def _one_of(motions: Sequence[str], rng: random.Random) -> str:
    return rng.choices(motions, [OFTENER.get(motion, 1.0) for motion in motions])[0]


def make_batch(library: Library, shape: Shape, size: int, seed: int) -> Batch:
    """`size` examples of `shape`, the same for the same seed."""
    rng, np_rng = random.Random(seed), np.random.default_rng(seed)
    examples = [_example(library, shape, random_request(rng), np_rng) for _ in range(size)]
    latents, pictures, times, texts = zip(*examples, strict=True)
    aspect = shape.w / shape.h
    pictures = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return Batch(
        torch.stack(latents), picture_channels(pictures, shape.h, shape.w, aspect), torch.stack(times), list(texts)
    )


def _example(
    library: Library, shape: Shape, asked: Asked, rng: np.random.Generator
) -> tuple[Tensor, np.ndarray, Tensor, str]:
    # A living motion is shown where it can happen; once in ten where it can not, and then nothing moves.
    want = asked.living if asked.living is not None and rng.random() < 0.9 else None
    scene = make_scene(library, shape.h * CELL, shape.w * CELL, rng, want)
    # From the start, as every run does.
    frames = (np.arange(shape.frames) * shape.stride).astype(np.float32)
    truth = fields(scene, asked, frames, rng)
    return to_latents(truth), scene.picture, time_channels(torch.from_numpy(frames)), asked.text


def to_latents(truth: Fields) -> Tensor:
    """Latents (7, F, h, w) of exact fields."""
    frames = truth.camera.shape[1]

    def every_frame(part: np.ndarray) -> Tensor:
        return torch.from_numpy(part.astype(np.float32)).expand(1, frames, *part.shape)

    return pack(
        Motion(
            camera=torch.from_numpy(truth.camera.astype(np.float32)),
            living=torch.from_numpy(truth.living.astype(np.float32)),
            near=every_frame(truth.near),
            alive=every_frame(truth.alive),
            light=torch.from_numpy(truth.light.astype(np.float32))[None],
        )
    )


def shapes_of(stage: str) -> Sequence[Shape]:
    """The batch shapes of a training stage: `coarse` is cheap and learns what words mean, `fine` is what ships."""
    if stage == "coarse":
        return (Shape(16, 16, 8, 2), Shape(12, 20, 8, 2), Shape(20, 12, 8, 2), Shape(16, 16, 8, 1))
    return (
        Shape(24, 24, 16), Shape(16, 16, 16), Shape(20, 28, 8, 2), Shape(24, 24, 8), Shape(16, 16, 24),
        Shape(24, 24, 16), Shape(16, 16, 16), Shape(28, 20, 8, 2), Shape(16, 32, 8), Shape(16, 16, 16, 2),
    )  # fmt: skip
