"""What nano says of a sentence: how it will move the picture, and which clauses it has not understood."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from i2v.families.nano.clauses import clauses
from i2v.families.nano.life import LIVING, PLACED
from i2v.families.nano.reader import CAMERA, SURENESS
from i2v.families.nano.reading import PARTS
from i2v.messages import Message, message

WEAK, STRONG = 0.75, 1.4  # strengths below and above are told of; taught are 0.5, 1 and 1.8
WORTH_TELLING = 0.3  # the least share of a living motion that is told of
LONGEST_QUOTE = 60  # characters
WHOLE_VIEW = 0.97  # more of the photograph is as good as all
STEADY = ("still", "handheld")  # how strongly is not told of these


@dataclass(frozen=True)
class Understood:
    """What a sentence asks for, as it was read: a camera motion and a living one, their strengths, and the clauses that
    ask for what nano can not do."""

    camera: str | None
    camera_strength: float
    living: str | None
    living_strength: float
    beyond: tuple[str, ...]

    @classmethod
    def of(cls, text: str, read: Tensor) -> Understood:
        """`read` (8, 27): what `reading.read` made of `reading.rows(text)`, or of those that hold words."""
        camera, living, strengths, beyond = read.float().split(PARTS, dim=-1)
        share, asked_for = torch.softmax(SURENESS * living[0], dim=-1)[:-1].max(dim=-1)
        parts = clauses(text)
        return cls(
            camera=(*CAMERA, None)[int(camera[0].argmax())],
            camera_strength=float(strengths[0, 0]),
            living=LIVING[int(asked_for)] if share >= WORTH_TELLING else None,
            living_strength=float(strengths[0, 1]),
            beyond=tuple(part for part, logit in zip(parts, beyond[1:, 0].tolist(), strict=False) if logit > 0),
        )


def said(understood: Understood, *, brushed: bool) -> tuple[Message, ...]:
    """The motion, and the clauses that were not understood, quoted. `brushed`: a person has shown where it lives."""
    told = [message("nano.motion", moves=_moves(understood, brushed).to_json())]
    if understood.beyond:
        told.append(
            message("nano.not_understood", clauses="; ".join(f"“{_short(part)}”" for part in understood.beyond))
        )
    return tuple(told)


def shown(understood: Understood, *, lost: bool, view: float) -> tuple[Message, ...]:
    """What is known once the motion is: `lost` where it is not clear what in the photograph is meant, and the share
    `view` of the photograph's sides that is seen, where the camera would have led out of it."""
    told = []
    if lost and understood.living in PLACED:
        told.append(message("nano.where", what=message(f"nano.place_{understood.living}").to_json()))
    if view < WHOLE_VIEW:
        told.append(message("nano.view", percent=round(100 * view)))
    return tuple(told)


def _moves(understood: Understood, brushed: bool) -> Message:
    camera = living = None
    if understood.camera is not None:
        camera = message(f"nano.camera_{understood.camera}")
        if understood.camera not in STEADY:
            camera = _strong("camera", camera, understood.camera_strength)
    if understood.living is not None:
        living = _strong("living", message(f"nano.living_{understood.living}"), understood.living_strength)
        if brushed and understood.living in PLACED:
            living = message("nano.where_brushed", motion=living.to_json())
    if camera is not None and living is not None:
        return message("nano.both", camera=camera.to_json(), living=living.to_json())
    return camera or living or message("nano.nothing_asked")


def _strong(part: str, motion: Message, strength: float) -> Message:
    if WEAK <= strength <= STRONG:
        return motion
    return message(f"nano.{part}_{'weak' if strength < WEAK else 'strong'}", motion=motion.to_json())


def _short(part: str) -> str:
    return part if len(part) <= LONGEST_QUOTE else f"{part[: LONGEST_QUOTE - 1]}…"
