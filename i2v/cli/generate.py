"""`python -m i2v generate`: hand a request to the service, watch the job, leave with its exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from i2v.cli.exits import Exit, exit_for
from i2v.cli.views import BarView, JsonView, LinesView, View
from i2v.events import Cancelled, Done, Event, Failed
from i2v.hardware import MemoryProbe
from i2v.jobs.plans import Plans
from i2v.jobs.service import JobService
from i2v.messages import UserError, message
from i2v.models.catalogue import find_model
from i2v.setting_keys import KEYS, flag_of
from i2v.settings import Settings


def generate(values: Mapping[str, Any], settings: Settings, probe: MemoryProbe, *, as_json: bool, locale: str) -> Exit:
    """Run one job to its end. Raises UserError, naming the flag, for a request that cannot be."""
    view = _view(as_json, locale)
    rest = dict(values)
    picture = rest.pop("image", None)
    with _sigterm_as_ctrl_c(), JobService(settings, probe, plans=Plans.of(settings)) as service:
        try:
            job_id = service.submit(rest, Path(picture) if picture else None)
        except UserError as error:
            raise _naming_flag(error, values) from error
        status = service.status(job_id)
        view.begin(job_id, status.folder)
        if find_model(status.request.model, settings).standin:
            view.say(message("cli.standin"))
        last = _follow(service, job_id, view)
        if isinstance(last, Done):
            view.end(service.result(job_id))
            return Exit.DONE
    if isinstance(last, Cancelled):
        return Exit.CANCELLED
    return exit_for(last.message, Exit.FAILED) if isinstance(last, Failed) else Exit.FAILED


def _view(as_json: bool, locale: str) -> View:
    if as_json:
        return JsonView(sys.stdout, sys.stderr, locale)
    return (BarView if sys.stderr.isatty() else LinesView)(sys.stdout, sys.stderr, locale)


def _follow(service: JobService, job_id: str, view: View) -> Event | None:
    """Show every event; the one that ended the job. The first Ctrl-C cancels the job and waits for its end, which
    comes within a step; the second leaves at once."""
    seen, ending, cancelling = -1, None, False
    while True:
        try:
            for number, event in service.attach(job_id, after=seen):
                seen = number
                view.show(event)
                if isinstance(event, Done | Failed | Cancelled):
                    ending = event
            return ending
        except KeyboardInterrupt:
            if cancelling:
                raise
            cancelling = True
            view.say(message("cli.cancelling"))
            service.cancel(job_id)


def _naming_flag(error: UserError, values: Mapping[str, Any]) -> UserError:
    """The same error with the flag in place of the request's key."""
    params = dict(error.message.params)
    if params.get("name") in values:
        key = params["name"]
        params["name"] = flag_of(key) if key in KEYS else f"--{key}"
    return UserError(error.message.id, **params)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """A polite request to end means the same as Ctrl-C: cancel, tidy up, leave."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
