"""The gallery as HTML: finished videos as cards, one opened, two side by side. Pure functions; every text is escaped
here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from html import escape
from pathlib import Path

from i2v.events import PHASES, PhaseFinished
from i2v.jobs.account import measured_phases
from i2v.jobs.folder import VIDEO
from i2v.jobs.history import MEMORY
from i2v.jobs.record import JobStatus
from i2v.plan import CFG_MODES, OFFLOADS, Plan, Prediction
from i2v.request import AUTO
from i2v.ui import panels
from i2v.ui.charts import memory_chart
from i2v.ui.download_names import download_name
from i2v.ui.format import clock, gib, log_text
from i2v.ui.panels import file_url
from i2v.ui.queue_list import facts, thumbnail
from i2v.ui.texts import text
from i2v.ui.view import JobView

PAGE = 24
"""How many cards are drawn at first, and with each "more"."""
_OWN = ("device", "weights")
_PLAN = ("preset", "device", "precision", "weights", "cfg", "offload", "chunk_frames", "chunk_pixels", "decode_frames")
_WORDED = {"cfg": CFG_MODES, "offload": OFFLOADS}


@dataclass(frozen=True)
class Wanted:
    """What the gallery is to show: every word of `search` in prompt or model, and the chosen model and size ("auto"
    stands for any)."""

    search: str = ""
    model: str = AUTO
    size: str = AUTO


def matching(jobs: Iterable[JobStatus], wanted: Wanted) -> list[JobStatus]:
    """The jobs that are wanted, in their order."""
    words = wanted.search.casefold().split()

    def fits(job: JobStatus) -> bool:
        told = f"{job.request.prompt} {job.request.model}".casefold()
        return (
            all(word in told for word in words)
            and wanted.model in (AUTO, job.request.model)
            and wanted.size in (AUTO, size_of(job))
        )

    return [job for job in jobs if fits(job)]


def size_of(job: JobStatus) -> str:
    """A size as it is chosen from: 512×320."""
    return f"{job.request.width}×{job.request.height}"


def choices(values: Iterable[str], locale: str) -> list[tuple[str, str]]:
    """What a filter offers: any, then each value once, in order of the numbers in it."""

    def order(value: str) -> tuple[list[int], str]:
        return [int(part) for part in value.split("×") if part.isdecimal()], value

    return [(text("gallery_any", locale), AUTO), *((value, value) for value in sorted(set(values), key=order))]


def grid(
    jobs: Sequence[JobStatus],
    found: int,
    posters: Mapping[str, str | None],
    locale: str,
    opened: str = "",
    first: str = "",
) -> str:
    """Cards for `jobs`, the part that is drawn of those `found`. `opened` is marked; with `first`, a card chooses what
    that one is compared with."""
    cards = "".join(_card(job, posters.get(job.id), locale, opened, first) for job in jobs)
    hint = f'<p class="i2v-gallery-hint" role="status">{_say("gallery_choose_second", locale)}</p>' if first else ""
    count = _say("gallery_count", locale, shown=len(jobs), count=found)
    return f'{hint}<p class="i2v-gallery-count">{count}</p><ul class="i2v-cards">{cards}</ul>'


def no_cards(any_video: bool, locale: str) -> str:
    """The place of the cards where none is to be shown: nothing fits the search, or there is no video yet."""
    return f'<div class="i2v-stage i2v-empty">{_say("gallery_nothing" if any_video else "gallery_empty", locale)}</div>'


def opened(job: JobStatus, locale: str) -> str:
    """One video with its settings and plan."""
    return (
        f'<h2 class="i2v-opened-title" id="i2v-opened" tabindex="-1">{escape(job.request.prompt)}</h2>'
        f'<div class="i2v-opened"><div>{_video(job, locale)}{_downloads(job, locale)}</div>'
        f"<div>{_table('gallery_settings', _settings(job, locale), locale)}"
        f"{_table('gallery_plan', _plan(job.plan, locale), locale)}{_healed(job, locale)}</div></div>"
    )


def run_of(job: JobStatus, view: JobView, locale: str, prediction: Prediction | None = None) -> str:
    """How its run went: time and memory as predicted and as measured, by phase where that was predicted, log."""
    return (
        f"{_measured(job, view, locale)}{_by_phase(view, prediction, locale) if prediction else ''}"
        f'<div class="i2v-opened-memory">{memory_chart(view.samples, job.plan.memory_cap_bytes, locale)}</div>'
        f"<details><summary>{_say('log', locale)}</summary>{panels.log(log_text(view, locale))}</details>"
    )


def side_by_side(one: JobStatus, other: JobStatus, locale: str) -> str:
    """Two videos that play together, and in what their settings differ."""
    before, after = dict(_settings(one, locale)), dict(_settings(other, locale))
    rows = "".join(
        f"<tr><th scope=row>{name}</th><td>{before[name]}</td><td>{after[name]}</td></tr>"
        for name in before
        if before[name] != after[name]
    )
    videos = "".join(
        f"<figure>{_player(job, 'muted autoplay')}<figcaption>{escape(job.request.prompt)}</figcaption></figure>"
        for job in (one, other)
    )
    table = f"<table><tbody>{rows}</tbody></table>" if rows else _say("gallery_same", locale)
    return (
        f'<h2 class="i2v-opened-title" id="i2v-opened" tabindex="-1">{_say("gallery_compared", locale)}</h2>'
        f'<div class="i2v-pair">{videos}</div><div class="i2v-table i2v-narrow">{table}</div>'
    )


def exported(job: JobStatus, path: Path, locale: str) -> str:
    """A link to a file that was just written from a job's video."""
    name = escape(download_name(job.request, job.id, path.name))
    link = (
        f'<a class="i2v-download" href="{escape(file_url(path))}" download="{name}">'
        f"{_say('gallery_exported', locale, file=path.name)}</a>"
    )
    return f'<p class="i2v-exported">{link} {path.stat().st_size / 2**20:.2f} MiB</p>'


