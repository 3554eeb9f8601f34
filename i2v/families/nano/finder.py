"""What a photograph shows, cell by cell: where a living motion that a sentence asks for can be.

The trunk is EfficientNet-Lite2 (Tan and Le, 2019, "EfficientNet"; its weights, learned on ImageNet, are under the
Apache License 2.0) without its last stage, its normalisations folded into the convolutions. A small head on the
features of all its stages was taught on photographs with regions drawn by hand (`tools/train_nano/finding`).
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

SHOWN = ("sky", "plants", "flower", "animal", "water")
"""What it tells apart; one more class is whatever is none of these."""
PLACES = {
    "water": ("water",),
    "sway": ("plants", "flower"),
    "petals": ("flower",),
    "breathing": ("animal",),
    "clouds": ("sky",),
}
"""Where each of `life.PLACED` can be."""
FILE = "model.safetensors"
SHORT_SIDE, LONG_SIDE, UNIT = 352, 704, 32  # pixels that the trunk sees; both sides are multiples of UNIT
STRIDE = 8  # pixels to a cell
# (widening, kernel, stride, channels, blocks) of each stage, after a first convolution of 32 channels and stride 2.
STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 3), (6, 5, 2, 48, 3), (6, 3, 2, 88, 4), (6, 5, 1, 120, 4), (6, 5, 2, 208, 5))
FIRST = 32
COLOUR_AND_PLACE = 8
FEATURES = sum(stage[3] for stage in STAGES[1:]) + STAGES[-1][3] + COLOUR_AND_PLACE
HIDDEN, HEADS = 96, 2
CUT = 6.0  # standardised features beyond this many deviations are cut
SHARPENED = 4  # power of the probabilities: nearly 0 or 1, soft only where two classes are about as likely


class Convolution(nn.Conv2d):
    """Padded as TensorFlow pads: one more pixel after than before, where it does not come out even."""

    def __init__(self, inward: int, outward: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inward, outward, kernel, stride, groups=groups)
        self.before, self.after = (kernel - stride) // 2, (kernel - stride + 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, (self.before, self.after, self.before, self.after)))


class Block(nn.Module):
    """Widen, look around, narrow; with what came in added where it has the same shape."""

    def __init__(self, inward: int, outward: int, widening: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inward * widening
        self.widen = Convolution(inward, wide, 1) if widening > 1 else nn.Identity()
        self.around = Convolution(wide, wide, kernel, stride, groups=wide)
        self.narrow = Convolution(wide, outward, 1)
        self.adds = inward == outward and stride == 1
        self.widens = widening > 1

    def forward(self, x: Tensor) -> Tensor:
        wide = functional.relu6(self.widen(x)) if self.widens else x
        narrow = self.narrow(functional.relu6(self.around(wide)))
        return x + narrow if self.adds else narrow


class Trunk(nn.Module):
    """Features (B, FEATURES, h, w) of each cell, from a picture (B, 3, H, W) in 0..1 of a `working_size`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Convolution(3, FIRST, 3, 2)
        width, stages = FIRST, []
        for widening, kernel, stride, channels, blocks in STAGES:
            sizes = [(width, stride), *[(channels, 1)] * (blocks - 1)]
            stages.append(nn.Sequential(*[Block(inward, channels, widening, kernel, step) for inward, step in sizes]))
            width = channels
        self.stages = nn.ModuleList(stages)

    def forward(self, picture: Tensor) -> Tensor:
        size = picture.shape[-2] // STRIDE, picture.shape[-1] // STRIDE
        x = functional.relu6(self.first((picture * 255 - 127) / 128))
        found = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number:
                found.append(_resized(x, size))
        whole = x.mean((2, 3), keepdim=True).expand(-1, -1, *size)
        return torch.cat([*found, whole, _colour_and_place(picture, size)], dim=1)


class Head(nn.Module):
    """Logits (N, classes) of cells from their features (N, FEATURES), standardised by those it was taught on."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.scale = (nn.Parameter(torch.zeros(FEATURES)) for _ in range(2))
        self.inward = nn.Linear(FEATURES, HIDDEN)
        self.outward = nn.Linear(HIDDEN, len(SHOWN) + 1)

    def standardised(self, features: Tensor) -> Tensor:
        return ((features - self.mean) * self.scale).clamp(-CUT, CUT)

    def forward(self, features: Tensor) -> Tensor:
        return self.outward(functional.relu(self.inward(self.standardised(features))))


class Finder(nn.Module):
    """The trunk and its heads, whose answers are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.heads = nn.ModuleList(Head() for _ in range(HEADS))

    @classmethod
    def load(cls, folder: Path, precision: torch.dtype) -> Finder:
        """Of the safetensors file in `folder`."""
        finder = cls()
        finder.load_state_dict(load_file(folder / FILE))
        return finder.to(precision)

    def forward(self, picture: Tensor) -> Tensor:
        """Probabilities (1, classes, h, w) from a picture (1, 3, H, W) in 0..1 of a `working_size`."""
        features = self.trunk(picture)
        cells = features.flatten(2)[0].T
        likely = sum(torch.softmax(head(cells).float(), dim=-1) for head in self.heads) / HEADS
        return likely.T.reshape(1, -1, *features.shape[-2:])


def working_size(height: int, width: int) -> tuple[int, int]:
    """The size (height, width) at which the trunk sees a picture of this size."""
    scale = min(SHORT_SIDE / min(height, width), LONG_SIDE / max(height, width))
    tall, wide = (max(2 * UNIT, round(side * scale / UNIT) * UNIT) for side in (height, width))
    return tall, wide


def places(likely: Tensor) -> Tensor:
    """Where each of `life.PLACED` can be, (1, 5, h, w) in 0..1, from probabilities (1, classes, h, w)."""
    sharp = likely**SHARPENED
    sharp = sharp / sharp.sum(1, keepdim=True)
    return torch.cat([sum(sharp[:, SHOWN.index(name), None] for name in names) for names in PLACES.values()], dim=1)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[-2] >= size[0]:
        return functional.avg_pool2d(x, x.shape[-2] // size[0])
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _colour_and_place(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean and deviation of each cell's colour, its height in the picture, and how far it is from the middle."""
    mean = functional.avg_pool2d(picture, STRIDE)
    deviation = (functional.avg_pool2d(picture**2, STRIDE) - mean**2).clamp(min=0).sqrt()
    down = torch.linspace(-1, 1, size[0], device=picture.device, dtype=picture.dtype)
    across = torch.linspace(-1, 1, size[1], device=picture.device, dtype=picture.dtype).abs()
    down, across = down[None, None, :, None].expand(1, 1, *size), across[None, None, None].expand(1, 1, *size)
    return torch.cat([mean * 2 - 1, deviation * 8, down, across], dim=1)
