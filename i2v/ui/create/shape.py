"""The video's shape in words: an aspect and a quality that fill width and height, a length that fills frames.

The numbers are what counts. Aspect and quality say "own numbers" where somebody has typed a size that is none of
theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.events import Dependency

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.jobs.asked.prepare import default_size
from i2v.messages import UserError
from i2v.models.catalogue import find_model
from i2v.request import AUTO, PlanOptions
from i2v.settings.settings import Settings
from i2v.ui.api import uploaded_path
from i2v.ui.create.clip import player
from i2v.ui.create.cut import thumbnail_of
from i2v.ui.shown import panels
from i2v.ui.tabs import QUIET
from i2v.ui.texts import known, text
from i2v.video.clip import clip_facts
from i2v.video.picture import load_picture

if TYPE_CHECKING:
    from i2v.ui.create.form import Form

PICTURE, OWN = "picture", "own"
ASPECTS: Mapping[str, tuple[int, int]] = {"16:9": (16, 9), "4:3": (4, 3), "1:1": (1, 1), "3:4": (3, 4), "9:16": (9, 16)}
QUALITIES: Mapping[str, float] = {"draft": 0.5, "standard": 1.0, "fine": 1.5}
"""By how much each side is longer than the model's usual one within the preset."""
LENGTHS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 60.0)
"""The lengths offered, in seconds, as far as they suit the model. More of them would make the list one that scrolls,
which the keyboard then stops at."""


@dataclass(frozen=True)
class Shape:
    """The components; the value of `seconds` is a number of frames. `told` says size and length in numbers.
    `picture_size` is the (width, height) of the photograph or the video, None without either."""

    aspect: gr.Dropdown
    quality: gr.Dropdown
    seconds: gr.Dropdown
    told: gr.HTML
    picture_size: gr.State

    @property
    def choices(self) -> list[gr.Dropdown]:
        """What a person chooses from."""
        return [self.aspect, self.quality, self.seconds]


def shape_row(i18n: gr.I18n) -> Shape:
    """The three choices in a row, laid out here; what they come to is for whoever calls to render."""
    aspects = [(i18n("ui.aspect_picture"), PICTURE), *((name, name) for name in ASPECTS)]
    qualities = [(i18n(f"ui.quality_{name}"), name) for name in QUALITIES]
    own = (i18n("ui.shape_own"), OWN)
    with gr.Row(elem_id="i2v-shape"):
        aspect = gr.Dropdown(
            [*aspects, own], value=PICTURE, label=i18n("ui.aspect"), min_width=110, elem_id="i2v-aspect"
        )
        quality = gr.Dropdown(
            [*qualities, own], value="standard", label=i18n("ui.quality"), min_width=90, elem_id="i2v-quality"
        )
        seconds = gr.Dropdown([], label=i18n("ui.seconds"), min_width=80, elem_id="i2v-seconds")
    return Shape(aspect, quality, seconds, gr.HTML("", render=False, elem_id="i2v-length"), gr.State(None))


def connect_shape(
    form: Form, settings: Settings, ticket_for: Callable[[gr.Request | None, Path | None, Path | None], str]
) -> Dependency:
    """Let the choices fill the numbers, and the size of the photograph or the video be known, with the ticket that the
    browser keeps for it, by `ticket_for`. What the numbers are called follows with the other answers. Returns the event
    after which size and thumbnail are known, for what follows from these: a state's own event of change can be lost
    while its listener is at work."""
    shape, fields = form.shape, form.fields

    def by_aspect(model: str, preset: str, aspect: str, quality: str, picture: Any) -> list[Any]:
        return filled(model, preset, aspect, "standard" if quality == OWN else quality, picture)

    def by_quality(model: str, preset: str, aspect: str, quality: str, picture: Any) -> list[Any]:
        return filled(model, preset, PICTURE if aspect == OWN else aspect, quality, picture)

    def filled(model: str, preset: str, aspect: str, quality: str, picture: Any) -> list[Any]:
        with suppress(UserError):
            if size := shaped_size(*usual_shape(model, preset, settings), aspect, quality, picture):
                return list(size)
        return [gr.skip(), gr.skip()]

    def measured(request: gr.Request | None, picture: Any, clip: Any, last: Any) -> list[Any]:
        try:
            last_path = uploaded_path(last)
            if video := uploaded_path(clip, "video"):
                facts = clip_facts(video, max_megapixels=settings.max_picture_megapixels)
                return [(facts.width, facts.height), "", ticket_for(request, video, last_path), facts, player(video)]
            path = uploaded_path(picture)
            if path is None:
                return [None, "", ticket_for(request, None, last_path), None, ""]
            loaded = load_picture(path, max_megapixels=settings.max_picture_megapixels)
            return [loaded.size, thumbnail_of(loaded), ticket_for(request, path, last_path), None, ""]
        except UserError:  # the ticket stays: an earlier picture comes back for one that cannot be read
            return [None, "", gr.skip(), None, ""]

    sizes = [fields["width"], fields["height"]]
    inputs = [fields["model"], fields["preset"], shape.aspect, shape.quality, shape.picture_size]
    # Not `select`, which a choice by keys does not bring about.
    shape.aspect.input(by_aspect, inputs, sizes, **QUIET)
    shape.quality.input(by_quality, inputs, sizes, **QUIET)
    shape.seconds.input(None, shape.seconds, fields["frames"], js="(frames) => frames", **QUIET)
    known_size = [shape.picture_size, form.cut.thumbnail, form.ticket, form.clip.facts, form.clip.player]
    sources = form.sources
    return gr.on([one.change for one in sources], measured, sources, known_size, **QUIET, preprocess=False)


