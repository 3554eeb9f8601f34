"""`python -m i2v generate`, `retry`, `redecode` and `extend`: hand a request to the jobs of the outputs folder, watch
it, leave with its exit code. Where the app is running on that folder, the app makes the video."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from i2v.cli.exits import Exit, exit_for
from i2v.cli.interrupts import Interrupts
from i2v.cli.joined import Jobs, open_jobs
from i2v.cli.painted import with_region
from i2v.cli.views import BarView, JsonView, LinesView, Watcher
from i2v.events import Cancelled, Done, Event, Failed
from i2v.hardware.probe import MemoryProbe
from i2v.jobs.asked.adapters import with_absolute_paths
from i2v.jobs.asked.between import pictures_at
from i2v.jobs.job.folder import PICTURE, VIDEO
from i2v.messages import UserError, message
from i2v.models.adapters import FOLDER as LORAS
from i2v.settings.keys import KEYS, flag_of
from i2v.settings.settings import Settings


def generate(values: Mapping[str, Any], settings: Settings, probe: MemoryProbe, *, as_json: bool, locale: str) -> Exit:
    """Run one job to its end. Raises UserError, naming the flag, for a request that cannot be."""
    rest = dict(values)
    named = (rest.pop(key, None) for key in ("image", "last_image", "video"))
    picture, last, clip = (Path(name) if name else None for name in named)
    between = pictures_at(rest.pop("image_at", None))
    rest = _with_loras(rest)

    def send(jobs: Jobs) -> str:
        asked = with_region(rest, picture, settings)
        return jobs.submit(asked, picture, clip=clip, last_picture=last, pictures_at=between)

    return _run(send, values, settings, probe, as_json=as_json, locale=locale)


def again(
    command: str,
    job_id: str,
    changes: Mapping[str, Any],
    settings: Settings,
    probe: MemoryProbe,
    *,
    as_json: bool,
    locale: str,
) -> Exit:
    """Run a job again, with `changes`, to its end: all of it ("retry"), its decoding ("redecode"), or
    what comes after it ("extend"). Raises
    UserError."""

    def send(jobs: Jobs) -> str:
        photograph = jobs.folder(job_id) / PICTURE if "region" in changes else None
        return getattr(jobs, command)(job_id, with_region(_with_loras(changes), photograph, settings))

    return _run(send, changes, settings, probe,
                as_json=as_json, locale=locale)  # fmt: skip


def _run(
    send: Callable[[Jobs], str],
    values: Mapping[str, Any],
    settings: Settings,
    probe: MemoryProbe,
    *,
    as_json: bool,
    locale: str,
) -> Exit:
    view = _view(as_json, locale)
    with Interrupts() as interrupts, open_jobs(settings, probe) as jobs:
        if jobs.address:
            view.say(message("cli.joined", address=jobs.address))
        try:
            job_id = send(jobs)
        except UserError as error:
            raise naming_flag(error, values) from error
        view.begin(job_id, jobs.folder(job_id))
        last = _follow(jobs, job_id, view, interrupts)
        if isinstance(last, Done):
            view.end(jobs.result(job_id) if last.path == VIDEO else settings.models_dir.absolute() / LORAS / last.path)
            return Exit.DONE
    if isinstance(last, Cancelled):
        return Exit.CANCELLED
    return exit_for(last.message, Exit.FAILED) if isinstance(last, Failed) else Exit.FAILED


def _with_loras(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """`values` with the files of LoRAs as an app that was started elsewhere finds them."""
    return {**values, "lora": with_absolute_paths(values["lora"])} if "lora" in values else values


def _view(as_json: bool, locale: str) -> Watcher:
    if as_json:
        return JsonView(sys.stdout, sys.stderr, locale)
    return (BarView if sys.stderr.isatty() else LinesView)(sys.stdout, sys.stderr, locale)


def _follow(jobs: Jobs, job_id: str, view: Watcher, interrupts: Interrupts) -> Event | None:
    """Show every event; the one that ended the job. The first Ctrl-C cancels the job and waits for its end, which
    comes within a step; the second leaves at once."""
    seen, ending, cancelling = -1, None, False
    while True:
        try:
            for number, event in jobs.attach(job_id, after=seen):
                with interrupts.whole():  # neither lost nor told twice
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
            jobs.cancel(job_id)


def naming_flag(error: UserError, values: Mapping[str, Any]) -> UserError:
    """The same error with the flag in place of the request's key."""
    params = dict(error.message.params)
    if params.get("name") in values:
        key = params["name"]
        params["name"] = flag_of(key) if key in KEYS else f"--{key}"
    return UserError(error.message.id, **params)
