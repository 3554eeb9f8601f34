"""Beside an open video: what was done to its frames, what its measures suggest, and doing it otherwise or not at all.
The frames are decoded again from what is kept; nothing is generated."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.finishing.offers import offers_for
from i2v.jobs.job.folder import VIDEO
from i2v.messages import UserError
from i2v.request import AS_DECODED, Finish
from i2v.ui.create.finish_fields import field_values, finish_fields
from i2v.ui.create.fold import fold
from i2v.ui.gate.own import OwnJobs
from i2v.ui.texts import known, text
from i2v.video.metadata import read_metadata

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

_COUNTED = ("deflicker", "match_colours")


class FinishPanel:
    """The components, laid out where it is made."""

    def __init__(self, service: JobService, i18n: gr.I18n) -> None:
        self.service = service
        self.offer = gr.HTML("", elem_id="i2v-gallery-offer")
        self.take = gr.Button(i18n("ui.act_finish_offer"), size="sm", visible=False, elem_id="i2v-gallery-finish-take")
        with fold(i18n("ui.finishing"), "i2v-gallery-finish"):
            self.told = gr.HTML("", elem_id="i2v-gallery-finish-told")
            self.fields = finish_fields(i18n, "i2v-gallery")
            with gr.Row():
                self.undo = gr.Button(i18n("ui.act_unfinish"), size="sm", visible=False, elem_id="i2v-gallery-unfinish")
                self.again = gr.Button(
                    i18n("ui.act_finish"), size="sm", variant="primary", elem_id="i2v-gallery-finish-again"
                )

    @property
    def outputs(self) -> list[Any]:
        """In the order of `shown`."""
        return [self.offer, self.take, self.told, self.undo, *self.fields.values()]

    def shown(self, request: gr.Request | None, asked: Any, locale: str) -> list[Any]:
        """The panel for the video that is opened in `asked`."""
        try:
            job = OwnJobs.of(self.service, request).status(asked.opened)
        except UserError:
            return [gr.skip()] * len(self.outputs)
        finish = job.request.finish
        told: Mapping[str, Any] = {}
        if finish != AS_DECODED:
            try:
                told = read_metadata(job.folder / VIDEO).get("finishing") or {}
            except UserError:
                told = {}  # the choices stand below all the same
        offered = [escape(one.render(known(locale))) for one in offers_for(job.folder, finish).values()]
        return [
            "".join(f'<p class="i2v-finish-told">{one}</p>' for one in offered),
            gr.update(visible=bool(offered)),
            changed(told, known(locale)),
            gr.update(visible=finish != AS_DECODED),
            *field_values(finish).values(),
        ]

    def offered(self, request: gr.Request | None, job_id: str) -> dict[str, Any]:
        """The changes to a job that take up what is offered for it. Raises UserError for one that is not there."""
        job = OwnJobs.of(self.service, request).status(job_id)
        return dict.fromkeys(offers_for(job.folder, job.request.finish), True)


def changed(told: Mapping[str, Any], locale: str) -> str:
    """What the stages have changed, by what they wrote into the video."""
    lines = []
    for name in _COUNTED:
        if one := told.get(name):
            found = {"changed": one["frames_changed"], "most": f"{one['largest_change']:.1f}"}
            said = f"finish_told_{name}" if one["frames_changed"] else f"finish_needless_{name}"
            lines.append(text(said, locale, **found))
    if one := told.get("interpolate"):
        lines.append(text("finish_told_interpolate", locale, made=one["frames_made"], cuts=one["cuts_found"]))
    return "".join(f'<p class="i2v-finish-told">{escape(line)}</p>' for line in lines)


def finish_words(finish: Finish, locale: str) -> str:
    """What happens to the frames, in a few words; empty for nothing."""
    words = [text(f"finish_{name}", locale) for name in _COUNTED if getattr(finish, name)]
    if finish.interpolate > 1:
        words.append(text("finish_interpolate", locale, times=finish.interpolate))
    if finish.upscale > 1:
        words.append(text("finish_upscale", locale, times=finish.upscale))
    return ", ".join(words)
