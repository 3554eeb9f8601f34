"""What can go wrong on a route, as a plain value that travels from the process that fetches to the one that waits."""

from __future__ import annotations

import errno
import ssl
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from i2v.messages import Message, message

FINAL = ("gated", "not_on_hub", "offline", "disk_full", "not_writable")
"""What no other route would mend."""
_CLOCK = (9, 10)  # OpenSSL's numbers: the certificate is not valid yet, not valid any more
_MOST_SECONDS_OFF = 24 * 3600.0


@dataclass(frozen=True)
class Trouble:
    """Why a route did not bring what was asked for. `kind` is the end of its text's id, `models.trouble_<kind>`; `host`
    and `reason` hold neither addresses with signatures nor tokens."""

    kind: str
    host: str = ""
    reason: str = ""
    file: str = ""
    status: int = 0
    seconds: float = 0.0

    @property
    def final(self) -> bool:
        return self.kind in FINAL

    def message(self) -> Message:
        """Half a sentence: what this route said."""
        values = asdict(self) | {"seconds": round(self.seconds)}
        values.pop("kind")
        return message(f"models.trouble_{self.kind}", **values)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Trouble:
        return cls(**values)


class RangeIgnored(Exception):
    """The server sends the file from its first byte, whatever it was asked for."""


class RouteFailed(Exception):
    """Carries a trouble up to whoever chose the route."""

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble
        super().__init__(trouble.kind)


def trouble_of(error: BaseException, endpoint: str) -> Trouble:
    """What `error`, raised on the way to `endpoint`, is in our words."""
    if isinstance(error, RouteFailed):
        return error.trouble
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # "not here either": why it could not be fetched is what matters
    host = host_of(endpoint)
    reason = type(error).__name__
    if isinstance(error, OfflineModeIsEnabled):
        return Trouble("offline")
    if isinstance(error, GatedRepoError):
        return Trouble("gated")
    if isinstance(error, RepositoryNotFoundError):
        return Trouble("not_on_hub")
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return of_status(error.response.status_code, _seconds_to_wait(error), host, reason)
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            kind = "clock" if cause.verify_code in _CLOCK else "certificate"
            return Trouble(kind, host, cause.verify_message)
    if isinstance(error, httpx2.HTTPError | ConnectionError):
        return Trouble("unreachable", host, reason)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Trouble("disk_full")
    if isinstance(error, OSError) and error.errno is not None and type(error).__module__ == "builtins":
        return Trouble("not_writable", reason=error.strerror or str(error))
    return Trouble("failed", host, reason)


def host_of(endpoint: str) -> str:
    """An address's host and port, to be shown: without the name and password that may be in it."""
    return urlsplit(endpoint).netloc.rpartition("@")[2]


def seconds_off(date: str | None, now: float) -> float:
    """How far this machine's clock is from a server's `Date`; 0.0 where it is near, or the server tells none."""
    try:
        off = now - parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return off if abs(off) > _MOST_SECONDS_OFF else 0.0


def of_status(status: int, seconds: float, host: str, reason: str) -> Trouble:
    """What an answer with this status of HTTP means; `seconds`: how long it asks to wait."""
    kinds = {401: "forbidden", 403: "forbidden", 404: "missing", 408: "busy", 429: "busy"}
    return Trouble(kinds.get(status, "server"), host, reason, status=status, seconds=seconds)


def _seconds_to_wait(error: HfHubHTTPError) -> float:
    """What the answer's Retry-After says, in seconds; 0.0 without."""
    value = error.response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        told = error.response.headers.get("Date", "")
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(told)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
