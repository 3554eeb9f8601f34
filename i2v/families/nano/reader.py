"""What a sentence asks for, read from what the text encoder makes of it: a camera motion, a living one, how much of
each, and whether it is something nano can not do."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from i2v.families.nano.life import LIVING

CAMERA = (
    "zoom_in", "zoom_out", "pan_left", "pan_right", "tilt_up", "tilt_down", "rotate_cw", "rotate_ccw", "still",
    "dolly_in", "dolly_out", "orbit_left", "orbit_right", "handheld",
)  # fmt: skip
FILE = "model.safetensors"
LAYERS = 4  # of the text encoder: its embeddings, and what each of its three layers makes of them
OWN_WIDTH, LAYERS_WIDTH, HIDDEN = 24, 32, 64
SURENESS = 3.0  # a motion that is half as likely as another is played an eighth as much


class Beyond(nn.Module):
    """Whether a clause asks for what nano can not do: positive where it does. The text encoder was taught to see only
    motions, so this looks at every layer of it, at the tokens themselves, and at three neighbours at a time."""

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, OWN_WIDTH)
        self.layers = nn.Linear(width * LAYERS, LAYERS_WIDTH)
        self.near = nn.Linear(3 * (OWN_WIDTH + LAYERS_WIDTH), HIDDEN)
        self.wider = nn.Linear(3 * HIDDEN, HIDDEN)
        self.logit = nn.Linear(2 * HIDDEN, 1)

    def forward(self, ids: Tensor, layers: Tensor, end: int) -> Tensor:
        """(B, 1) from token numbers (B, T) and what the encoder's layers make of them (B, T, D * LAYERS); `end` is the
        token that ends a sentence, after which nothing counts."""
        over = (ids == end).to(ids.dtype).cumsum(dim=1) > 0
        seen = (~over).to(layers.dtype)[..., None]
        known = torch.cat([self.tokens(ids), self.layers(layers)], dim=-1) * seen
        near = functional.relu(self.near(_three(known))) * seen
        wider = functional.relu(self.wider(_three(near))) * seen
        return self.logit(torch.cat([near.amax(dim=1), wider.amax(dim=1)], dim=-1))


def _three(row: Tensor) -> Tensor:
    """Each place with those before and after it: (B, T, 3 D) from (B, T, D)."""
    padded = functional.pad(row, (0, 0, 1, 1))
    return torch.cat([padded[:, :-2], row, padded[:, 2:]], dim=-1)


class Reader(nn.Module):
    """A head for each question; the last class of both motions is "none"."""

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.camera = nn.Linear(width, len(CAMERA) + 1)
        self.living = nn.Linear(width, len(LIVING) + 1)
        self.strength = nn.Linear(width, 2)
        self.beyond = Beyond(width, vocabulary)

    @classmethod
    def load(cls, folder: Path, precision: torch.dtype) -> Reader:
        """Of the safetensors file in `folder`."""
        weights = load_file(folder / FILE)
        reader = cls(weights["camera.weight"].shape[1], weights["beyond.tokens.weight"].shape[0])
        reader.load_state_dict(weights)
        return reader.to(precision)

    def forward(self, summary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, 15) and (B, 9), and both strengths (B, 2), from the sentence's `summary` (B, D)."""
        return self.camera(summary), self.living(summary), self.strength(summary)

    def wish(self, summary: Tensor) -> Tensor:
        """(B, 11): how much of each living motion is asked for (9), 1 in all; how much of a hand-held camera; and how
        much of a camera that moves at all. It stands where only life is asked for, so that the clip loops."""
        living = torch.softmax(SURENESS * self.living(summary).float(), dim=-1)
        camera = torch.softmax(SURENESS * self.camera(summary).float(), dim=-1)
        still, held = (camera[:, CAMERA.index(name), None] for name in ("still", "handheld"))
        stands = still + camera[:, -1:] * (1 - living[:, -1:])
        return torch.cat([living, held, 1 - stands], dim=-1)
