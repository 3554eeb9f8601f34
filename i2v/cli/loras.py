"""`python -m i2v models loras`: the LoRAs that are here, what each is for, and why one cannot be used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from i2v.cli.exits import Exit
from i2v.messages import message
from i2v.models.catalogue import find_model
from i2v.models.lora_list import ListedLora, list_loras, titles_of
from i2v.models.lora_places import FOLDER
from i2v.settings.settings import Settings
from i2v.units import amount


def loras(model: str, settings: Settings, *, as_json: bool, locale: str) -> Exit:
    """Print every LoRA; with the name of a `model` also why that one does not take it. Raises UserError where there is
    no such model."""
    found = list_loras(settings, find_model(model, replace(settings, offline=True)) if model else None)
    if as_json:
        told = [{**one.to_json(locale), "file": str(one.file.path)} for one in found]
        print(json.dumps(told, indent=2, ensure_ascii=False))
    elif found:
        print("\n\n".join("\n".join(_lines(one, locale)) for one in found))
    else:
        print(message("cli.loras_none", folder=str(settings.models_dir / FOLDER)).render(locale))
    return Exit.DONE


def _lines(one: ListedLora, locale: str) -> Iterator[str]:
    file, about = one.file, one.file.about
    yield f"{file.name}  {amount(file.size_bytes, up=True)}"
    if titles := ", ".join(titles_of(file)):
        yield f"  {message('cli.lora_for', titles=titles).render(locale)}"
    low, high = about.ranks or (0, 0)
    facts = [
        about.title if about.title.casefold() != file.name.casefold() else "",
        message("ui.lora_rank", rank=low if low == high else f"{low}–{high}").render(locale) if high else "",
        message("ui.lora_base", base=about.base).render(locale) if about.base else "",
        message("ui.lora_licence", licence=about.licence).render(locale) if about.licence else "",
    ]
    if any(facts):
        yield f"  {' · '.join(one for one in facts if one)}"
    if about.trigger_words:
        yield f"  {message('ui.lora_words').render(locale)} {', '.join(about.trigger_words)}"
    if one.same_as:
        yield f"  {message('ui.lora_same', name=one.same_as).render(locale)}"
    if one.refusal is not None:
        yield f"  {one.refusal.render(locale)}"
    yield f"  {file.path}"
