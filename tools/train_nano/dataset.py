"""Training examples made on the fly: a scene, a sentence, and the exact fields that sentence means there."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from i2v.families.nano.fields import KEY_TIMES, Motion, pack, picture_channels, region_channels
from i2v.families.nano.life import LIVING
from i2v.families.nano.reader import CAMERA
from tools.train_nano.motions import Brush, Fields, View, fields
from tools.train_nano.prompts import Asked, sentence
from tools.train_nano.scenes import CELL, Library, make_scene, smooth_noise

TEXT_DROPOUT = 0.12  # examples without a sentence, for guidance; they move as gently as sentences that ask for nothing
BOTH = 0.2  # two motions at once
UNKNOWN = 0.12  # sentences that say nothing of motion
BRUSHED = 0.5  # of what lives in a region has that brushed
ANYWHERE = 0.25  # of the brushed have some other place brushed
STROKED = 0.5  # of brushed water and clouds have a stroke that says which way
REGION_OF = {"water": "water", "sway": "plants", "clouds": "sky", "petals": "flower", "breathing": "animal"}
OFTENER = {"handheld": 3.0, "sway": 2.0, "breathing": 2.0, "flicker": 2.0}  # what is hardest to learn


@dataclass(frozen=True)
class Batch:
    """latents (B, 7, K, h, w), what is seen of picture and brush (B, 21, h, w), and the sentences."""

    latents: Tensor
    seen: Tensor
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


def make_batch(library: Library, shape: tuple[int, int], size: int, seed: int) -> Batch:
    """`size` examples of `shape` cells (h, w), the same for the same seed."""
    rng, np_rng = random.Random(seed), np.random.default_rng(seed)
    examples = [_example(library, shape, random_request(rng), np_rng) for _ in range(size)]
    latents, seen, texts = zip(*examples, strict=True)
    return Batch(torch.stack(latents), torch.stack(seen), list(texts))


def _example(
    library: Library, shape: tuple[int, int], asked: Asked, rng: np.random.Generator
) -> tuple[Tensor, Tensor, str]:
    h, w = shape
    # A living motion is shown where it can happen, and one time in four where it may not: then nothing moves.
    want = asked.living if asked.living is not None and rng.random() < 0.75 else None
    scene = make_scene(library, h * CELL, w * CELL, rng, want)
    view = View.of(scene)
    brush = _brush(view, asked.living, rng) if asked.living in REGION_OF and rng.random() < BRUSHED else None
    picture = torch.from_numpy(np.ascontiguousarray(scene.picture)).permute(2, 0, 1)[None].float()
    channels = picture_channels(picture, h, w, w / h)
    region = torch.from_numpy(np.zeros((h, w), np.float32) if brush is None else brush.region)[None, None]
    known, way = torch.full((1, 1, 1, 1), float(brush is not None)), torch.tensor([(brush and brush.way) or (0.0, 0.0)])
    seen = torch.cat([channels, region_channels(region, known, way, h, w)], dim=1)
    return to_latents(fields(view, asked, rng, brush)), seen[0], asked.text


def _brush(view: View, living: str, rng: np.random.Generator) -> Brush:
    """What a person might paint for this motion: its region not quite, or quite another place."""
    name = REGION_OF[living]
    region = view.regions.get(name)
    if region is None:
        region = np.max([mask for kind, mask, *_ in view.things if kind == name] or [np.zeros_like(view.near)], axis=0)
    if region.max() < 0.5 or rng.random() < ANYWHERE:
        noise = smooth_noise(*view.near.shape, 3, rng)
        region = (noise > np.quantile(noise, rng.uniform(0.6, 0.9))).astype(np.float32)
    else:
        size = int(rng.integers(1, 4))
        change = cv2.dilate if rng.random() < 0.6 else cv2.erode
        rough = change(region, np.ones((size, size), np.uint8))
        region = rough if rough.max() > 0.5 else region
    angle = rng.uniform(0, 2 * np.pi)
    stroked = living in ("water", "clouds") and rng.random() < STROKED
    return Brush(region.astype(np.float32), (float(np.cos(angle)), float(np.sin(angle))) if stroked else None)


def to_latents(truth: Fields) -> Tensor:
    """Latents (7, K, h, w) of exact fields."""

    def every_key(part: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32))
        tensor = tensor if tensor.ndim == 3 else tensor[None]
        return tensor[:, None].expand(-1, len(KEY_TIMES), -1, -1)

    return pack(
        Motion(
            camera=torch.from_numpy(truth.camera.astype(np.float32)),
            living=every_key(truth.living),
            near=every_key(truth.near),
            alive=every_key(truth.alive),
            light=every_key(truth.light),
        )
    )


def shapes_of(stage: str) -> Sequence[tuple[int, int]]:
    """The cells (h, w) of a training stage's batches: `coarse` is cheap and learns what words mean, `fine` ships."""
    if stage == "coarse":
        return (20, 20), (16, 24), (24, 16)
    return (32, 32), (28, 36), (36, 28), (32, 32), (24, 44), (40, 24)
