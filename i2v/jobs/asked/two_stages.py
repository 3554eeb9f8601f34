"""Whether a video is denoised in two stages: as somebody said, or where the model's files can and it suits them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from i2v.families.spec import FamilySpec
from i2v.messages import Message, UserError, message
from i2v.models.entry import ModelEntry
from i2v.request import GenerationRequest
from i2v.settings.values import Choice

ON, OFF = "on", "off"
ALIASES = {"true": ON, "yes": ON, "false": OFF, "no": OFF}


def two_stages(asked: Any, request: GenerationRequest, entry: ModelEntry, spec: FamilySpec) -> bool | None:
    """None where nobody said and it does not suit the run. `asked`: on or off; None leaves it to us. Raises UserError
    for what is neither, and where it is wanted of a model, a checkpoint or a size that can not have it."""
    word = str(asked).lower() if isinstance(asked, bool) else asked
    said = None if asked is None else Choice((ON, OFF), ALIASES, auto=True).parse(word, "two_stages")
    if said != ON:
        suits = _could_have(request, entry, spec) and _has_half(request, spec)
        return None if not suits else said is None
    if spec.two_stages is None:
        raise UserError("family.two_stages_not_taken", model=spec.title)
    if not _has_component(entry, spec):
        component, page = spec.two_stages.component, f"docs/models/{spec.name}.md"
        folder = str(entry.folder or entry.name)
        raise UserError(
            "family.two_stages_no_component", model=spec.title, component=component, folder=folder, page=page
        )
    if not _has_half(request, spec):
        raise UserError("family.two_stages_size", **_sizes(request, spec))
    return True


def stages_notes(request: GenerationRequest, entry: ModelEntry, spec: FamilySpec) -> Iterator[Message]:
    """What to know of the stages that a video gets."""
    if spec.two_stages is None:
        return
    if request.two_stages and not request.adapters and not spec.two_stages.is_distilled(request):
        yield message("request.hint_two_stages", model=spec.title, steps=spec.two_stages.distilled_steps)
    if request.two_stages is None and _could_have(request, entry, spec) and not _has_half(request, spec):
        yield message("request.hint_one_stage", **_sizes(request, spec))


def _could_have(request: GenerationRequest, entry: ModelEntry, spec: FamilySpec) -> bool:
    """Whether two stages suit the run, at a size that has a half."""
    return spec.two_stages is not None and spec.two_stages.is_distilled(request) and _has_component(entry, spec)


def _has_half(request: GenerationRequest, spec: FamilySpec) -> bool:
    return spec.two_stages is not None and spec.two_stages.halves(request.width, request.height, spec.size_multiple)


def _sizes(request: GenerationRequest, spec: FamilySpec) -> dict[str, Any]:
    """What is said of a size that has no half."""
    width, height, multiple = request.width, request.height, 2 * spec.size_multiple
    nearest = "x".join(str(max(round(side / multiple), 1) * multiple) for side in (width, height))
    return {"model": spec.title, "width": width, "height": height, "multiple": multiple, "nearest": nearest}


def _has_component(entry: ModelEntry, spec: FamilySpec) -> bool:
    """Whether what makes latents larger is in the model's folder."""
    component = spec.two_stages.component if spec.two_stages else ""
    return entry.present and entry.folder is not None and (entry.folder / component / "config.json").is_file()


def said_of(request: GenerationRequest) -> str | None:
    """The word that asks for what `request` has; None where nothing was said."""
    return None if request.two_stages is None else ON if request.two_stages else OFF
