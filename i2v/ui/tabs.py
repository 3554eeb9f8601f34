"""What the tabs share: quiet callbacks, a timer that runs only for who looks, buttons inside of HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

CHOOSE = Path(__file__).with_name("choose.js").read_text(encoding="utf-8")
"""`js_on_load` of a gr.HTML whose buttons have `data-act` and `data-id`: they arrive with its click event."""

HOVER = Path(__file__).with_name("hover.js").read_text(encoding="utf-8")
"""`js_on_load` of a gr.HTML in which what has `data-video` plays under the pointer."""

LANGUAGE = "window.i2vLanguage()"
"""The page's language as the browser knows it: right from the first moment, before the server has answered."""


def while_selected(tabs: gr.Tabs, tab: gr.Tab, timer: gr.Timer) -> None:
    """Let `timer` run while `tab` is the selected one of `tabs`."""

    def selected(chosen: gr.SelectData) -> Any:
        return gr.Timer(active=chosen.index == tabs.children.index(tab))

    tabs.select(selected, None, timer, **QUIET)
