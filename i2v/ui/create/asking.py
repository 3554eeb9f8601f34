"""What the page asks before runs of hours begin, and before downloads of gigabytes. The server decides, by a plan of
the very values that it was sent: what the page shows may still be the plan of the values before them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from i2v.messages import UserError
from i2v.models.entry import ModelEntry
from i2v.ui.shown.format import gib, takes
from i2v.ui.texts import text
from i2v.units import GIB

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

ASKED_SECONDS = 3600.0  # before what takes longer than this the page asks
ASKED_BYTES = GIB // 2  # and before what downloads more
SCOUTED = 1 / 3  # of a run's steps are made by a scout


def question(seconds: float, locale: str, scouts: int = 0) -> str:
    """What to ask before a run that takes `seconds`, or before as many `scouts` of it; "" where it just begins."""
    if scouts:
        return text("ask_long_scouts", locale) if scouts * seconds * SCOUTED > ASKED_SECONDS else ""
    return text("ask_long", locale, time=takes(seconds).render(locale)) if seconds > ASKED_SECONDS else ""


def download_told(entry: ModelEntry, locale: str) -> str:
    """What to say before a run that downloads its model first; "" where that is here, or small."""
    if entry.present or entry.size_bytes < ASKED_BYTES:
        return ""
    return text("ask_download", locale, title=entry.title, gib=gib(entry.size_bytes))


def asked_first(service: JobService, values: Mapping[str, Any], locale: str, scouts: Any = 0) -> str:
    """The question before a job of `values`, by what is known now, which takes milliseconds. A size that nothing is
    known of, and values that are no request, ask nothing: sending them off says what is wrong."""
    try:
        planned, _ = service.plan(values)
        time = question(planned.prediction.seconds, locale, int(scouts)) if planned else ""
        download = download_told(service.resolve(values).entry, locale)
        return f"{download} {time or text('ask_start', locale)}" if download else time
    except (UserError, TypeError, ValueError):
        return ""


def agreed(button: str) -> str:
    """A callback's `js` that hands on the language, whether this person has just agreed to what was asked after
    `button`, and the rest as it is."""
    return f"(language, _, ...form) => [language, window.i2vAgreed('{button}'), ...form]"


def asks(button: str) -> str:
    """The `js` of what follows it: the question put, and `button` pressed again where the answer is yes."""
    return f"(question) => window.i2vAsk('{button}', question) ?? []"
