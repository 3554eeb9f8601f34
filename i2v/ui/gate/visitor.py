"""What the page says to who has logged in, and leaves out for who may not do it. It is a courtesy only: `OwnJobs`
refuses what a visitor may not do."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from i2v.ui.gate.access import GUEST, owner_of, steers_all
from i2v.ui.shown import panels
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known, text

ADMINS = ("#i2v-queue-pause", "#i2v-queue-lend", "#i2v-models .everybodys", "#i2v-lora-rows .everybodys")
"""What concerns everybody's jobs."""
STEERING = (
    *("#i2v-actions", "#i2v-scout", "#i2v-restore", ".i2v-job-actions", ".i2v-pane-actions [data-act=use]"),
    *(
        f"#i2v-gallery-{name}"
        for name in ("use", "continue", "extend", "redecode", "delete", "undo", "export", "finish", "finish-take")
    ),
    *("#i2v-tidy", "#i2v-test", "#i2v-lora-add", "#i2v-lora-from-hub", "#i2v-model-cards [data-get]"),
    "#i2v-model-by-id",
)
"""What changes anything at all; a finished row of the queue still opens."""
_KEPT = ".i2v-job-actions:has([data-act=open])"
# The tab itself is pressed, and so the gallery looks as it does for who presses it. The answer may be drawn a few
# frames after it came.
_GUEST_LANDS = """() => {
  let frames = 60;
  const go = () => {
    const gallery = document.querySelector('#i2v-tabs [data-tab-id="gallery"]');
    if (gallery && document.querySelector(".i2v-visitor.guest")) gallery.click();
    else if (frames--) requestAnimationFrame(go);
  };
  requestAnimationFrame(go);
}"""


def visitor_notice() -> gr.HTML:
    """The line that says who has logged in, laid out here; there for nobody else."""
    return gr.HTML("", visible=False, elem_id="i2v-visitor")


def visitor_line(who: str, locale: str) -> str:
    """Who has logged in, with a way out; for a guest what that means. In here too that the page shows them no button
    that would only be refused: so it stays away whatever a callback makes of it."""
    guest = who == GUEST
    hidden = () if steers_all(who) else (*ADMINS, *(STEERING if guest else ()))
    name, leave = escape(text("signed_in", locale, name=who)), escape(text("sign_out", locale))
    line = f'<p class="i2v-visitor{" guest" if guest else ""}">{name} · <a href="logout">{leave}</a></p>'
    style = f"<style>{', '.join(hidden)} {{ display: none !important; }}</style>" if hidden else ""
    style += f"<style>{_KEPT} {{ display: flex !important; }}</style>" if guest else ""
    return line + (panels.note(text("guest", locale), calm=True) if guest else "") + style


def connect_visitor(notice: gr.HTML, page: gr.Blocks, language: gr.Radio) -> None:
    """Fill `notice` for who has logged in. A guest, who comes to look, begins with the gallery."""

    def look(request: gr.Request | None, locale: str) -> Any:
        if getattr(request, "username", None) is None:
            return gr.skip()
        return gr.update(visible=True, value=visitor_line(owner_of(request), known(locale)))

    arrived = page.load(look, language, notice, js=f"(_) => [{LANGUAGE}]", **QUIET)
    arrived.then(None, None, None, js=_GUEST_LANDS, **QUIET)
    language.change(look, language, notice, **QUIET)
