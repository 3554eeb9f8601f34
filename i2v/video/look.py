"""The colours of a finished video, changed on the way into another file.

Each value means what CSS's filter function of its name does, so that a browser can show a look before it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from i2v.settings.values import Number

LIMITS: dict[str, tuple[float, float]] = {
    "brightness": (0.25, 2.0),
    "contrast": (0.25, 2.0),
    "saturation": (0.0, 2.0),
    "warmth": (-1.0, 1.0),
}
LOOK_STEP = 0.01
WARMTH_GAIN = 0.25
"""How much of red a warmth of 1 adds, and of blue it takes away."""

# How much of red, green and blue is in grey: CSS Filter Effects 1, feColorMatrix "saturate".
_GREY = (0.213, 0.715, 0.072)


@dataclass(frozen=True)
class Look:
    """Values for R, G, B in 0..1 as they stand in the frames, applied in this order, each result kept in 0..1.

    `warmth`: R x (1 + WARMTH_GAIN x warmth), B x (1 - WARMTH_GAIN x warmth). `brightness`: x brightness. `contrast`:
    (x - 0.5) x contrast + 0.5. `saturation`: the distance from grey, times saturation.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    warmth: float = 0.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Look:
        """The look that `values` ask for, each rounded to LOOK_STEP; None is as it was made. Raises UserError, naming
        the value and what is allowed."""
        given = {name: values[name] for name in LIMITS if values.get(name) is not None}
        return cls(**{name: round(Number(*LIMITS[name]).parse(value, name), 2) for name, value in given.items()})

    @property
    def neutral(self) -> bool:
        """Whether it changes nothing."""
        return self == Look()

    @property
    def name(self) -> str:
        """What is changed, as it can stand in a file's name; empty for nothing."""
        values = asdict(self)
        return "-".join(f"{f.name}{values[f.name]:g}" for f in fields(self) if values[f.name] != f.default)

    def filters(self) -> str:
        """ffmpeg filters that take frames of the pixel format gbrp, and give such."""
        gains = {"r": 1 + WARMTH_GAIN * self.warmth, "g": 1.0, "b": 1 - WARMTH_GAIN * self.warmth}
        tables = (f"{channel}='{_table(gain, self.brightness, self.contrast)}'" for channel, gain in gains.items())
        chain = [f"lutrgb={':'.join(tables)}"]
        if self.saturation != 1:
            s = self.saturation
            matrix = (
                f"{row}{column}={grey + s * ((row == column) - grey):.6f}"
                for row in "rgb"
                for column, grey in zip("rgb", _GREY, strict=True)
            )
            chain.append(f"colorchannelmixer={':'.join(matrix)}")
        return ",".join(chain)


def _table(gain: float, brightness: float, contrast: float) -> str:
    """What becomes of `val`, 0 to 255. ffmpeg cuts off what is behind the point."""
    lit = f"min(min(val*{gain:.6f},255)*{brightness:.6f},255)"
    return f"clip(({lit}-127.5)*{contrast:.6f}+127.5,0,255)+0.5"
