"""`python -m i2v models where` and `models verify`: which models are on the disk, where, and whether they are what they
should be."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from i2v.cli.exits import Exit
from i2v.cli.terminal import StatusLine, bytes_shown
from i2v.families import SPECS
from i2v.jobs.process.tensors import wrong_tensors
from i2v.messages import UserError, message
from i2v.models.catalogue import list_models
from i2v.models.check import Checked, Finding, bytes_to_read, check_files
from i2v.models.entry import ASSETS
from i2v.models.kinds import ModelKind, kind_of
from i2v.models.places import ModelPlace, loose_files_in, places_of, top_folders_in
from i2v.models.single_files import part_in, told
from i2v.settings.settings import Settings
from i2v.units import GIB, amount


def where(settings: Settings, *, as_json: bool, locale: str) -> Exit:
    """Print every place in which models are looked for, and what is in each."""
    places = places_of(settings)
    found = [_place_json(place, tuple(one.folder for one in places), locale) for place in places]
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print("\n".join(line for place in found for line in _place_lines(place, locale)))
    return Exit.DONE


def verify(name: str, settings: Settings, *, quick: bool, as_json: bool, locale: str) -> Exit:
    """Print whether the model called `name`, or every one that is here, is what it should be: with `quick` without
    reading its weights. FAILED where something is wrong. Raises UserError where there is no such model."""
    places = [place.folder for place in places_of(settings)]
    asked = [(name, folder_of(name, settings))] if name else list(_present(settings))
    checked = []
    for called, folder in asked:
        kind = kind_of(folder, places)
        line = StatusLine(sys.stderr) if sys.stderr.isatty() and not quick else None
        one = check_files(kind, bytes_shown(line, called, bytes_to_read(kind)), read=not quick)
        if not quick and one.well:
            one = with_tensors(one)
        if line is not None:
            line.clear()
        checked.append((called, one))
        if not as_json:
            print("\n".join(_checked_lines(called, one, locale)), flush=True)
    if as_json:
        print(json.dumps([_checked_json(*one, locale) for one in checked], indent=2, ensure_ascii=False))
    return Exit.DONE if all(one.well for _, one in checked) else Exit.FAILED


def folder_of(name: str, settings: Settings) -> Path:
    """The folder of the model that a person calls `name`: one of the catalogue, whole or not, one in the models folder,
    or a folder's own path. Raises UserError where nothing of it is on this computer."""
    entries = list_models(settings)
    entry = next((one for one in entries if name in (one.name, one.hub_id)), None)
    inside = settings.models_dir / name
    paths = [entry.folder if entry else None, inside if Path(name).name == name else None, Path(name).expanduser()]
    found = next((path for path in paths if path is not None and os.path.isdir(path)), None)
    if found is not None:
        return found
    if entry is not None:
        raise UserError("models.not_here", name=name, folder=str(entry.folder))
    raise UserError("models.unknown", name=name, known=", ".join(one.name for one in entries))


def _present(settings: Settings) -> Iterator[tuple[str, Path]]:
    for entry in list_models(settings):
        if entry.folder is not None and os.path.isdir(entry.folder):
            yield entry.name, entry.folder


def with_tensors(checked: Checked) -> Checked:
    """The same with what a run would find wrong with the weights, in every form in which they are there."""
    kind = checked.kind
    if kind.family is None or kind.folder.is_relative_to(ASSETS):
        return checked
    half = SPECS[kind.family].half
    precisions = {"full": "float32", "fp16": half, "gguf": half}
    for form in kind.forms:
        wrong = wrong_tensors(kind.family, kind.folder, precisions[form])
        if wrong is not None:
            return Checked(kind, (*checked.findings, Finding(wrong)), checked.compared, checked.unknown)
    return checked


def _checked_json(name: str, checked: Checked, locale: str) -> dict[str, Any]:
    return {
        "name": name,
        "folder": str(checked.kind.folder),
        "family": checked.kind.family,
        "well": checked.well,
        "compared_files": checked.compared,
        "without_digest": list(checked.unknown),
        "findings": [
            {**one.told.to_json(), "text": one.told.render(locale), "fault": one.fault} for one in checked.findings
        ],
    }


def _checked_lines(name: str, checked: Checked, locale: str) -> Iterator[str]:
    verdict = message("cli.verified_well" if checked.well else "cli.verified_bad", name=name)
    yield verdict.render(locale)
    for one in checked.findings:
        yield f"  {one.told.render(locale)}"
    if checked.compared:
        yield f"  {message('cli.verified_compared', count=checked.compared).render(locale)}"
    if checked.unknown and checked.kind.whole:
        yield f"  {message('cli.verified_unknown', files=', '.join(checked.unknown)).render(locale)}"


def _place_json(place: ModelPlace, places: tuple[Path, ...], locale: str) -> dict[str, Any]:
    models = [_kind_json(top, kind_of(top, places), locale) for top in top_folders_in(place)]
    files = []
    for file in loose_files_in(place):
        part = part_in(file)
        text = None if part is None else told(file, part).render(locale)
        files.append({"file": str(file), "gib": _gib_of([file]), "told": text})
    there = os.path.isdir(place.folder)
    return {
        "place": place.kind,
        "folder": str(place.folder),
        "there": there,
        "free_gib": round(shutil.disk_usage(place.folder).free / GIB, 1) if there else None,
        "models": models,
        "files": files,
    }


def _kind_json(top: Path, kind: ModelKind, locale: str) -> dict[str, Any]:
    files = (file for file in (*kind.folder.glob("*"), *kind.folder.glob("*/*")) if os.path.isfile(file))
    return {
        "name": top.name,
        "folder": str(kind.folder),
        "family": kind.family,
        "title": SPECS[kind.family].title if kind.family else None,
        "forms": list(kind.forms),
        "sharded": kind.sharded,
        "precision": kind.precision,
        "gib": _gib_of(files),
        "whole": kind.whole,
        "problems": [{**one.to_json(), "text": one.render(locale)} for one in kind.problems],
    }


def _gib_of(files: Any) -> float:
    return round(sum(file.stat().st_size for file in files) / GIB, 4)


def _place_lines(place: dict[str, Any], locale: str) -> Iterator[str]:
    said = f"cli.place_{place['place']}"
    free = "?" if place["free_gib"] is None else f"{place['free_gib']:.1f}"
    name = message(said, folder=place["folder"]).render(locale)
    tail = message("cli.place_there", free=free) if place["there"] else message("cli.place_not_there")
    yield f"{name}  {tail.render(locale)}"
    for model in place["models"]:
        what = [model["title"] or "?", *model["forms"], model["precision"] or "", amount(int(model["gib"] * GIB))]
        yield f"  {model['name']}  {'  '.join(word for word in what if word)}"
        yield from (f"    {problem['text']}" for problem in model["problems"])
    for file in place["files"]:
        yield f"  {file['file']}  {amount(int(file['gib'] * GIB))}"
        if file["told"]:
            yield f"    {file['told']}"
