"""The shelf of LoRAs as HTML: a row for each file, with its picture, what its header says, a tick and a weight. Pure;
every text is escaped here. Which rows are ticked, and how strongly, the browser knows (lora_shelf.js)."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from i2v.jobs.asked.adapters import MAX_WEIGHT
from i2v.messages import Message
from i2v.models.adapters import AdapterFile
from i2v.models.lora_list import ListedLora
from i2v.ui.texts import text
from i2v.units import amount

SLIDER = (0.0, 2.0)
STEP = 0.05
MOST_OTHERS = 4  # rows for other models that are seen at once; more are folded away
MOST_UNFILTERED = 12


@dataclass(frozen=True)
class LoraRow:
    """A file of the shelf. `picture`: a small WebP. `removable`: the file is the app's own to remove."""

    lora: ListedLora
    picture: bytes | None = None
    removable: bool = False


@dataclass(frozen=True)
class LoraQuestion:
    """Asked before the LoRA `name` is deleted. `means`: what that would mean."""

    name: str
    means: tuple[Message, ...]


def lora_rows(rows: Sequence[LoraRow], folder: str, locale: str, question: LoraQuestion | None = None) -> str:
    """The rows in their order, those that the model takes first, and many others folded away. `folder`: where the files
    lie, told where there are none. `question`: what is asked of one of them."""
    if not rows:
        return f'<p class="i2v-loras-none">{escape(text("loras_none", locale, folder=folder))}</p>'
    drawn = [(row.lora.refusal is None, _row(row, place, locale, question)) for place, row in enumerate(rows)]
    own, others = ([row for fits, row in drawn if fits is wanted] for wanted in (True, False))
    if len(others) <= MOST_OTHERS:
        return f"{_filter(len(rows), locale)}{_list([*own, *others])}"
    summary = escape(text("loras_others", locale, count=len(others)))
    asked = question is not None and any(row.lora.refusal and row.lora.file.name == question.name for row in rows)
    opened = " open" if asked else ""
    folded = f'<details class="i2v-loras-others"{opened}><summary>{summary}</summary>{_list(others)}</details>'
    return f"{_filter(len(rows), locale)}{_list(own)}{folded}"


def _list(rows: Sequence[str]) -> str:
    return f'<ul class="i2v-loras">{"".join(rows)}</ul>' if rows else ""


def _filter(count: int, locale: str) -> str:
    """A field that leaves only the rows in which its words stand (lora_shelf.js), where there are many."""
    label = escape(text("loras_filter", locale))
    field = f'<input type="search" class="i2v-lora-filter" placeholder="{label}" aria-label="{label}">'
    return field if count > MOST_UNFILTERED else ""


def _row(row: LoraRow, place: int, locale: str, question: LoraQuestion | None) -> str:
    file, refusal = row.lora.file, row.lora.refusal
    name, why, look, off, told = escape(file.name), "", "", "", ""
    if row.lora.same_as:
        why = f'<p class="i2v-lora-same">{escape(text("lora_same", locale, name=row.lora.same_as))}</p>'
    if refusal is not None:
        said = escape(refusal.render(locale))
        why += f'<p class="i2v-lora-why" id="i2v-lora-why-{place}">{said}</p>'
        look, off, told = " other", " disabled", f' aria-describedby="i2v-lora-why-{place}"'
    facts = escape(" · ".join(_facts(file, locale)))
    return (
        f'<li class="i2v-lora{look}" data-lora="{name}">{_picture(row.picture)}<div class="i2v-lora-said">'
        f'<label><input type="checkbox"{off}{told}> <span>{name}</span></label>'
        f"<p>{facts}</p>{_words(file, locale)}{why}</div>{_weight(name, off, locale)}"
        f"{_removing(row, question, locale)}</li>"
    )


def _removing(row: LoraRow, question: LoraQuestion | None, locale: str) -> str:
    """The button that deletes it; in its place the question, the answer that loses nothing first."""
    if not row.removable:
        return ""
    name, acts, asked = row.lora.file.name, ["remove"], ""
    if question is not None and question.name == name:
        acts = ["keep", "erase"]
        lines = "".join(f"<p>{escape(line.render(locale))}</p>" for line in question.means)
        asked = f'<div class="i2v-note" role="alert">{lines}</div>'
    buttons = ""
    for act in acts:
        word = escape(text(f"lora_{act}", locale))
        buttons += (
            f'<button type="button" class="i2v-act everybodys" data-act="{act}" data-id="{escape(name)}" '
            f'aria-label="{word}: {escape(name)}">{word}</button>'
        )
    return f'<div class="i2v-lora-removing">{asked}{buttons}</div>'


def _picture(picture: bytes | None) -> str:
    if picture is None:
        return '<span class="i2v-lora-picture" aria-hidden="true"></span>'
    source = base64.b64encode(picture).decode()
    return f'<img class="i2v-lora-picture" alt="" src="data:image/webp;base64,{source}">'


def _facts(file: AdapterFile, locale: str) -> Iterator[str]:
    """What there is to know of it: title, rank, what it was trained on, licence, size."""
    about = file.about
    if about.title and about.title.casefold() != file.name.casefold():
        yield about.title
    if about.ranks is not None:
        low, high = about.ranks
        yield text("lora_rank", locale, rank=low if low == high else f"{low}–{high}")
    if about.base:
        yield text("lora_base", locale, base=about.base)
    if about.licence:
        yield text("lora_licence", locale, licence=about.licence)
    yield amount(file.size_bytes, up=True)


def _words(file: AdapterFile, locale: str) -> str:
    """The words that call it; a click puts them into the sentence."""
    words = file.about.trigger_words
    if not words:
        return ""
    buttons = "".join(
        f'<button type="button" class="i2v-act" data-act="words" data-id="{escape(word)}" '
        f'aria-label="{escape(text("lora_add_word", locale, word=word))}">{escape(word)}</button>'
        for word in words
    )
    return f'<div class="i2v-lora-words"><span>{escape(text("lora_words", locale))}</span>{buttons}</div>'


def _weight(label: str, off: str, locale: str) -> str:
    """A slider for the usual weights, and a number for every one that there can be."""
    said = escape(text("lora_weight", locale))
    low, high = SLIDER
    return (
        f'<div class="i2v-lora-weight"><input type="range" min="{low:g}" max="{high:g}" step="{STEP}" value="1"{off} '
        f'aria-label="{said}: {label}"><input type="number" min="{-MAX_WEIGHT:g}" max="{MAX_WEIGHT:g}" step="{STEP}" '
        f'value="1"{off} aria-label="{said}: {label}"></div>'
    )
