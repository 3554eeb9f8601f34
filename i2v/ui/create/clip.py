"""The place for a video that a new one is made from: how it comes in, what is told of it, and how far the new one may
go from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder

from i2v.families.spec import FamilySpec
from i2v.jobs.asked.prepare import VIDEO_STRENGTH
from i2v.messages import UserError
from i2v.ui.api import uploaded_path
from i2v.ui.create.brush import NOTHING_PAINTED
from i2v.ui.create.last_picture import last_picture_update
from i2v.ui.create.task import Dropped, Places, places, told_of, too_short
from i2v.ui.shown import panels
from i2v.ui.tabs import QUIET
from i2v.ui.texts import known, text
from i2v.video.clip_still import first_image

if TYPE_CHECKING:
    from i2v.ui.create.form import Form

PLACE_HEIGHT = 130  # pixels
SHOWN = ("shown", "picture", "clip", "strength", "last_picture")
"""The components of `shown_places`: what the browser shows now, and what is seen or not."""


@dataclass(frozen=True)
class Clip:
    """The components. `facts`: those of the video, None without one. `told`: what is wrong with one that was
    dropped; `note`: what is known of it. `shown`: the places that the browser shows, and in which language."""

    file: gr.File
    player: gr.HTML
    told: gr.HTML
    first_frame: gr.Button
    note: gr.HTML
    facts: gr.State
    shown: gr.State


def clip_place(i18n: gr.I18n, spec: FamilySpec, locale: str, *, ever: bool) -> tuple[Clip, gr.Slider]:
    """The place and the field `strength`, laid out here. `ever`: whether any model takes a video. If so the place is
    there even while it is not seen, so that it is heard to change."""
    seen, hidden = places(spec, Dropped()), "hidden" if ever else False
    file = gr.File(label=i18n("ui.clip"), height=PLACE_HEIGHT, visible=seen.clip or hidden, elem_id="i2v-clip")
    told = gr.HTML("", elem_id="i2v-clip-told")
    player = gr.HTML("", elem_id="i2v-clip-player")
    told_of_it = gr.HTML(note(spec, Dropped(), locale), elem_id="i2v-clip-note")
    first_frame = gr.Button(i18n("ui.first_frame"), size="sm", visible=ever, elem_id="i2v-first-frame")
    strength = gr.Slider(
        0, 1, VIDEO_STRENGTH, step=0.05, label=i18n("ui.strength"), info=i18n("ui.strength_help"), buttons=[],
        visible=seen.strength or hidden, elem_id="i2v-strength",
    )  # fmt: skip
    shown = gr.State({**vars(seen), "locale": locale})
    return Clip(file, player, told, first_frame, told_of_it, gr.State(None), shown), strength


def connect_clip(form: Form, language: gr.Radio, numbers_for_clip: Callable[[str, str, Any, Any], list[Any]]) -> None:
    """Let a video that is dropped be looked at, at once, and give the form its shape and length, by
    `numbers_for_clip`, of preset, model, the upload, and frames a second. The photograph goes then, and what was
    painted on it."""
    clip, fields = form.clip, form.fields

    def dropped(locale: str, preset: str, model: str, fps: Any, file: Any) -> list[Any]:
        try:
            numbers = numbers_for_clip(preset, model, file, fps)
        except UserError as error:
            return [panels.problem(error.message, known(locale)), None, *[gr.skip()] * 6]
        return ["", gr.skip(), None, *numbers, *NOTHING_PAINTED]

    def taken(locale: str, file: Any) -> list[Any]:
        try:
            path = uploaded_path(file, "video")
            if path is None:
                return [gr.skip()] * 3
            return ["", None, save_pil_to_cache(first_image(path), cache_dir=get_upload_folder(), format="png")]
        except UserError as error:
            return [panels.problem(error.message, known(locale)), gr.skip(), gr.skip()]

    sizes = [fields[name] for name in ("width", "height", "frames", "region", "way")]
    asked = [language, fields["preset"], fields["model"], fields["fps"], clip.file]
    quiet: dict[str, Any] = {**QUIET, "preprocess": False}
    clip.file.upload(dropped, asked, [clip.told, clip.file, form.picture, *sizes], **quiet)
    clip.file.clear(lambda: "", None, clip.told, **QUIET)
    clip.first_frame.click(taken, [language, clip.file], [clip.told, clip.file, form.picture], **quiet)


def player(path: Path) -> str:
    """The video as HTML, small, with the browser's own buttons. What a browser cannot play takes no room: what is known
    of the video stands below."""
    source, name = escape(panels.file_url(path)), escape(path.name)
    return (
        f'<video class="i2v-clip-player" src="{source}" aria-label="{name}" controls muted loop playsinline'
        ' preload="metadata" onerror="this.remove()"></video>'
    )


def note(spec: FamilySpec, dropped: Dropped, locale: str, frames: Any = None, fps: Any = None) -> str:
    """What there is to know, also of the `frames` that the form asks for at its `fps`; and marks by which style and
    script show the rest of the form."""
    told, seen = told_of(spec, dropped), places(spec, dropped)
    marks = {"takes-clips": "v2v" in spec.tasks, "first-frame": seen.first_frame, "no-examples": not seen.examples}
    marked = "".join(f'<i class="i2v-{name}" hidden></i>' for name, there in marks.items() if there)
    lacking = too_short(spec, dropped, frames, fps)
    notes = [panels.note(told.render(locale), calm=True)] if told else []
    notes += [panels.note(lacking.render(locale))] if lacking else []
    return "".join(notes) + marked


def updates(there: Places, locale: str, before: Any) -> list[Any]:
    """Updates for `shown_places`: none where the browser shows these already, `before`."""
    now = {**vars(there), "locale": locale}
    if now == before:
        return [gr.skip()] * len(SHOWN)
    drop = text("picture_drop_or_none" if there.alone else "picture_drop", locale)
    return [
        now,
        gr.update(visible=there.picture or "hidden", placeholder=drop),
        gr.update(visible=there.clip or "hidden"),
        gr.update(visible=there.strength or "hidden"),
        last_picture_update(there, locale),
    ]


def shown_places(form: Form) -> list[Any]:
    """The components of SHOWN."""
    return [form.clip.shown, form.picture, form.clip.file, form.fields["strength"], form.last_picture]
