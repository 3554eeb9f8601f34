"""The LoRAs that are here, as they are listed: what the page, the command line and clients tell of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i2v.families import SPECS
from i2v.messages import Message, UserError, message
from i2v.models.adapters import AdapterFile, adapters_for, content_of
from i2v.models.entry import ModelEntry
from i2v.models.lora_fit import refusal_for

if TYPE_CHECKING:
    from i2v.settings.settings import Settings

_ANOTHERS = ("models.adapter_layer", "models.adapter_stated")


@dataclass(frozen=True)
class ListedLora:
    """`refusal`: why the model that is asked about does not take it, None where it does; without a model, why none
    does. `same_as`: the first of the list whose contents it has, "" where there is no other."""

    file: AdapterFile
    refusal: Message | None
    same_as: str = ""

    def to_json(self, locale: str) -> dict[str, Any]:
        file, about = self.file, self.file.about
        return {
            "name": file.name, "size_bytes": file.size_bytes, "families": list(file.families),
            "ranks": about.ranks and list(about.ranks), "title": about.title, "base": about.base,
            "trigger_words": list(about.trigger_words), "licence": about.licence,
            "refusal": self.refusal and self.refusal.render(locale), "same_as": self.same_as or None,
        }  # fmt: skip


def list_loras(settings: Settings, entry: ModelEntry | None) -> list[ListedLora]:
    """Every LoRA that is here, by name, for the model `entry`."""
    files = adapters_for(settings)
    twins = same_contents(files)
    return [ListedLora(one, _refusal(one, entry), twins.get(one.name, "")) for one in files]


def titles_of(file: AdapterFile) -> list[str]:
    """Of the families that take it."""
    return list(dict.fromkeys(SPECS[family].title for family in file.families))


def same_contents(files: Sequence[AdapterFile]) -> dict[str, str]:
    """The names of those that have the contents of an earlier one, and that one's. Only files of one size are read, and
    of each no more than parts from all over it."""
    first: dict[tuple[int, str], str] = {}
    found = {}
    for one in _of_one_size(files):
        content = _content(one.path, one.size_bytes, _changed_ns(one.path))
        name = first.setdefault((one.size_bytes, content), one.name) if content else one.name
        if name != one.name:
            found[one.name] = name
    return found


def _of_one_size(files: Iterable[AdapterFile]) -> list[AdapterFile]:
    sizes: dict[int, list[AdapterFile]] = {}
    for one in files:
        sizes.setdefault(one.size_bytes, []).append(one)
    return [one for several in sizes.values() if len(several) > 1 for one in several]


def _changed_ns(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return 0


@lru_cache(2**13)
def _content(path: Path, _size_bytes: int, _changed_ns: int) -> str:
    """Read again only when the file has changed; "" where it cannot be read."""
    try:
        return content_of(path)
    except UserError:
        return ""


def _refusal(file: AdapterFile, entry: ModelEntry | None) -> Message | None:
    """The sentence calls the file by its name in the list, and not by its path. Which models take it says more than
    which of its tensors another one lacks."""
    refusal = file.problem if entry is None else refusal_for(file.path, SPECS[entry.family], entry)
    if refusal is not None and entry is not None and refusal.id in _ANOTHERS and file.families:
        titles = ", ".join(titles_of(file))
        return message("models.adapter_for_others", file=file.name, title=SPECS[entry.family].title, titles=titles)
    return refusal and Message(refusal.id, {**refusal.params, "file": file.name})
