"""Where everything stands in the one sequence that MiniMax-H3 denoises: the sentence, the pictures that the video
begins and ends with, the sound's two channels, and the frames.

Rows are what the network calls tokens. Those of pictures are patches of 2 x 2 latents, frame by frame; those of sound
are moments, first of the left channel, then of the right. Places are diffusers'
`MiniMaxH3PrepareLayoutStep.build_packed_sequence`, in numbers alone, so that a dry run can follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from i2v.families.minimax_h3.spec import FPS, SOUNDS_PER_SECOND, SPACE_SCALE, latent_frames
from i2v.families.packed import joined, parted
from i2v.request import GenerationRequest

CHANNELS, SOUND_CHANNELS, EARS = 24, 32, 2
FIRST, LAST = 0, -1  # the frames that a picture can become
PATCH = 2  # latents of a side of a row
ROTARY_PER_FRAME, ROTARY_PER_LATENT = 5 / 3, (1, 4, 4, 4, 4)  # how far time goes on with each latent frame
ROTARY_SPACE = 32.0

Spans = tuple[tuple[int, int], ...]
"""Rows that are alike: up to which row, and the line of the table of modulations for these."""
VIDEO, TEXT, SOUND = range(3)  # the network's own numbers for what a row is of
NOISY, NOISY_SOUND, HELD = range(3)  # which of a step's timesteps a row has


def pictures_of(request: GenerationRequest) -> Sequence[int]:
    """The frames that a request's pictures become: the first, and perhaps the last."""
    if request.task != "i2v":
        return ()
    return (FIRST,) if request.last_image_path is None else (FIRST, LAST)


@dataclass(frozen=True)
class RowLayout:
    """`frames`, `height` and `width` in latents; `sounds`: moments of each ear; `pictures`: 1 with the one that the
    video begins with, 2 with the one that it ends with as well."""

    frames: int
    height: int
    width: int
    sounds: int
    pictures: int
    channels: int = CHANNELS
    sound_channels: int = SOUND_CHANNELS

    @classmethod
    def of(
        cls, request: GenerationRequest, channels: int = CHANNELS, sound_channels: int = SOUND_CHANNELS
    ) -> RowLayout:
        """That of `request`."""
        return cls(
            frames=latent_frames(request.num_frames),
            height=request.height // SPACE_SCALE,
            width=request.width // SPACE_SCALE,
            sounds=round(request.num_frames / FPS * SOUNDS_PER_SECOND),
            pictures=len(pictures_of(request)),
            channels=channels,
        )

    @property
    def each_frame(self) -> int:
        """Rows of one latent frame."""
        return (self.height // PATCH) * (self.width // PATCH)

    @property
    def held(self) -> int:
        """Rows of the pictures, which stay as they are."""
        return self.pictures * self.each_frame

    @property
    def shapes(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Of the rows of the pictures, the frames and the sound."""
        width = self.channels * PATCH * PATCH
        return (
            (self.held, width),
            (self.frames * self.each_frame, width),
            (EARS * self.sounds, self.sound_channels),
        )

    def joined(self, held: Tensor, frames: Tensor, sounds: Tensor) -> Tensor:
        """All rows in one tensor (1, N)."""
        return joined((held, frames, sounds))

    def parted(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The rows again: of the pictures, the frames, the sound."""
        held, frames, sounds = parted(latents, self.shapes)
        return held, frames, sounds

    def as_rows(self, latents: Tensor) -> Tensor:
        """(S, 4 C) of latents (1, C, f, h, w)."""
        patches = latents.unflatten(4, (-1, PATCH)).unflatten(3, (-1, PATCH))
        return patches.permute(0, 2, 3, 5, 1, 4, 6).reshape(-1, self.channels * PATCH * PATCH)

    def as_frames(self, rows: Tensor) -> Tensor:
        """(1, C, f, h, w) of rows (S, 4 C)."""
        patches = rows.reshape(1, -1, self.height // PATCH, self.width // PATCH, self.channels, PATCH, PATCH)
        return patches.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)

    def as_sound(self, rows: Tensor) -> Tensor:
        """(2, C, L) of rows (2 L, C): each ear by itself."""
        return rows.unflatten(0, (EARS, self.sounds)).transpose(1, 2)

    def places(self, words: int) -> Tensor:
        """(N, 3) float64 on the host: time, height and width of each row of the sequence, whose first `words` are the
        sentence's."""
        height, width = (
            _centred(side, PATCH, float(np.sqrt(self.height * self.width))) for side in (self.height, self.width)
        )
        sentence = np.stack([np.arange(words), np.zeros(words), np.zeros(words)], axis=-1)
        moments = np.arange(self.sounds) + float(words)
        sounds = [np.stack([moments, 0 * moments, 0 * moments + end], axis=-1) for end in (width[0], width[-1])]
        held = [float(words), words + float(self._steps().sum()) - ROTARY_PER_FRAME][: self.pictures]
        times = held + [words + time for time in np.concatenate([[0.0], np.cumsum(self._steps()[:-1])])]
        frames = np.stack(np.meshgrid(np.array(times), height, width, indexing="ij"), axis=-1).reshape(-1, 3)
        rows = [sentence, frames[: self.held], *sounds, frames[self.held :]]
        return torch.from_numpy(np.concatenate(rows))

    def _steps(self) -> np.ndarray:
        """How far time goes on with each latent frame."""
        each = [ROTARY_PER_LATENT[one % len(ROTARY_PER_LATENT)] for one in range(self.frames)]
        return ROTARY_PER_FRAME * np.array(each, dtype=np.float64)

    def spans(self, sentence: tuple[tuple[int, int], ...]) -> Spans:
        """Of the whole sequence; `sentence` has the lengths of its stretches, each with what it is of."""
        stretches = [(count, NOISY, kind) for count, kind in sentence]
        stretches += [(self.held, HELD, VIDEO), (EARS * self.sounds, NOISY_SOUND, SOUND)]
        stretches += [(self.frames * self.each_frame, NOISY, VIDEO)]
        spans, end = [], 0
        for count, noise, kind in stretches:
            if count:
                end += count
                spans.append((end, noise * 3 + kind))
        return tuple(spans)


def _centred(side: int, patch: int, mean_side: float) -> np.ndarray:
    """Places along one side of a picture, the same for any size of the same shape."""
    ratio = side / mean_side
    begin = (1 - ratio) / 2
    return np.linspace(begin, begin + ratio, side // patch, endpoint=False) * ROTARY_SPACE
