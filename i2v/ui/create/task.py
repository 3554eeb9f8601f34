"""What a video is made from follows what was dropped: the task, which places the form has for it, and what to say
where the chosen model cannot do it. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.jobs.asked.prepare import cap_frames
from i2v.messages import Message, UserError, message
from i2v.models.catalogue import list_models
from i2v.request import Task
from i2v.settings.values import listed
from i2v.video.clip import ClipFacts

if TYPE_CHECKING:
    from i2v.settings.settings import Settings


@dataclass(frozen=True)
class Dropped:
    """What was dropped on the page, of which there is one at a time: a photograph of this (width, height), or a video
    with these `facts`."""

    picture_size: tuple[int, int] | None = None
    facts: ClipFacts | None = None

    @property
    def picture(self) -> bool:
        """Whether it is a photograph."""
        return self.picture_size is not None and self.facts is None

    @property
    def clip(self) -> bool:
        """Whether it is a video."""
        return self.facts is not None

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) of either; None where nothing was dropped."""
        return (self.facts.width, self.facts.height) if self.facts else self.picture_size


@dataclass(frozen=True)
class Places:
    """Which parts of the form are seen. `alone`: the model needs no photograph; `first_frame`: the button that takes
    one from the video; `examples`: photographs to begin with; `last`: a picture that the video ends with, which
    the model may need."""

    picture: bool
    alone: bool
    clip: bool
    strength: bool
    first_frame: bool
    examples: bool
    last: bool = False
    last_needed: bool = False


def task_of(spec: FamilySpec, *, picture: bool, clip: bool) -> Task:
    """The task for what was dropped, whether the model has it or not. Of nothing it is the first that the model has:
    from the sentence alone, else one whose photograph or video is still to come."""
    if clip:
        return "v2v"
    if picture:
        return "i2v"
    order: tuple[Task, ...] = ("t2v", "i2v", "v2v")
    return next((task for task in order if task in spec.tasks), "i2v")


def places(spec: FamilySpec, dropped: Dropped) -> Places:
    """What the form shows. What was dropped stays in sight, so that it can be taken away, where another model was
    chosen since; of photograph and video only one is asked for at a time. A model that needs no photograph is asked for
    a last picture once there is a first."""
    slot = spec.last_image("i2v")
    last = slot is not None and not dropped.clip and (dropped.picture or "t2v" not in spec.tasks)
    return Places(
        picture=not dropped.clip and ("i2v" in spec.tasks or dropped.picture),
        alone="t2v" in spec.tasks,
        clip=dropped.clip or ("v2v" in spec.tasks and not dropped.picture),
        strength=dropped.clip and "v2v" in spec.tasks,
        first_frame=dropped.clip and "i2v" in spec.tasks,
        examples=not dropped.clip and "i2v" in spec.tasks,
        last=last,
        last_needed=slot is not None and slot.needed,
    )


def refusal_of(spec: FamilySpec, task: Task, settings: Settings) -> UserError | None:
    """What to say where the model cannot do `task`, with the models here that can; None where it can."""
    if task in spec.tasks:
        return None
    families = (SPECS[model.family] for model in list_models(settings) if model.family in SPECS)
    others = list(dict.fromkeys(family.title for family in families if task in family.tasks))
    if others:
        return UserError(f"ui.cannot_{task}", model=spec.title, others=listed(others))
    return UserError(f"ui.nobody_can_{task}", model=spec.title)


def nothing_dropped(spec: FamilySpec) -> UserError:
    """What to say where the model needs a photograph or a video and there is none."""
    return UserError("ui.no_picture" if "v2v" not in spec.tasks else "ui.no_picture_no_clip")


def told_of(spec: FamilySpec, dropped: Dropped) -> Message | None:
    """What a person should know of what was dropped, where that is not plain to see."""
    if facts := dropped.facts:
        return message("ui.clip_facts", width=facts.width, height=facts.height, seconds=f"{facts.seconds:.3g}")
    if dropped.size is None and "t2v" in spec.tasks:
        return message("ui.sentence_alone")
    return None


def too_short(spec: FamilySpec, dropped: Dropped, frames: Any, fps: Any) -> Message | None:
    """What to say of a video that has not the `frames` that the form asks for at its `fps`."""
    known = all(isinstance(one, int | float) for one in (frames, fps))
    if dropped.facts is None or "v2v" not in spec.tasks or not known:
        return None
    there = dropped.facts.frames_at(fps)
    return message("ui.clip_gives", fps=fps, there=there, frames=frames) if frames > there else None


def frames_within(spec: FamilySpec, facts: ClipFacts, fps: float) -> int:
    """The most frames that the model can make of a video that is looked at `fps` times a second; the model's least
    where it is too short for any."""
    there = facts.frames_at(fps)
    return cap_frames(there, there, spec)
