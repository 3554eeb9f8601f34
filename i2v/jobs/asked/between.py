"""Pictures at frames between the first and the last: how they are said, and which can be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from i2v.messages import UserError
from i2v.request import Input
from i2v.settings.values import shown


def pictures_at(value: Any) -> dict[int, Path]:
    """The files by their frames, in order, of a mapping or of words such as "24:evening.jpg". Raises UserError for what
    says no frame or names one twice."""
    if value is None:
        return {}
    pairs = list(value.items()) if isinstance(value, Mapping) else [_of_words(one) for one in _listed(value)]
    found = {_frame(frame, value): _file(file, value) for frame, file in pairs}
    if len(found) < len(pairs):
        raise UserError("request.bad_image_at", value=shown(value))
    return dict(sorted(found.items()))


def inputs_between(files: Mapping[int, Path]) -> tuple[Input, ...]:
    """The inputs of a request."""
    return tuple(Input("image", str(file), at=frame) for frame, file in files.items())


def check_between(inputs: tuple[Input, ...], num_frames: int) -> None:
    """Raise UserError for a picture at a frame that is not between the first and the last of so many."""
    for one in inputs:
        if one.kind == "image" and one.at is not None and one.at > 0 and one.at >= num_frames - 1:
            raise UserError("request.image_at_range", value=one.at, high=num_frames - 2)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _of_words(one: Any) -> tuple[Any, Any]:
    frame, _, file = one.partition(":") if isinstance(one, str) else ("", "", None)
    return frame, file


def _frame(frame: Any, value: Any) -> int:
    words = str(frame).strip()
    if isinstance(frame, bool) or not words.isascii() or not words.isdecimal() or len(words) > 9 or int(words) < 1:
        raise UserError("request.bad_image_at", value=shown(value))
    return int(words)


def _file(file: Any, value: Any) -> Path:
    if not isinstance(file, str | Path) or not str(file) or "\0" in str(file):
        raise UserError("request.bad_image_at", value=shown(value))
    return Path(file)
