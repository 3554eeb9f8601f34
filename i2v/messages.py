"""Texts a person sees: an id with parameters inside, a sentence in the reader's language at the edge.

The catalogues are `i2v/locales/<locale>/<area>.yaml`, flat maps of id to text with `{name}` places; an id is
`<area>.<name>`. Whoever renders picks the locale; nothing inside carries a finished sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

LOCALES = ("en", "zh-CN")
DEFAULT_LOCALE = "en"
_CATALOGUES = Path(__file__).parent / "locales"
# libyaml's own parser where PyYAML was built with it, ten times as fast: every start reads these files.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Message:
    """One thing to say. `params` hold plain JSON values, so a message survives any pipe or file. A value may be another
    message's `to_json`: it is said in the same language."""

    id: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def render(self, locale: str = DEFAULT_LOCALE) -> str:
        """The sentence in `locale`; English where that catalogue lacks it, the bare id as the last resort."""
        text = catalogue(locale).get(self.id) or catalogue(DEFAULT_LOCALE).get(self.id)
        if text is None:
            return f"{self.id} {dict(self.params)}" if self.params else self.id
        params = dict(self.params)
        if "key" in params and not self.id.startswith("request.unknown_"):
            params["key"] = _name_of(params["key"], locale)
        return text.format(**{name: _inner(value, locale) for name, value in params.items()})

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "params": dict(self.params)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Message:
        return cls(values["id"], dict(values.get("params") or {}))


def _inner(value: Any, locale: str) -> Any:
    """A parameter as it is, or what it says, where it is a message."""
    if isinstance(value, Mapping) and "id" in value and "params" in value:
        return Message.from_json(value).render(locale)
    return value


def _name_of(key: Any, locale: str) -> Any:
    """What a key of a request is called in the reader's language, where that is another word."""
    return catalogue(locale).get(f"request.key_{key}", key)


def message(message_id: str, **params: Any) -> Message:
    """`message("settings.unknown_key", key="prot", file="config.yaml")`."""
    return Message(message_id, params)


class UserError(Exception):
    """Something a person can act on: what happened, what was needed, what to change. Never a traceback."""

    def __init__(self, message_id: str, **params: Any) -> None:
        self.message = Message(message_id, params)
        super().__init__(message_id)

    def __str__(self) -> str:
        return self.message.render()


@cache
def catalogue(locale: str) -> Mapping[str, str]:
    """All texts of one locale, id -> text; empty for a locale we do not have."""
    texts: dict[str, str] = {}
    for path in sorted((_CATALOGUES / locale).glob("*.yaml")):
        area = path.stem
        for name, text in (yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}).items():
            texts[f"{area}.{name}"] = text
    return texts


def best_locale(accept_language: str | None) -> str:
    """The locale to use for a browser's Accept-Language header: Chinese of any kind reads zh-CN, the rest en."""
    first = (accept_language or "").split(",")[0].strip().lower()
    return "zh-CN" if first.startswith("zh") else DEFAULT_LOCALE
