"""How nano is trained: the velocity of motion fields, and the fields that a film shows.

A film shows where its camera goes and how bright it becomes. What it does not show (what is near, what lives and how)
is what the model itself expects for picture and sentence, so that training leaves that as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from i2v.families.base import Conditioning, FamilyModel
from i2v.families.blocks import unet_blocks
from i2v.families.nano.camera import eased
from i2v.families.nano.fields import (
    CAMERA_UNIT,
    CLIP_SECONDS,
    KEY_TIMES,
    LIGHT_KNEE,
    field_size,
    positions,
    summary,
    time_channels,
    unet_input,
)
from i2v.families.nano.model import Nano, seen_channels
from i2v.families.trainable import Draw, Example, change_error, kept_or_dropped, stacked, weighted_error
from i2v.memory.card import Card
from i2v.plan import Plan
from i2v.request import GenerationRequest

# The error of each channel counts so much; see `fields`. The first two are the camera, the last is light.
CHANNEL_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 0.6, 1.2, 0.5)
RELATIVE = (True, True, False, False, False, False, True)  # channels whose error counts beside their own size:
RELATIVE_RANGE = (0.5, 4.0)  # a hand-held camera has a tenth of a pan's power, a flame's flicker a tenth of nightfall's
NOISY_SHARE = 0.4  # of the examples stand in ...
NOISY_RANGE = 0.12  # ... this last part of the noise levels

EXPECTED_STEPS = 8  # of denoising, for what a film does not show
FLOW_SIDE = 256  # pixels of the shorter side at which a film's motion is measured
MOST_PAIRS = 24  # of frames between which it is measured
FIT_ROUNDS, FIT_KEPT = 3, 0.67  # each round of a fit leaves out the third that fits worst
DARKEST = 2.0  # of 255: less light has no logarithm that says anything

ATTENTION = r".*\.(attn1|attn2)\.(to_q|to_k|to_v|to_out\.0)"
TARGETS = rf"({ATTENTION}|.*\.ff\.net\.(0\.proj|2)|.*\.time_emb_proj)"


def trainer(model: FamilyModel) -> NanoTrainer:
    """See `families.trainable.Trainer`."""
    assert isinstance(model, Nano)
    return NanoTrainer(model)


class NanoTrainer:
    """nano's own; see `families.trainable.Trainer` for the contract of each method."""

    component = "unet"
    targets = TARGETS
    measured_with = ("unet",)

    def __init__(self, model: Nano) -> None:
        self._model = model
        self._alphas = model.scheduler.alphas_cumprod

    def blocks(self, network: nn.Module) -> Sequence[nn.Module]:
        return unet_blocks(network)

    def measured(
        self, card: Card, frames: Sequence[Image.Image], request: GenerationRequest, conditioning: Conditioning
    ) -> Example:
        expected = self._expected(card, request, conditioning)
        with card.on_host():
            moved, brighter = _measured_motion(frames, request)
        latents = torch.cat(
            [card.to_card(moved).to(expected), expected[:, 2:-1], card.to_card(brighter).to(expected)], 1
        )
        return {
            "latents": latents,
            "seen": seen_channels(conditioning, latents),
            "prompt": conditioning["prompt"],
            "negative": conditioning["negative"],
        }

    def _expected(self, card: Card, request: GenerationRequest, conditioning: Conditioning) -> Tensor:
        """(1, 7, K, h, w): what the model itself makes of picture and sentence."""
        plan, request = Plan(), replace(request, num_inference_steps=EXPECTED_STEPS, guidance_scale=1.0)
        with card.on_host():
            latents = self._model.prepare(request, plan, conditioning)
        latents = card.to_card(latents)
        for index in range(request.num_inference_steps):
            latents = self._model.denoise_step(card, conditioning, latents, index, request, plan).latents
        return latents

    def loss(self, network: nn.Module, examples: Sequence[Example], draw: Draw, consistency: float) -> Tensor:
        clean, seen = stacked(examples, "latents"), stacked(examples, "seen")
        sentence = kept_or_dropped(examples, "prompt", "negative", draw.dropped)
        steps = noisy_steps(draw.levels, len(self._alphas))
        kept, spread = signal_and_noise(self._alphas.to(clean.device), steps)
        noisy = kept * clean + spread * draw.noise
        times = time_channels().to(clean.device)
        predicted = network(
            unet_input(noisy, seen, times).to(clean.dtype), steps,
            encoder_hidden_states=sentence, timestep_cond=summary(sentence), return_dict=False,
        )[0].float()  # fmt: skip
        loss = weighted_error(predicted, kept * draw.noise - spread * clean, loss_weights(clean))
        if consistency:
            loss = loss + consistency * change_error(kept * noisy - spread * predicted, clean, kept.square())
        return loss


def noisy_steps(levels: Tensor, count: int) -> Tensor:
    """The timestep of each of `levels` (B,), evenly spread from 0 to 1, of `count`. Fields are so smooth that a little
    signal shows all of them; only near pure noise must the sentence be heard, so two in five examples stand there."""
    share = torch.where(
        levels < NOISY_SHARE,
        1 - NOISY_RANGE * levels / NOISY_SHARE,
        (levels - NOISY_SHARE) / (1 - NOISY_SHARE),
    )
    return (share * count).long().clamp(max=count - 1)


