"""A card for each model as HTML: what it is good at, under what terms, and what this machine makes of it. Pure
functions; every text is escaped here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from i2v.jobs.asked.outlook import Outlook, Standing, begins_with, sound
from i2v.messages import Message, message
from i2v.planning.planner import Planned
from i2v.ui.create.first_model import FirstModel
from i2v.ui.shown.download import Coming, coming_of, download_told
from i2v.ui.shown.format import gib, takes
from i2v.ui.texts import text

FOLDED: tuple[Standing, ...] = ("wont_fit", "damaged")
"""Of models that do not work here."""


def model_cards(found: Sequence[Outlook], chosen: str, locale: str, coming: Sequence[Coming] = ()) -> str:
    """The models in the order they are in, those that do not work here folded behind the others; `chosen`: the name of
    the form's. `coming`: the downloads that have not brought their model."""
    good = [one for one in found if one.standing not in FOLDED]
    others = [one for one in found if one.standing in FOLDED]
    if not others:
        return _list(good, chosen, locale, coming)
    told = escape(text("models_folded", locale, count=len(others)))
    opened = " open" if any(one.entry.name == chosen for one in others) else ""
    return (
        f"{_list(good, chosen, locale, coming)}"
        f'<details class="i2v-details i2v-others"{opened}><summary>{told}</summary>'
        f"{_list(others, chosen, locale, coming)}</details>"
    )


def _list(found: Sequence[Outlook], chosen: str, locale: str, coming: Sequence[Coming]) -> str:
    cards = "".join(_card(one, one.entry.name == chosen, coming_of(one.entry, coming), locale) for one in found)
    return f'<ul class="i2v-models">{cards}</ul>'


def _card(one: Outlook, is_chosen: bool, coming: Coming | None, locale: str) -> str:
    lines = "".join(f"<p>{escape(line.render(locale))}</p>" for line in _lines(one, coming))
    told = ""
    if coming is not None:
        told = download_told(coming, locale)
        if not coming.elsewhere:
            told += f"<p>{escape(text('model_downloads_at', locale))}</p>"
    buttons = f"{_choose(one, is_chosen, locale)}{_get(one, coming, locale)}"
    look = " chosen" if is_chosen else ""
    return (
        f'<li class="i2v-model i2v-plan {one.standing}{look}">'
        f"<div><h3>{escape(one.entry.title)}</h3><strong>{escape(_verdict(one).render(locale))}</strong></div>"
        f'{_figures(one.planned, locale)}{lines}{told}<ul class="i2v-tags">{_tags(one, locale)}</ul>'
        f'<div class="i2v-model-acts">{buttons}</div></li>'
    )


def _verdict(one: Outlook) -> Message:
    """How well it works here, in the plan's own words."""
    return message(f"ui.plan_{one.standing}")


def _figures(planned: Planned | None, locale: str) -> str:
    """How long its usual clip takes, and what it holds of what is free."""
    if planned is None:
        return ""
    job, prediction = planned.request, planned.prediction
    length = text("seconds_value", locale, seconds=f"{job.num_frames / job.fps:.3g}")
    time = takes(prediction.seconds).render(locale)
    parts = (
        time if prediction.exact else text("model_at_most", locale, time=time),
        text("plan_brief_length", locale, width=job.width, height=job.height, length=length),
        text("plan_peak", locale, peak=gib(prediction.peak.peak_bytes, 1), budget=gib(prediction.budget_bytes, 1)),
    )
    return f'<p class="i2v-figures">{escape(" · ".join(parts))}</p>'


def _lines(one: Outlook, coming: Coming | None) -> Iterator[Message]:
    """What holds it back, what it is good at, and how to get it."""
    if one.holds_back is not None:
        yield one.holds_back
    if one.standing == "unknown":
        yield message("ui.model_unknown")
    if one.spec.about:
        yield message(one.spec.about)
    if coming is None and _can_come(one):
        yield message("ui.model_get", gib=gib(one.entry.size_bytes or None))


def _tags(one: Outlook, locale: str) -> str:
    """What it begins with, whether it has sound, its licence, and its size here or on the way."""
    tags = [escape(said.render(locale)) for said in (*begins_with(one.spec), sound(one.spec))]
    if licence := one.spec.licence:
        name = escape(licence.name)
        link = f'<a href="{escape(licence.url or "")}" target="_blank" rel="noopener noreferrer">{name}</a>'
        tags.append(link if licence.url else name)
    tags.append(escape(one.size.render(locale)))
    return "".join(f"<li>{tag}</li>" for tag in tags)


def _choose(one: Outlook, is_chosen: bool, locale: str) -> str:
    """The button that chooses it; none for one that cannot be used."""
    if one.refused is not None:
        return ""
    word = escape(text("model_chosen" if is_chosen else "model_choose", locale))
    return (
        f'<button type="button" class="i2v-act" data-act="choose" data-id="{escape(one.entry.name)}" '
        f'aria-pressed="{str(is_chosen).lower()}" aria-label="{word}: {escape(one.entry.title)}">{word}</button>'
    )


def _can_come(one: Outlook) -> bool:
    """Whether a download would make it work here."""
    return not one.entry.present and one.standing not in FOLDED


def _get(one: Outlook, coming: Coming | None, locale: str) -> str:
    """The button that downloads it while other models make videos; a download that failed is tried again."""
    if not _can_come(one) or (coming is not None and not coming.stands):
        return ""
    word = escape(text("model_download_now" if coming is None else "retry", locale))
    return (
        f'<button type="button" class="i2v-act" data-get="{escape(one.entry.name)}" '
        f'aria-label="{word}: {escape(one.entry.title)}">{word}</button>'
    )


def first_model_note(first: FirstModel, locale: str) -> str:
    """Why the page began with this model, and a button that takes another."""
    if first.told is None:
        return ""
    word = escape(text("take_instead", locale, title=first.other_title))
    button = f' <button type="button" class="i2v-act" data-act="choose" data-id="{escape(first.other)}">{word}</button>'
    return f'<div class="i2v-note calm">{escape(first.told.render(locale))}{button if first.other else ""}</div>'
