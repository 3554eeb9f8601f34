"""What a guest's page says and leaves out. It is a courtesy only: `OwnJobs` refuses what a guest may not do."""

from __future__ import annotations

from typing import Any

import gradio as gr

from i2v.ui import panels
from i2v.ui.access import GUEST, owner_of
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known, text

_STEERING = (
    *("#i2v-actions", "#i2v-scout", "#i2v-restore", "#i2v-queue-pause", "#i2v-queue-lend", ".i2v-job-actions"),
    *(f"#i2v-gallery-{name}" for name in ("use", "continue", "redecode", "delete", "undo", "export", "look")),
    *("#i2v-tidy", "#i2v-test"),
)


def guest_notice() -> gr.HTML:
    """The line that tells a guest so, laid out here; there for nobody else."""
    return gr.HTML("", visible=False, elem_id="i2v-guest")


def connect_guest(notice: gr.HTML, page: gr.Blocks, language: gr.Radio) -> None:
    """Show `notice` to guests, and with it no button that would only be refused."""

    def look(request: gr.Request | None, locale: str) -> Any:
        if owner_of(request) != GUEST:
            return gr.skip()
        # In here, so that the buttons stay away whatever a callback makes of them.
        hidden = f"<style>{', '.join(_STEERING)} {{ display: none !important; }}</style>"
        return gr.update(visible=True, value=panels.note(text("guest", known(locale)), calm=True) + hidden)

    page.load(look, language, notice, js=f"(_) => [{LANGUAGE}]", **QUIET)
    language.change(look, language, notice, **QUIET)
