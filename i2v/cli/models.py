"""`python -m i2v models`: every model, what it is good at, and what this machine makes of it, before any download; and
what else can be done with models by the word that follows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from i2v.cli.arguments import MODEL_ACTIONS
from i2v.cli.downloads import download, downloads
from i2v.cli.exits import Exit
from i2v.cli.loras import loras
from i2v.cli.off_disk import import_models, remove_model
from i2v.cli.on_disk import verify, where
from i2v.cli.steer_downloads import steer_download
from i2v.cli.terminal import clock, gib
from i2v.downloads.space import free_bytes
from i2v.hardware.probe import MemoryProbe
from i2v.jobs.asked.outlook import Outlook, Outlooks, begins_with, sound
from i2v.jobs.asked.plans import Plans
from i2v.messages import UserError, message
from i2v.settings.settings import Settings
from i2v.settings.values import listed, nearest
from i2v.units import GIB, amount


def models(values: Mapping[str, Any], settings: Settings, probe: MemoryProbe, *, as_json: bool, locale: str) -> Exit:
    """Do what is asked of the models. Raises UserError."""
    action, name = values.get("action", "list"), values.get("name", "")
    told: dict[str, Any] = {"as_json": as_json, "locale": locale}
    match action:
        case "list":
            return outlook(settings, probe, as_json=as_json, locale=locale)
        case "download":
            return download(name, settings, **told)
        case "downloads":
            return downloads(settings, **told)
        case "pause" | "resume" | "cancel":
            return steer_download(action, name, settings, **told)
        case "where":
            return where(settings, **told)
        case "verify":
            return verify(name, settings, quick=values.get("quick", False), **told)
        case "remove":
            keep, sure = values.get("bin", False), values.get("yes", False)
            return remove_model(name, settings, probe, keep=keep, sure=sure, **told)
        case "import":
            asked = {"how": values.get("how", "copy"), "base": values.get("base", ""), "said": values.get("part", "")}
            return import_models(name, settings, **asked, **told)
        case "loras":
            return loras(name, settings, **told)
    near = nearest(action, MODEL_ACTIONS)
    known = listed(MODEL_ACTIONS)
    if near:
        raise UserError("cli.unknown_models_near", action=action, known=known, near=near)
    raise UserError("cli.unknown_models", action=action, known=known)


def outlook(settings: Settings, probe: MemoryProbe, *, as_json: bool, locale: str) -> Exit:
    """Print the models, those first that will work best on this machine. Raises UserError."""
    with closing(Plans.of(settings)) as plans:
        found = Outlooks(settings, plans).now(probe.read())
    free = free_bytes(settings.models_dir)
    if as_json:
        free_gib = None if free is None else round(free / GIB, 2)
        told = [one.to_json(locale) | {"free_gib": free_gib} for one in found]
        print(json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print("\n\n".join("\n".join(_lines(one, free, locale)) for one in found))
    return Exit.DONE


def _lines(one: Outlook, free: int | None, locale: str) -> Iterator[str]:
    yield f"{one.entry.name}  {_figures(one, locale)}"
    spec, licence = one.spec, one.spec.licence
    told = [said.render(locale) for said in (*begins_with(spec), sound(spec))]
    told += [licence.name] if licence else []
    yield f"  {', '.join((*told, one.size.render(locale)))}"
    for line in (one.holds_back, message(spec.about) if spec.about else None):
        if line is not None:
            yield f"  {line.render(locale)}"
    if not one.entry.present and one.entry.size_bytes and free is not None:
        needed = one.entry.size_bytes
        said = "downloads.to_fetch_too_much" if free < needed else "downloads.to_fetch"
        yield f"  {message(said, needed=amount(needed, up=True), free=amount(free)).render(locale)}"


def _figures(one: Outlook, locale: str) -> str:
    """How well it works here, and what its usual clip takes."""
    verdict = message(f"ui.plan_{one.standing}").render(locale)
    if one.planned is None:
        return verdict
    job, prediction = one.planned.request, one.planned.prediction
    least = "" if prediction.exact else "<= "
    size = f"{job.width}x{job.height}, {job.num_frames}"
    return f"{verdict}  {size}  {least}{clock(prediction.seconds)}  {gib(prediction.peak.peak_bytes)} GiB"
