"""`python -m i2v models`: every model, what it is good at, and what this machine makes of it, before any download."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

from i2v.cli.exits import Exit
from i2v.cli.terminal import clock, gib
from i2v.hardware.probe import MemoryProbe
from i2v.jobs.asked.outlook import Outlook, Outlooks, begins_with, sound
from i2v.jobs.asked.plans import Plans
from i2v.messages import message
from i2v.settings.settings import Settings


def models(settings: Settings, probe: MemoryProbe, *, as_json: bool, locale: str) -> Exit:
    """Print the models, those first that will work best on this machine. Raises UserError."""
    with closing(Plans.of(settings)) as plans:
        found = Outlooks(settings, plans).now(probe.read())
    if as_json:
        print(json.dumps([one.to_json(locale) for one in found], indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print("\n\n".join("\n".join(_lines(one, locale)) for one in found))
    return Exit.DONE


def _lines(one: Outlook, locale: str) -> Iterator[str]:
    yield f"{one.entry.name}  {_figures(one, locale)}"
    spec, licence = one.spec, one.spec.licence
    told = [said.render(locale) for said in (*begins_with(spec), sound(spec))]
    told += [licence.name] if licence else []
    yield f"  {', '.join((*told, one.size.render(locale)))}"
    for line in (one.holds_back, message(spec.about) if spec.about else None):
        if line is not None:
            yield f"  {line.render(locale)}"


def _figures(one: Outlook, locale: str) -> str:
    """How well it works here, and what its usual clip takes."""
    verdict = message(f"ui.plan_{one.standing}").render(locale)
    if one.planned is None:
        return verdict
    job, prediction = one.planned.request, one.planned.prediction
    least = "" if prediction.exact else "<= "
    size = f"{job.width}x{job.height}, {job.num_frames}"
    return f"{verdict}  {size}  {least}{clock(prediction.seconds)}  {gib(prediction.peak.peak_bytes)} GiB"
