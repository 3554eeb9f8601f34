"""Every model as a row of HTML: whether it is on this computer and where, what its download takes, its licence, how far
a download or a check is, and what can be done with it. Pure functions; every text is escaped here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from i2v.families.spec import Licence
from i2v.messages import Message, message
from i2v.models.check import Checked
from i2v.ui.shown.download import Coming, download_told, progress
from i2v.ui.shown.folded import folded
from i2v.ui.shown.format import gib
from i2v.ui.system.checks import Check
from i2v.ui.texts import text
from i2v.units import amount

Standing = Literal["here", "missing", "short", "damaged"]
EVERYBODYS = ("pause", "resume", "cancel", "discard", "remove", "bin", "delete")
"""What concerns everybody, and so is for who steers everybody's jobs."""
_QUIET_ACTS = ("keep", "stop")


@dataclass(frozen=True)
class ModelQuestion:
    """Something that is asked before it is done: `asked` for model `name`, "remove" or "cancel". `means`: what it would
    mean."""

    name: str
    asked: Literal["remove", "cancel"]
    means: tuple[Message, ...]


@dataclass(frozen=True)
class ModelRow:
    """`name` is what the buttons carry. `state`: where it is, or what it takes; `short` is a model that the disk has no
    room for. `removable`: its folder is the app's own to remove."""

    name: str
    title: str
    standing: Standing
    state: Message
    licence: Licence | None = None
    coming: Coming | None = None
    check: Check | None = None
    removable: bool = False
    question: ModelQuestion | None = None

    @property
    def acts(self) -> tuple[str, ...]:
        """What can be done with it now, the safest first where something is asked."""
        if self.question is not None:
            return ("keep", "bin", "delete") if self.question.asked == "remove" else ("keep", "discard")
        if self.coming is not None:
            if self.coming.elsewhere:
                return ()
            if self.coming.broke_off:
                return ("resume", "pause", "cancel")
            return ("resume" if self.coming.download.state in ("paused", "failed") else "pause", "cancel")
        acts = ["download"] if self.standing in ("missing", "short") else []
        if self.standing in ("here", "damaged"):
            acts.append("verify" if self.check is None or self.check.state == "done" else "stop")
        return (*acts, "remove") if self.removable else tuple(acts)


@dataclass(frozen=True)
class Room:
    """The disk that downloads fill. `coming_bytes`: what those in the queue still bring."""

    folder: str
    free_bytes: int
    downloads: int = 0
    coming_bytes: int = 0


def model_list(rows: Sequence[ModelRow], room: Room, locale: str) -> str:
    """The models that are here, then the others, in their order."""
    here = [row for row in rows if row.standing in ("here", "damaged")]
    others = [row for row in rows if row.standing not in ("here", "damaged")]
    lists = _rows(here, locale)
    if others:
        title = text("models_to_download", locale, count=len(others))
        lists += folded(title, _rows(others, locale), "models-to-download", open=True)
    return f"<h3>{escape(text('system_models', locale))}</h3>{_room(room, locale)}{lists}"


def _room(room: Room, locale: str) -> str:
    """How much is free, and what the downloads will take of it."""
    said = [text("models_room", locale, free=gib(room.free_bytes), folder=room.folder)]
    if room.downloads:
        left = amount(room.coming_bytes, up=True)
        said.append(text("models_coming", locale, count=room.downloads, left=left))
    return f'<p class="i2v-calm">{escape(" · ".join(said))}</p>'


def _rows(rows: Sequence[ModelRow], locale: str) -> str:
    return f'<ul class="i2v-model-rows">{"".join(_row(row, locale) for row in rows)}</ul>'


def _row(row: ModelRow, locale: str) -> str:
    said = f'<p class="i2v-model-state">{escape(row.state.render(locale))}</p>{_licence(row.licence, locale)}'
    if row.coming is not None:
        said += download_told(row.coming, locale)
    if row.check is not None:
        said += _check(row, row.check, locale)
    if row.question is not None:
        lines = "".join(f"<p>{escape(line.render(locale))}</p>" for line in row.question.means)
        said += f'<div class="i2v-note" role="alert">{lines}</div>'
    return (
        f'<li class="i2v-model-row {row.standing}" data-model="{escape(row.name)}"><div><h4>{escape(row.title)}</h4>'
        f'{said}</div><div class="i2v-job-actions">{"".join(_button(row, act, locale) for act in row.acts)}</div></li>'
    )


def _button(row: ModelRow, act: str, locale: str) -> str:
    retried = act == "resume" and row.coming is not None and row.coming.stands
    word = escape(text("retry" if retried else f"model_{act}", locale))
    look = " everybodys" if act in EVERYBODYS else ""
    return (
        f'<button type="button" class="i2v-act{look}" data-act="{act}" data-id="{escape(row.name)}" '
        f'aria-label="{word}: {escape(row.title)}">{word}</button>'
    )


def _licence(licence: Licence | None, locale: str) -> str:
    if licence is None:
        return ""
    name = escape(licence.name)
    if licence.url:
        name = f'<a href="{escape(licence.url)}" target="_blank" rel="noopener noreferrer">{name}</a>'
    return f'<p class="i2v-calm">{escape(text("model_licence", locale))} {name}</p>'


def _check(row: ModelRow, check: Check, locale: str) -> str:
    """How far looking through it is, or what that brought."""
    if check.checked is not None:
        lines = "".join(f"<li>{escape(line.render(locale))}</li>" for line in _found(check.checked))
        word = text("model_well" if check.checked.well else "model_not_well", locale)
        look = "i2v-model-well" if check.checked.well else "i2v-job-error"
        return f'<div class="i2v-checked"><p class="{look}">{escape(word)}</p><ul>{lines}</ul></div>'
    parts = [text(f"model_check_{check.state}", locale)]
    if check.state == "reading" and check.total_bytes:
        total = amount(check.total_bytes, up=True)
        parts.append(text("download_bytes", locale, done=amount(check.done_bytes), total=total))
    bar = progress(check.done_bytes, check.total_bytes, row.title)
    return f'<div class="i2v-coming"><p class="i2v-download-line">{escape(" · ".join(parts))}</p>{bar}</div>'


def _found(checked: Checked) -> Iterator[Message]:
    """What was found, what was compared, and of what nobody knows."""
    yield from (finding.told for finding in checked.findings)
    if checked.compared:
        yield message("cli.verified_compared", count=checked.compared)
    if checked.unknown and checked.kind.whole:
        yield message("cli.verified_unknown", files=", ".join(checked.unknown))
