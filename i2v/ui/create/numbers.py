"""The form's numbers by model and preset: what somebody chose for one of them is there again when they return to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from i2v.families.spec import FamilySpec
from i2v.ui.create.form import NUMBERS
from i2v.ui.create.shape import OWN, PICTURE, shaped_size

MOST_KEPT = 40  # models and presets; of more, those left longest ago are forgotten
SETTING_AT = "(kept, model, preset) => ({ ...kept, at: `${model} ${preset}` })"
"""Run in the browser before another model or preset is chosen: what the numbers that stand there are for."""


def key_of(model: str, preset: str) -> str:
    """The name under which the numbers for this model and preset are kept."""
    return f"{model} {preset}"


@dataclass(frozen=True)
class Chosen:
    """Aspect and quality as in `shape`, and the values of NUMBERS."""

    aspect: str
    quality: str
    numbers: tuple[float | None, ...]

    @classmethod
    def of(cls, kept: Any) -> Chosen | None:
        """What the browser kept; None where that cannot be read."""
        with suppress(TypeError, ValueError):
            aspect, quality, *numbers = kept
            if len(numbers) == len(NUMBERS) and all(one is None or isinstance(one, int | float) for one in numbers):
                return cls(str(aspect), str(quality), tuple(numbers))
        return None

    def under(self, spec: FamilySpec, usual: tuple[int, int], picture: tuple[int, int] | None) -> list[Any]:
        """The numbers, the size anew for a shape that is chosen in words: the picture may be another by now."""
        size = None if self.aspect == OWN else shaped_size(spec, usual, self.aspect, self.quality, picture)
        return [*(size or self.numbers[:2]), *self.numbers[2:]]


@dataclass(frozen=True)
class KeptNumbers:
    """`at`: what the form's numbers are for, by `key_of`. `by_key`: what was chosen for each model and preset."""

    at: str = ""
    by_key: Mapping[str, Chosen] = field(default_factory=dict)

    @classmethod
    def of(cls, kept: Any) -> KeptNumbers:
        """What the browser kept; nothing where that cannot be read."""
        if not isinstance(kept, dict) or not isinstance(kept.get("by"), dict):
            return cls(str(kept.get("at") or "") if isinstance(kept, dict) else "")
        read = {str(key): Chosen.of(one) for key, one in kept["by"].items()}
        return cls(str(kept.get("at") or ""), {key: one for key, one in read.items() if one})

    def kept(self) -> dict[str, Any]:
        """For the browser."""
        by = {key: [one.aspect, one.quality, *one.numbers] for key, one in self.by_key.items()}
        return {"at": self.at, "by": by}

    def moved(self, key: str, chosen: Chosen) -> KeptNumbers:
        """After the form has turned to `key`: `chosen` is what stood there for what it was about before."""
        by_key = dict(self.by_key)
        if self.at and self.at != key:
            by_key.pop(self.at, None)
            by_key[self.at] = chosen
        return KeptNumbers(key, dict(list(by_key.items())[-MOST_KEPT:]))


def numbers_for(
    kept: KeptNumbers,
    key: str,
    chosen: Chosen,
    defaults: Sequence[float],
    spec: FamilySpec,
    usual: tuple[int, int],
    picture: tuple[int, int] | None,
) -> list[Any]:
    """The values of NUMBERS for the model and preset of `key`: as they were there, else its `defaults` in the shape
    that is `chosen` now."""
    if earlier := kept.by_key.get(key):
        return earlier.under(spec, usual, picture)
    if (chosen.aspect, chosen.quality) == (PICTURE, "standard"):
        return list(defaults)
    size = shaped_size(spec, usual, chosen.aspect, chosen.quality, picture)
    return [*(size or defaults[:2]), *defaults[2:]]
