"""How many latents a clip of LTX-2 has, of its pictures and of its sound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from i2v.families.packed import joined, parted
from i2v.request import GenerationRequest

TIME_SCALE, SPACE_SCALE = 8, 32  # frames and pixels of a side that a latent stands for
SOUND_SCALE = 4  # steps in time and in frequency of a spectrogram


@dataclass(frozen=True)
class ClipLayout:
    """`frames`, `height` and `width` of the pictures' latents, with `channels`; of the sound's, `sounds` in time, each
    of so many channels and frequencies."""

    frames: int
    height: int
    width: int
    channels: int
    sounds: int
    sound_channels: int
    frequencies: int

    @classmethod
    def of(cls, request: GenerationRequest, configs: Mapping[str, Mapping[str, Any]]) -> ClipLayout:
        """That of `request`, by the configurations of the transformer and the sound's autoencoder."""
        sound = configs["audio_vae"]
        each_second = sound["sample_rate"] / sound["mel_hop_length"] / SOUND_SCALE
        return cls(
            frames=(request.num_frames - 1) // TIME_SCALE + 1,
            height=request.height // SPACE_SCALE,
            width=request.width // SPACE_SCALE,
            channels=configs["transformer"]["in_channels"],
            sounds=round(request.num_frames / request.fps * each_second),
            sound_channels=sound["latent_channels"],
            frequencies=sound["mel_bins"] // SOUND_SCALE,
        )

    @property
    def each_frame(self) -> int:
        """Tokens of one latent frame."""
        return self.height * self.width

    @property
    def tokens(self) -> int:
        """All of the pictures."""
        return self.frames * self.each_frame

    @property
    def numbers(self) -> int:
        """All of pictures and sound."""
        return self.tokens * self.channels + self.sounds * self.sound_channels * self.frequencies

    def noise(self, generator: torch.Generator, added: int, *, by_token: bool = False) -> tuple[Tensor, Tensor]:
        """Tokens of noise for pictures and sound, as diffusers draws them: channel by channel; token by token where so
        many are `added` to the clip, and in a second stage."""
        sounds = self.sound_channels, self.sounds, self.frequencies
        if added or by_token:
            tokens = torch.randn(1, self.tokens + added, self.channels, generator=generator)[:, : self.tokens]
            return tokens.contiguous(), torch.randn(1, sounds[1], sounds[0] * sounds[2], generator=generator)
        pictures = torch.randn(1, self.channels, self.frames, self.height, self.width, generator=generator)
        tokens = as_tokens(pictures).contiguous()
        return tokens, torch.randn(1, *sounds, generator=generator).transpose(1, 2).flatten(2)

    @property
    def last_begins(self) -> int:
        """The frame with which the last frame of the latents begins."""
        return (self.frames - 2) * TIME_SCALE + 1

    def of_one_frame(self, frame: int, fps: float) -> Tensor:
        """Where the tokens of frame `frame` of the clip stand, seen alone: (1, 3, h w, 2), from and to, in seconds and
        pixels."""
        rows, columns = (torch.arange(0, size * SPACE_SCALE, SPACE_SCALE) for size in (self.height, self.width))
        place = torch.stack(torch.meshgrid(torch.tensor([frame]), rows, columns, indexing="ij")).flatten(1).float()
        where = torch.stack([place, place + torch.tensor([1, SPACE_SCALE, SPACE_SCALE]).view(3, 1)], dim=-1)
        where[0] /= fps
        return where.unsqueeze(0)

    def joined(self, pictures: Tensor, sound: Tensor) -> Tensor:
        """Tokens of both in one tensor (1, N)."""
        return joined((pictures, sound))

    def parted(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The pictures' tokens (1, S, C) and the sound's (1, L, D) again."""
        shapes = (1, self.tokens, self.channels), (1, self.sounds, self.sound_channels * self.frequencies)
        pictures, sound = parted(latents, shapes)
        return pictures, sound

    def as_pictures(self, tokens: Tensor) -> Tensor:
        """(1, C, f, h, w) of (1, S, C)."""
        return tokens.unflatten(1, (self.frames, self.height, self.width)).permute(0, 4, 1, 2, 3)

    def as_sound(self, tokens: Tensor) -> Tensor:
        """(1, C, L, frequencies) of (1, L, C * frequencies)."""
        return tokens.unflatten(2, (self.sound_channels, self.frequencies)).transpose(1, 2)


def as_tokens(pictures: Tensor) -> Tensor:
    """(1, S, C) of (1, C, f, h, w)."""
    return pictures.flatten(2).transpose(1, 2)