def signal_and_noise(alphas: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the signal and of the noise (B, 1, 1, 1, 1) there is at `steps` (B,)."""
    alpha = alphas[steps].view(-1, 1, 1, 1, 1)
    return alpha.sqrt(), (1 - alpha).sqrt()


def loss_weights(clean: Tensor) -> Tensor:
    """The weight (B, 7, 1, 1, 1) of every channel's error in every example of `clean` (B, 7, K, h, w)."""
    clean = clean.float()
    weights = clean.new_tensor(CHANNEL_WEIGHTS).expand(len(clean), -1)
    relative = (0.5 / (clean.square().mean((2, 3, 4)) + 0.1)).clamp(*RELATIVE_RANGE)
    weights = torch.where(torch.tensor(RELATIVE, device=clean.device), weights * relative, weights)
    return weights[..., None, None, None]


def _measured_motion(frames: Sequence[Image.Image], request: GenerationRequest) -> tuple[Tensor, Tensor]:
    """Camera (1, 2, K, h, w) and light (1, 1, K, h, w), as latents have them, of a film at the request's rate."""
    size = field_size(request.height, request.width)
    aspect = request.width / request.height
    cells = positions(*size, aspect).numpy()
    grey = [_grey(frame) for frame in frames]
    length = len(frames) / request.fps / CLIP_SECONDS
    ways = _ways(grey)
    moved, light = [], []
    for share in KEY_TIMES:
        number = _frame_at(share, len(frames))
        way = ways[number]
        there = np.einsum("ij,jhw->ihw", way[:, :2], cells) + way[:, 2, None, None]
        # What was measured stands at the share of its way that the camera has gone by then.
        moved.append((there - cells) / length * share / eased((number + 1) / len(frames)))
        light.append(np.full((1, *size), np.arcsinh(_brighter(grey[0], grey[-1], ways[-1]) / LIGHT_KNEE)))
    camera = torch.from_numpy(np.stack(moved, axis=1).astype(np.float32))[None] / CAMERA_UNIT
    return camera, torch.from_numpy(np.stack(light, axis=1).astype(np.float32))[None]


def _frame_at(share: float, count: int) -> int:
    """The number of the frame that shows a clip of `count` frames at this share of it."""
    return min(count - 1, max(0, round(share * count) - 1))


def _grey(frame: Image.Image) -> np.ndarray:
    scale = FLOW_SIDE / min(frame.size)
    size = (max(16, round(frame.width * scale)), max(16, round(frame.height * scale)))
    return np.asarray(frame.convert("L").resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC))


def _ways(grey: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For every frame the affine map (2, 3) that takes a place in the first frame to where it is then, from the middle,
    in short sides: motions between neighbours, joined, since a large turn or growth is not seen in one look."""
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    step = max(1, -(-(len(grey) - 1) // MOST_PAIRS))
    way = np.hstack([np.eye(2), np.zeros((2, 1))])
    ways = [way]
    for start in range(0, len(grey) - 1, step):
        end = min(start + step, len(grey) - 1)
        between = _fitted(flow.calc(np.ascontiguousarray(grey[start]), np.ascontiguousarray(grey[end]), None))
        following = np.hstack([between[:, :2] @ way[:, :2], between[:, :2] @ way[:, 2:] + between[:, 2:]])
        for number in range(start + 1, end + 1):
            ways.append(way + (following - way) * ((number - start) / (end - start)))
        way = following
    return ways


def _brighter(first: np.ndarray, last: np.ndarray, way: np.ndarray) -> float:
    """The natural logarithm of how much brighter the last frame is, where it shows what the first one does; `way`
    (2, 3) takes a place there to where it is at the end."""
    height, width = first.shape
    short, middle = min(height, width), np.array([width / 2 - 0.5, height / 2 - 0.5])
    pixels = np.hstack([way[:, :2], (way[:, 2] * short + middle - way[:, :2] @ middle)[:, None]])
    back = cv2.warpAffine(last, pixels, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    seen = cv2.warpAffine(np.full_like(last, 255), pixels, (width, height), flags=cv2.WARP_INVERSE_MAP) == 255
    if not seen.any():
        return 0.0
    return float(np.log(max(DARKEST, float(back[seen].mean())) / max(DARKEST, float(first[seen].mean()))))


def _fitted(moved: np.ndarray) -> np.ndarray:
    """The affine map (2, 3) nearest to a flow (H, W, 2) in pixels."""
    height, width = moved.shape[:2]
    short = min(height, width)
    y, x = np.mgrid[4 : height - 4 : 4, 4 : width - 4 : 4]
    target = moved[y, x].reshape(-1, 2) / short
    x, y = ((x + 0.5 - width / 2) / short).ravel(), ((y + 0.5 - height / 2) / short).ravel()
    basis = np.stack([x, y, np.ones_like(x)], axis=1)
    target = target + basis[:, :2]
    kept = np.ones(len(basis), bool)
    for _ in range(FIT_ROUNDS):
        solved = np.linalg.lstsq(basis[kept], target[kept], rcond=None)[0]
        error = np.linalg.norm(basis @ solved - target, axis=1)
        kept = error <= np.quantile(error, FIT_KEPT)
    return solved.T
