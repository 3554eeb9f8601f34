"""`python -m i2v models remove` and `models import`: a model leaves the models folder, or comes into it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from i2v.cli.exits import Exit
from i2v.cli.joined import open_jobs
from i2v.cli.on_disk import folder_of
from i2v.cli.terminal import StatusLine, bytes_shown
from i2v.downloads.list import read_list
from i2v.hardware.probe import MemoryProbe
from i2v.jobs.job.again import kept_step
from i2v.jobs.job.states import AT_WORK, LIVE
from i2v.jobs.process.convert import convert
from i2v.messages import Message, UserError, message
from i2v.models.bring import How, bring, find_models
from i2v.models.experts import NOISE, has_experts
from i2v.models.gguf_files import GGUF
from i2v.models.places import places_of
from i2v.models.put_together import making_of, put_together
from i2v.models.removal import Removal, left_without, linked_into, removal_of, remove
from i2v.models.single_files import CONVERTED, SinglePart, part_in, shapes_in
from i2v.settings.settings import Settings
from i2v.settings.values import Choice
from i2v.units import amount

_NEWEST = 1000  # jobs that are asked after
_SHOWN = 10


class Listing(Protocol):
    """Jobs, as far as removing a model asks after them."""

    def listed(self, limit: int) -> list[dict[str, Any]]: ...
    def folder(self, job_id: str) -> Path: ...


def remove_model(
    name: str, settings: Settings, probe: MemoryProbe, *, keep: bool, sure: bool, as_json: bool, locale: str
) -> Exit:
    """Take the model called `name` off the disk, once somebody has said yes to what that means. Raises UserError where
    that cannot be, a job is at work with it, or nobody can be asked."""
    if not name:
        raise UserError("cli.models_name_missing", action="remove")
    removal = removal_of(folder_of(name, settings), settings)
    _refuse_coming(removal, settings)
    with open_jobs(settings, probe) as opened:
        needed = needed_by(removal, opened, settings)
    if not sure:
        for line in meaning(removal, needed, keep=keep):
            print(line.render(locale), file=sys.stderr)
        if not _said_yes(locale):
            return Exit.CANCELLED
    place = remove(removal, keep=keep)
    if as_json:
        told: dict[str, Any] = {"removed": str(removal.top), "freed_bytes": 0 if keep else removal.size_bytes}
        jobs = [*needed.pop("waiting"), *needed.pop("kept")]
        print(json.dumps({**told, "kept_at": place and str(place), "jobs": jobs, **needed}))
    else:
        done = "cli.model_binned" if place else "cli.model_removed"
        print(message(done, folder=str(removal.top), place=str(place)).render(locale))
    return Exit.DONE


def import_models(
    source: str, settings: Settings, *, how: str, base: str, said: str, as_json: bool, locale: str
) -> Exit:
    """Bring the models in the folder `source` into the models folder; or, where it is a single file of weights, the
    model that it makes with the rest of the one called `base`. `said`: which of two experts the file is. Raises
    UserError; those that were brought before it stay."""
    if not source:
        raise UserError("cli.models_name_missing", action="import")
    folder = Path(source).expanduser()
    if os.path.isfile(folder) and folder.suffix == GGUF:
        shapes_in(folder)  # says what is wrong with it, or that the package is missing that reads it
    if os.path.isfile(folder) and (part := part_in(folder)) is not None and part.component in CONVERTED:
        asked = {"how": how, "base": base, "said": said}
        return _import_single(folder, part, settings, **asked, as_json=as_json, locale=locale)
    found = find_models(folder, [place.folder for place in places_of(settings)])
    line = StatusLine(sys.stderr) if sys.stderr.isatty() else None
    brought = []
    for one in found:
        place = bring(one, settings.models_dir, cast(How, how), bytes_shown(line, one.name, one.size_bytes))
        if line is not None:
            line.clear()
        brought.append({"name": one.name, "folder": str(place), "family": one.kind.family})
        if not as_json:
            print(message("cli.model_imported", name=one.name, folder=str(place)).render(locale), flush=True)
    if as_json:
        print(json.dumps(brought, ensure_ascii=False))
    return Exit.DONE


def _import_single(
    file: Path, part: SinglePart, settings: Settings, *, how: str, base: str, said: str, as_json: bool, locale: str
) -> Exit:
    which = Choice(tuple(NOISE)).parse(said, "--part") if said else ""
    making = making_of(file, part, settings, which, folder_of(base, settings) if base else None)
    line = StatusLine(sys.stderr) if sys.stderr.isatty() else None
    shown = bytes_shown(line, making.name, making.size_bytes)
    place, lends = put_together(making, settings, convert, shown)
    if line is not None:
        line.clear()
    files = [one for one in (making.file, making.other) if one is not None]
    if how == "move":
        for one in files:
            one.unlink()
    name, told = making.name, [str(one) for one in files]
    if as_json:
        made = {"name": name, "folder": str(place), "family": lends.spec.name, "base": lends.name, "files": told}
        print(json.dumps([made]))
        return Exit.DONE
    known = {"name": name, "folder": str(place), "base": lends.name}
    if making.other is not None:
        print(message("cli.model_of_two_experts", other=making.other.name, **known).render(locale))
    elif has_experts(lends.spec) and making.part.component in NOISE.values():
        noise = next(noise for noise, component in NOISE.items() if component == making.part.component)
        print(message(f"cli.model_of_expert_{noise}", **known).render(locale))
    else:
        print(message("cli.model_put_together", **known).render(locale))
    return Exit.DONE


def jobs_with(removal: Removal, jobs: Listing) -> tuple[list[str], list[str]]:
    """The ids of jobs that need the model: that wait or were laid down, and that ended with steps that are kept. Raises
    UserError where one is at work with it."""
    waiting, kept = [], []
    for job in jobs.listed(_NEWEST):
        if job["model"] not in removal.names:
            continue
        if job["state"] in AT_WORK:
            raise UserError("cli.model_at_work", folder=str(removal.top), job=job["id"])
        if job["state"] in LIVE:
            waiting.append(job["id"])
        elif job["state"] in ("failed", "cancelled") and kept_step(jobs.folder(job["id"])) is not None:
            kept.append(job["id"])
    return waiting, kept


def needed_by(removal: Removal, jobs: Listing, settings: Settings) -> dict[str, list[str]]:
    """What needs the model, by kind: ids of jobs that wait, of jobs with steps that are kept, names of models and of
    LoRAs. Raises UserError where a job is at work with it."""
    waiting, kept = jobs_with(removal, jobs)
    loras = [one.name for one in left_without(removal, settings)]
    return {"waiting": waiting, "kept": kept, "models": linked_into(removal, settings), "loras": loras}


def _refuse_coming(removal: Removal, settings: Settings) -> None:
    """Raise UserError where the queue of downloads would bring it again."""
    for one in read_list(settings.models_dir):
        if one.id == removal.top.name and one.state in ("waiting", "coming"):
            raise UserError("models.remove_coming", folder=str(removal.top))


def meaning(removal: Removal, needed: Mapping[str, list[str]], *, keep: bool) -> list[Message]:
    """What goes, and what needs it, by kind."""
    if removal.is_link:
        lines = [message("cli.remove_link", folder=str(removal.top))]
    else:
        said = "cli.remove_to_bin" if keep else "cli.remove_for_good"
        lines = [message(said, folder=str(removal.top), size=amount(removal.size_bytes))]
    for name, needing in needed.items():
        if needing:
            shown = ", ".join(needing[:_SHOWN]) + (" …" if len(needing) > _SHOWN else "")
            lines.append(message(f"cli.remove_needed_{name}", count=len(needing), names=shown))
    return lines


def _said_yes(locale: str) -> bool:
    """Whether whoever is at the terminal says yes. Raises UserError where nobody is."""
    if not sys.stdin.isatty():
        raise UserError("cli.remove_unasked")
    print(message("cli.remove_question").render(locale), end=" ", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().casefold() in ("y", "yes", "是", "好")