def _card(job: JobStatus, poster: str | None, locale: str, opened: str, first: str) -> str:
    request, prompt = job.request, escape(job.request.prompt)
    act, word = ("second", "act_compare_with") if first else ("open", "act_open")
    marked = ' aria-current="true"' if job.id in (opened, first) else ""
    told = " · ".join([*facts(job, locale), *([_say("job_decode_only", locale)] if job.task == "decode" else [])])
    return (
        f'<li><button type="button" class="i2v-video-card" data-act="{act}" data-id="{escape(job.id)}"'
        f' aria-label="{_say(word, locale)}: {prompt[:80]}"{marked}{" disabled" if job.id == first else ""}>'
        f'<span class="i2v-frame" style="aspect-ratio:{request.width}/{request.height}">{thumbnail(poster)}</span>'
        f'<span class="i2v-card-prompt">{prompt}</span><span class="i2v-card-facts">{told}</span></button></li>'
    )


def _player(job: JobStatus, how: str) -> str:
    ratio = f"aspect-ratio:{job.request.width}/{job.request.height}"
    name = escape(job.request.prompt[:80])
    return (
        f'<video style="{ratio}" src="{escape(file_url(job.folder / VIDEO))}" aria-label="{name}" controls playsinline'
        f' {how} preload="auto"></video>'
    )


def _video(job: JobStatus, locale: str) -> str:
    return f'<div class="i2v-stage">{_player(job, "loop autoplay muted")}</div>'


def _downloads(job: JobStatus, locale: str) -> str:
    links = [("download", VIDEO), ("download_settings", "request.json"), ("download_memory", MEMORY)]
    made = "".join(
        f'<a class="i2v-download" href="{escape(file_url(job.folder / file))}"'
        f' download="{escape(download_name(job.request, job.id, file))}">{_say(word, locale)}</a>'
        for word, file in links
        if (job.folder / file).is_file()
    )
    return f'<div class="i2v-links">{made}</div>'


def _settings(job: JobStatus, locale: str) -> list[tuple[str, str]]:
    """Names and values, escaped."""
    request = job.request
    made = datetime.fromtimestamp(job.submitted).strftime("%Y-%m-%d %H:%M") if job.submitted else "–"
    values = {
        "model": request.model,
        "gallery_size": size_of(job),
        "frames": request.num_frames,
        "fps": request.fps,
        "steps": request.num_inference_steps,
        "guidance": f"{request.guidance_scale:g}",
        "seed": request.seed,
        "negative": request.negative_prompt or "–",
        "fit": text(f"fit_{request.fit}", locale),
        "gallery_made": made,
    }
    return [(_say(name, locale), escape(str(value))) for name, value in values.items()]


