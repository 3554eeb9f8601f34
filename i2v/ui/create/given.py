"""What Generate hands on: the form's values, with the task that what was dropped asks for, and the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.messages import UserError
from i2v.models.catalogue import find_model
from i2v.models.entry import ModelEntry
from i2v.ui.api import uploaded_path
from i2v.ui.create.form import FIELDS, request_values
from i2v.ui.create.task import nothing_dropped, refusal_of, task_of

if TYPE_CHECKING:
    from i2v.settings.settings import Settings


@dataclass(frozen=True)
class Given:
    """`values` have the command line's keys; of `picture` and `clip` at most one is there. `last_picture`: what the
    video ends with, where its model takes one."""

    values: Mapping[str, Any]
    picture: Path | None
    clip: Path | None
    last_picture: Path | None = None


def given(picture: Any, clip: Any, last: Any, raw: Sequence[Any], settings: Settings) -> Given:
    """What the browser sent: its files, and `raw`, the values of FIELDS. Raises UserError where the model does not make
    videos of what was dropped, and names those that do; and where it needs something and there is nothing.
    The `last` picture is left out where the form does not show it, since the model takes none."""
    video = uploaded_path(clip, "video")
    photograph = uploaded_path(picture) if video is None else None
    spec = spec_named(dict(zip(FIELDS, raw, strict=True))["model"], settings)
    if spec is None:  # the service says what is wrong with the name
        return Given(request_values(raw, None), photograph, video)
    task = task_of(spec, picture=photograph is not None, clip=video is not None)
    if refusal := refusal_of(spec, task, settings):
        raise refusal
    if task != "t2v" and photograph is None and video is None:
        raise nothing_dropped(spec)
    last_picture = uploaded_path(last) if spec.last_image(task) else None
    return Given(request_values(raw, spec, task), photograph, video, last_picture)


def values_given(raw: Sequence[Any], settings: Settings) -> dict[str, Any]:
    """The values alone of `raw`, those of FIELDS, with the task that stands there."""
    return request_values(raw, spec_named(dict(zip(FIELDS, raw, strict=True))["model"], settings))


def entry_named(model: Any, settings: Settings) -> ModelEntry | None:
    """The model that the form names; None where there is no such model."""
    with suppress(UserError, TypeError):
        return find_model(model or settings.model, settings)
    return None


def spec_named(model: Any, settings: Settings) -> FamilySpec | None:
    """The family of `entry_named`."""
    entry = entry_named(model, settings)
    return entry and SPECS[entry.family]