def usual_shape(model: str, preset: str, settings: Settings) -> tuple[FamilySpec, tuple[int, int]]:
    """The model's family, and the size (width, height) it usually has within the preset. Raises UserError for an
    unknown model."""
    spec = SPECS[find_model(model, settings).family]
    return spec, default_size(spec, under_preset(settings, preset))


def under_preset(settings: Settings, preset: str) -> Settings:
    """The settings under the preset that the form has chosen."""
    return settings.with_overrides(PlanOptions(preset=None if preset == AUTO else preset))


def shaped_size(
    spec: FamilySpec, usual: tuple[int, int], aspect: str, quality: str, picture: tuple[int, int] | None
) -> tuple[int, int] | None:
    """The size (width, height) of this aspect with as many pixels as the `usual` size has at this quality; None where
    a choice names no size. Without a `picture` its aspect is the usual one's."""
    ratio = (picture or usual) if aspect == PICTURE else ASPECTS.get(aspect)
    if ratio is None or quality not in QUALITIES:
        return None
    side = math.sqrt(usual[0] * usual[1]) * QUALITIES[quality]
    stretch = math.sqrt(ratio[0] / ratio[1])
    return spec.nearest_sizes(side * stretch, side / stretch)


def named_shape(
    spec: FamilySpec,
    usual: tuple[int, int],
    size: tuple[Any, Any],
    chosen: tuple[str, str],
    picture: tuple[int, int] | None,
) -> tuple[str, str]:
    """The aspect and quality that `size` (width, height) is, those `chosen` before any other; OWN where it is none."""
    every = [(aspect, quality) for aspect in (PICTURE, *ASPECTS) for quality in QUALITIES]
    for aspect, quality in (chosen, *every):
        found = shaped_size(spec, usual, aspect, quality, picture)
        # What the page proposes for a picture is rounded down, and so may be a step smaller than the nearest.
        if found and all(
            isinstance(side, (int, float)) and abs(side - there) <= (aspect == PICTURE) * spec.size_multiple
            for side, there in zip(size, found, strict=True)
        ):
            return aspect, quality
    return OWN, OWN


def lengths(spec: FamilySpec, frames: Any, fps: Any) -> list[int]:
    """The lengths to choose from, in frames: those of LENGTHS at `fps` as the model can make them, and the one there
    is."""
    if not isinstance(fps, (int, float)) or not fps > 0:
        return []
    most = spec.nearest_frames(min(spec.hints.max_frames, spec.max_frames))
    wanted = [seconds * fps for seconds in LENGTHS]
    near = [(one, spec.nearest_frames(one)) for one in wanted]
    # Shorter ones than the model's shortest are not offered as that.
    offered = {count for one, count in near if abs(count - one) <= spec.frame_step}
    own = {frames} if isinstance(frames, int) and frames > 0 else set()
    return sorted({one for one in offered if one <= most} | own)


def length_choices(spec: FamilySpec, frames: Any, fps: Any, locale: str) -> Any:
    """An update for the choice of a length, in seconds."""
    offered = lengths(spec, frames, fps)
    shown = [(text("seconds_value", locale, seconds=f"{one / fps:.3g}"), one) for one in offered]
    return gr.update(choices=shown, value=frames if frames in offered else None)


def length_note(locale: str, width: Any, height: Any, frames: Any, fps: Any) -> str:
    """Size and length in numbers; nothing while they are not there."""
    if not all(isinstance(one, (int, float)) and one > 0 for one in (width, height, frames, fps)):
        return ""
    told = {"width": width, "height": height, "frames": frames, "fps": fps, "seconds": f"{frames / fps:.1f}"}
    return panels.note(text("length", known(locale), **told), calm=True)