def _plan(plan: Plan, locale: str) -> list[tuple[str, str]]:
    values = asdict(plan)

    def value(name: str) -> str:
        if name in _WORDED:
            return text(f"{name}_{values[name]}", locale)
        if name.endswith(("_frames", "_pixels")):
            return str(values[name] or text("all", locale))
        return str(values[name])

    rows = [(_say(f"plan_key_{name}", locale) if name in _OWN else _say(name, locale), value(name)) for name in _PLAN]
    rows.append((_say("plan_key_loss", locale), text("plan_lossless" if plan.lossless else "plan_lossy", locale)))
    return [(name, escape(told)) for name, told in rows]


def _table(title: str, rows: Iterable[tuple[str, str]], locale: str) -> str:
    body = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    return f'<h3>{_say(title, locale)}</h3><dl class="i2v-facts">{body}</dl>'


def _healed(job: JobStatus, locale: str) -> str:
    if not job.healed:
        return ""
    rungs = "".join(f"<li>{escape(rung)}</li>" for rung in job.healed)
    return f"<h3>{_say('gallery_healed', locale)}</h3><ul>{rungs}</ul>"


def _measured(job: JobStatus, view: JobView, locale: str) -> str:
    """Predicted against measured seconds, the time by phase, and the highest memory that was seen."""
    if job.seconds_predicted is None or not view.seconds:
        told = _say("gallery_measured_only", locale, seconds=f"{view.seconds:.1f}")
    else:
        told = _say(
            "gallery_measured",
            locale,
            predicted=f"{job.seconds_predicted:.1f}",
            seconds=f"{view.seconds:.1f}",
            ratio=f"{view.seconds / job.seconds_predicted:.2f}",
        )
    parts = [told]
    for phase in PHASES:
        if (took := _took(view, phase)) is not None:
            parts.append(f"{_say(f'phase_{phase}', locale)} {clock(took)}")
    peak = max((max(s.peak_allocated_bytes, s.allocated_bytes) for s in view.samples), default=None)
    if peak:
        parts.append(_say("gallery_peak", locale, gib=gib(peak, 2)))
    return f'<p class="i2v-measured">{" · ".join(parts)}</p>'


def _took(view: JobView, phase: str) -> float | None:
    """The phase's seconds. One of parts tells each part, and then itself; the whole is what is told without a part."""
    spans = [event for event in view.events if isinstance(event, PhaseFinished) and event.phase == phase]
    whole = [event.seconds for event in spans if not event.detail] or [event.seconds for event in spans]
    return sum(whole) if whole else None


def _by_phase(view: JobView, prediction: Prediction, locale: str) -> str:
    """A row a phase: seconds as predicted and as they came; on a card, which alone tells it, memory as well."""
    of_card = [sample for sample in view.samples if sample.source != "process"]
    held = {one.name: one for one in measured_phases([*view.events, *of_card], prediction)}
    sampled = {sample.phase for sample in of_card}
    heads = ["gallery_phase", "gallery_predicted", "gallery_took"]
    heads += ["gallery_memory_predicted", "gallery_memory_measured"] if of_card else []
    rows = []
    for phase in PHASES:
        took, one = _took(view, phase), held.get(phase)
        if took is None:
            continue
        cells = [f"{one.predicted_seconds:.1f} s" if one else "–", f"{took:.1f} s"]
        if of_card:
            seen = (gib(one.predicted_bytes, 2), gib(one.measured_bytes, 2)) if one and phase in sampled else ()
            cells += [f"{size} GiB" for size in seen] or ["–", "–"]
        told = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f"<tr><th scope=row>{_say(f'phase_{phase}', locale)}</th>{told}</tr>")
    named = "".join(f"<th scope=col>{_say(head, locale)}</th>" for head in heads)
    table = f"<table><thead><tr>{named}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="i2v-table i2v-narrow i2v-by-phase">{table}</div>' if rows else ""


def _say(name: str, locale: str, /, **params: object) -> str:
    return escape(text(name, locale, **params))
