"""Languages on the page: fixed labels are looked up by the browser, texts made here are rendered for the reader.

A short script decides the language before the first component is drawn: the reader's earlier choice, else the
settings, else the browser. Gradio's own texts follow it too.
"""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr

from i2v.messages import LOCALES, catalogue, message
from i2v.settings.settings import Settings

_HERE = Path(__file__).parent
_SCRIPT = _HERE / "language.js"
_OTHERS = (
    *(_HERE / f"{name}.js" for name in ("title", "notice")),
    *(_HERE / "create" / f"{name}.js" for name in ("keys", "create", "kept", "folds", "brush")),
)

_AREAS = ("ui.", "training_page.")
LANGUAGE_CHOICES = [("EN", "en"), ("中文", "zh-CN")]


def build_i18n() -> gr.I18n:
    """The page's catalogues for Gradio's browser side; the keys are message ids."""
    tables = {
        locale: {key: text for key, text in catalogue(locale).items() if key.startswith(_AREAS) and "{" not in text}
        for locale in LOCALES
    }
    return gr.I18n(**tables)


def text(name: str, locale: str, /, **params: object) -> str:
    """The message `ui.<name>` in the reader's language."""
    return message(f"ui.{name}", **params).render(locale)


def known(locale: str | None) -> str:
    """The locale as the browser sent it, or English for anything we do not have."""
    return locale if locale in LOCALES else LOCALES[0]


def head_script(settings: Settings) -> str:
    """The scripts for the page's head: the one that settles the language, the keys, what the Create tab does, the tab's
    title, the form over a reload, what stays folded, the notice of a run's end, and the brush."""
    asked = json.dumps({locale: text("ask_cancel", locale) for locale in LOCALES})
    settled = _SCRIPT.read_text(encoding="utf-8").replace("LANGUAGE_SETTING", settings.language)
    scripts = (settled, *(path.read_text(encoding="utf-8").replace("ASK_CANCEL", asked) for path in _OTHERS))
    return "".join(f"<script>{script}</script>" for script in scripts)
