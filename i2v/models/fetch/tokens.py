"""Where the token of a person goes that huggingface_hub keeps. This program neither stores nor tells it."""

from __future__ import annotations

from urllib.parse import urlsplit

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def token_for(endpoint: str | None) -> bool | None:
    """What to hand huggingface_hub as `token`: None for "the one you know", False for "none", where the way to
    `endpoint` is not encrypted."""
    if endpoint is None:
        return None
    parts = urlsplit(endpoint)
    return None if parts.scheme == "https" or parts.hostname in _LOOPBACK else False
