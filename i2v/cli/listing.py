"""`python -m i2v jobs`, `pause` and `resume`: the list of jobs, also of an app that is running."""

from __future__ import annotations

import json
from typing import Any

from i2v.cli.exits import Exit
from i2v.cli.joined import open_jobs
from i2v.cli.terminal import cut, padded
from i2v.hardware.probe import MemoryProbe
from i2v.messages import Message, UserError, message
from i2v.settings.settings import Settings
from i2v.video.steadiness import Steadiness
from i2v.video.steadiness_words import findings

NEWEST = 100
_PROMPT_CELLS = 60
_STEADY_CELLS = 16


def jobs(settings: Settings, probe: MemoryProbe, *, as_json: bool, locale: str) -> Exit:
    """Print the newest jobs, oldest first: as a table, or as /status tells them. Raises UserError."""
    with open_jobs(settings, probe) as opened:
        listed = opened.listed(NEWEST)
    if as_json:
        print(json.dumps(listed, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join(_line(job, locale) for job in listed) or message("cli.no_jobs").render(locale))
    return Exit.DONE


def steer(command: str, job_id: str, settings: Settings, probe: MemoryProbe, *, locale: str) -> Exit:
    """Lay a job down ("pause"), or let it wait for its turn again ("resume"). Raises UserError where it cannot be."""
    with open_jobs(settings, probe) as opened:
        if not getattr(opened, command)(job_id):
            raise UserError(f"cli.cannot_{command}", id=job_id, state=_state(opened.status(job_id), locale))
    print(message(f"cli.will_{command}", id=job_id).render(locale))
    return Exit.DONE


def _line(job: dict[str, Any], locale: str) -> str:
    prompt = cut(" ".join(job["prompt"].split()), _PROMPT_CELLS)
    state = padded(_state(job, locale), 10)
    line = f"{job['id']}  {state}  {padded(_steady(job, locale), _STEADY_CELLS)}  {prompt}".rstrip()
    waits_for = job.get("waits_for")  # an older app does not say it
    return f"{line}\n  {Message.from_json(waits_for).render(locale)}" if waits_for else line


def _steady(job: dict[str, Any], locale: str) -> str:
    """How steady its video is in a few words; nothing for one that was not measured, or that an older app tells of."""
    summary = job.get("steadiness")
    return cut(findings(Steadiness.from_summary(summary), locale), _STEADY_CELLS) if summary else ""


def _state(job: dict[str, Any], locale: str) -> str:
    return message(f"cli.state_{job['state']}").render(locale)
