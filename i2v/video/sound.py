"""The sound of a clip on its way into the clip's file.

A model makes the whole sound before the first frame. While frames come it lies beside the growing video as a WAV file,
so that it is there too for a run that is killed; the finished video gets it as an AAC track, as long as its frames.
"""

from __future__ import annotations

import wave
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from i2v.video import ffmpeg

AAC = ("-c:a", "aac", "-b:a", "192k")
LOUDEST = 2**15 - 1  # of 16 bits


@dataclass(frozen=True)
class Sound:
    """A clip's sound: `samples` (channels, n) from -1 to 1 in float32, on the host; `rate` samples per second."""

    samples: ArrayLike
    rate: int


def sound_beside(growing: Path) -> Path:
    """Where the sound of the video that grows at `growing` lies until that is whole."""
    return growing.with_suffix(".wav")


def write_wav(path: Path, sound: Sound) -> None:
    """`sound` in 16 bits; what is louder than full is cut. Raises OSError."""
    samples = np.asarray(sound.samples, dtype=np.float32)
    if samples.ndim != 2 or not samples.shape[0] or sound.rate <= 0:
        raise ValueError(f"a sound must be (channels, samples) at a rate above 0, not {samples.shape} at {sound.rate}")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[0])
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        file.writeframes((samples.T.clip(-1, 1) * LOUDEST).round().astype("<i2").tobytes())


def wav_input(path: Path) -> tuple[str, ...]:
    """What makes a WAV file an input of ffmpeg."""
    return "-f", "wav", "-i", ffmpeg.file_url(path)


def as_long_as(seconds: float) -> str:
    """ffmpeg's filter that cuts a sound, or adds silence, to so many seconds."""
    return f"apad,atrim=end={seconds:.6f}"


def at_pace(pace: Fraction) -> str:
    """ffmpeg's filter that plays a sound so many times as fast, at the same pitch. One of its steps can not go below
    half the pace."""
    steps = []
    while pace < Fraction(1, 2):
        steps.append("atempo=0.5")
        pace *= 2
    return ",".join([*steps, f"atempo={float(pace):.9f}"])
