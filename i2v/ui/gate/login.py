"""What stands on Gradio's login page, which has neither the page's style sheet nor its scripts."""

from __future__ import annotations

from html import escape

from i2v.messages import LOCALES
from i2v.settings.settings import Settings
from i2v.ui.texts import text

_STYLE = """
.wrap:has(> .panel > .auth) { background: none; display: flex; justify-content: center; padding-top: 8vh; }
.panel:has(> .auth) { flex: 0 1 480px; background: none; }
.panel:has(> .auth) > h2 { font-size: 0; }
.i2v-name { display: block; margin-bottom: 6px; font-size: 1.5rem; font-weight: 700; }
html:lang(zh) .i2v-said[lang="en"], html:not(:lang(zh)) .i2v-said[lang="zh-CN"] { display: none; }
"""


def login_message(settings: Settings) -> str:
    """The product's name and what to enter, as HTML: in the settings' language, or in all of them, of which the style
    shows the one that Gradio has found the browser to speak."""
    name, chosen = escape(text("title", LOCALES[0])), settings.language
    if chosen != "auto":
        said = escape(text("login", chosen))
    else:
        said = "".join(f'<span class="i2v-said" lang="{one}">{escape(text("login", one))}</span>' for one in LOCALES)
    return f'<title>{name}</title><style>{_STYLE}</style><strong class="i2v-name">{name}</strong>{said}'
