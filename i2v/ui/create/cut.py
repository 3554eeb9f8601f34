"""The part of the photograph that becomes the video, where its shape is another: seen, and chosen."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.events import Dependency
from PIL import Image

from i2v.request import Fit
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known, text
from i2v.video.picture import fit_picture, kept_box

if TYPE_CHECKING:
    from i2v.ui.create.form import Form

ACROSS: tuple[Fit, ...] = ("crop_left", "crop", "crop_right", "pad")
DOWN: tuple[Fit, ...] = ("crop_top", "crop", "crop_bottom", "pad")
THUMBNAIL_SIDE = 320  # pixels
_LEAST_CUT = 0.02
"""What is cut below this share comes of rounding to sizes that the model takes, and is no choice."""


@dataclass(frozen=True)
class Cut:
    """The components; `thumbnail` is the photograph made small, as a data address, "" without one."""

    frame: gr.HTML
    thumbnail: gr.State


def cut_row(fit: Fit, i18n: gr.I18n) -> tuple[Cut, gr.Radio]:
    """The picture with its frame and the field `fit` beside it, laid out here; unseen while nothing would be cut."""
    with gr.Row(elem_id="i2v-cut"):
        frame = gr.HTML("", elem_id="i2v-cut-frame")
        choices = [(i18n(f"ui.fit_{name}"), name) for name in ACROSS]
        field = gr.Radio(choices, value=fit, label=i18n("ui.fit"), min_width=120, elem_id="i2v-fit")
    return Cut(frame, gr.State("")), field


def connect_cut(form: Form, language: gr.Radio, measured: Dependency) -> None:
    """Let the frame follow photograph, size and choice, and the choice offer what can be cut. `measured`: the event
    after which the thumbnail is there."""
    fields, cut = form.fields, form.cut
    inputs = [language, cut.thumbnail, fields["width"], fields["height"], fields["fit"]]
    changes = [one.change for one in inputs if one is not cut.thumbnail]
    by_language = f"(_, ...rest) => [{LANGUAGE}, ...rest]"
    late = {**QUIET, "preprocess": False, "trigger_mode": "always_last"}
    follow = {"fn": shown_cut, "inputs": inputs, "outputs": [cut.frame, fields["fit"]], "js": by_language, **late}
    gr.on(changes, **follow)
    measured.then(**follow)


def shown_cut(locale: str, thumbnail: str, width: Any, height: Any, fit: Any) -> list[Any]:
    """The frame as HTML, and an update for the choice; nothing to see where nothing would be cut."""
    if not thumbnail or not all(isinstance(side, (int, float)) and side > 0 for side in (width, height)):
        return ["", gr.skip()]
    picture = opened(thumbnail)
    box = kept_box(picture.size, width, height, "crop")
    kept = (box[2] - box[0]) / picture.width, (box[3] - box[1]) / picture.height
    if min(kept) > 1 - _LEAST_CUT:
        return ["", gr.skip()]
    locale = known(locale)
    fits = ACROSS if kept[0] < kept[1] else DOWN
    choices = [(text(f"fit_{name}", locale), name) for name in fits]
    # Not the value that stands there: by the time this arrives another may have been chosen.
    choice = gr.update(choices=choices)
    if fit not in fits:  # what is kept at an edge that is not cut is the middle
        fit, choice = "crop", gr.update(choices=choices, value="crop")
    return [
        _filled(picture, width, height, locale)
        if fit == "pad"
        else _framed(picture, thumbnail, width, height, fit, locale),
        choice,
    ]


def thumbnail_of(picture: Image.Image) -> str:
    """`picture` made small, as a data address."""
    small = picture.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return _data_address(small)


def _framed(picture: Image.Image, address: str, width: float, height: float, fit: Fit, locale: str) -> str:
    """The whole photograph, all but the part that is kept in the shade."""
    left, top, right, bottom = kept_box(picture.size, width, height, fit)
    across, down = 100 / picture.width, 100 / picture.height
    place = f"left:{left * across:.2f}%;top:{top * down:.2f}%;"
    place += f"width:{(right - left) * across:.2f}%;height:{(bottom - top) * down:.2f}%"
    return _figure(address, picture.size, text("cut_alt", locale), f'<i style="{place}"></i>')


def _filled(picture: Image.Image, width: float, height: float, locale: str) -> str:
    """The photograph as it will be with its edges filled."""
    scale = THUMBNAIL_SIDE / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return _figure(_data_address(fit_picture(picture, *size, "pad")), size, text("cut_alt_pad", locale), "")


def _figure(address: str, size: tuple[int, int], alt: str, over: str) -> str:
    ratio = f"--ratio:{size[0] / size[1]:.4f}"
    return f'<div class="i2v-cut" style="{ratio}"><img src="{address}" alt="{escape(alt)}">{over}</div>'


def opened(address: str) -> Image.Image:
    """The picture in a data address that `thumbnail_of` made."""
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB")


def _data_address(picture: Image.Image) -> str:
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"
