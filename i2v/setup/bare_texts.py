"""The launcher's texts before anything is installed: the same catalogues, read without a YAML library.

Each line of such a file is `name: "text"`, which is JSON after the colon; a test holds the files to that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

CATALOGUES = Path(__file__).parents[1] / "locales"


def read_flat(path: Path) -> dict[str, str]:
    """Name -> text of one catalogue file."""
    texts: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, text = line.partition(":")
            texts[name] = json.loads(text)
    return texts


def terminal_locale(environ: Mapping[str, str]) -> str:
    """The terminal's language: zh-CN for any Chinese, else en."""
    language = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    return "zh-CN" if language.lower().startswith("zh") else "en"


def render(message_id: str, **params: object) -> str:
    """The text of `launcher.<name>` in the terminal's language."""
    area, _, name = message_id.partition(".")
    return _catalogue(area, terminal_locale(os.environ))[name].format(**params)


@cache
def _catalogue(area: str, locale: str) -> dict[str, str]:
    return read_flat(CATALOGUES / locale / f"{area}.yaml")
