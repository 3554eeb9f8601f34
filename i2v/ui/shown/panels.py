"""The page's panels as HTML: header, status with its bar, stage (placeholder, preview, video). Pure functions;
every text is escaped here."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from urllib.parse import quote

from i2v.hardware.probe import Probe
from i2v.messages import Message
from i2v.request import GenerationRequest
from i2v.ui.shown.download_names import download_name
from i2v.ui.shown.folded import folded
from i2v.ui.shown.format import gib, refusal, status_parts
from i2v.ui.shown.view import JobView
from i2v.ui.texts import text

_SENTENCE_END = re.compile(r"(?<=\.)\s+|(?<=。)\s*")


def header(probe: Probe, preset: str, locale: str) -> str:
    """Title, card line and preset; below it what the probe could not read, folded to its first sentence."""
    problems = [*probe.problems, *(probe.gpu.problems if probe.gpu else ())]
    notes = ""
    if problems:
        items = "".join(f"<li>{escape(problem.render(locale))}</li>" for problem in problems)
        first = _SENTENCE_END.split(problems[0].render(locale))[0]
        told = first if len(problems) == 1 else text("problems_more", locale, first=first, count=len(problems) - 1)
        notes = f'<details class="i2v-problems"><summary>{escape(told)}</summary><ul>{items}</ul></details>'
    return (
        f'<div class="i2v-header"><h1>{escape(text("title", locale))}</h1>'
        f'<span class="i2v-subtitle">{escape(text("subtitle", locale))}</span>'
        f'<span class="i2v-card">{escape(card_line(probe, locale))} · '
        f"{escape(text('preset_line', locale, preset=preset))}</span>{notes}</div>"
    )


def card_line(probe: Probe, locale: str) -> str:
    """The card and its free memory, or that there is none and the computer's memory."""
    gpu = probe.gpu
    if gpu is None:
        host = probe.host
        return text("no_card", locale, free=gib(host.ram_available_bytes), total=gib(host.ram_total_bytes))
    if gpu.simulated:
        return text("card_simulated", locale, total=gib(gpu.total_bytes))
    return text("card_line", locale, name=gpu.name, free=gib(gpu.free_bytes), total=gib(gpu.total_bytes))


def ready(locale: str) -> str:
    """The status panel before the first job."""
    return idle(text("state_ready", locale))


def idle(line: str) -> str:
    """The status panel of a page that shows no job, with what there is to say."""
    return _status([escape(line)], 0.0, "idle")


def status(
    view: JobView,
    position: int | None,
    wish: str,
    locale: str,
    starts_in: float | None = None,
    waiting: int = 0,
    *,
    held: bool = False,
    others: bool = False,
    waits_for: Message | None = None,
) -> str:
    """The status line with its progress bar, and below it what a person should know. `wish`: what was asked of the
    job and has not happened yet, "cancel" or "pause". `waiting`: how many other jobs of theirs run or wait. `held`: the
    queue is paused. `others`: somebody else's job, which is not for them to see, is at work. `waits_for`: what a job
    waits for beside its turn."""
    parts = [escape(part.render(locale)) for part in status_parts(view, position, starts_in, held, waits_for)]
    if others:
        parts.append(escape(text("others_run", locale)))
    if wish and not view.progress.final:
        parts.append(escape(text("state_cancelling" if wish == "cancel" else "state_pausing", locale)))
    if waiting and not view.progress.final:
        parts.append(escape(text("state_waiting", locale, n=waiting)))
    below = note(view.progress.note.render(locale)) if view.progress.note else ""
    if view.progress.error:
        below += f'<div class="i2v-error" role="alert">{escape(view.progress.error.render(locale))}</div>'
    return _status(parts, view.bar, view.progress.state) + below


def problem(message: Message, locale: str) -> str:
    """A status panel that tells why nothing was started."""
    return f'<div class="i2v-error" role="alert">{escape(refusal(message, locale))}</div>'


def note(sentence: str, calm: bool = False) -> str:
    """A hint, or nothing; a calm one is there to inform and not to warn."""
    look = "i2v-note calm" if calm else "i2v-note"
    return f'<div class="{look}">{escape(sentence)}</div>' if sentence else ""


def log_panel(lines: str, locale: str) -> str:
    """The log of the job that the page shows, folded until somebody opens it."""
    return folded(text("log", locale), log(lines), "log")


def log(lines: str) -> str:
    """The log, kept at its newest line by the style sheet."""
    return f'<div class="i2v-log"><pre>{escape(lines)}</pre></div>'


def empty_stage(locale: str) -> str:
    """The stage before there is anything to show."""
    return f'<div class="i2v-stage i2v-empty">{escape(text("empty_stage", locale))}</div>'


def stage(view: JobView, request: GenerationRequest, folder: Path, locale: str) -> str:
    """The finished video, else the newest preview, else the photograph itself as the first frame."""
    ratio = f"aspect-ratio:{request.width}/{request.height}"
    if view.video:
        source, name = file_url(folder / view.video), download_name(request, folder.name, view.video)
        facts = text(
            "video_size",
            locale,
            width=request.video_size[0],
            height=request.video_size[1],
            frames=view.frames,
            fps=request.video_fps,
            seed=request.seed,
        )
        return (
            f'<div class="i2v-stage"><video style="{ratio}" src="{source}" controls loop autoplay muted playsinline>'
            f'</video></div><div class="i2v-below"><span>{escape(facts)}</span>'
            f'<a class="i2v-download" href="{source}" download="{escape(name)}">'
            f"{escape(text('download', locale))}</a></div>"
        )
    if view.preview:
        source = file_url(folder / view.preview, view.preview_step)
        decoded = view.preview_phase == "decode"
        alt = text("preview_alt_decode", locale) if decoded else text("preview_alt", locale, step=view.preview_step)
        alt = escape(alt)
        said = text("preview_note_decode" if decoded else "preview_note", locale)
        caption = "" if view.progress.final else f"<span>{escape(said)}</span>"
        return (
            f'<div class="i2v-stage"><img class="i2v-preview" style="{ratio}" src="{source}" alt="{alt}"></div>'
            f'<div class="i2v-below">{caption}</div>'
        )
    return empty_stage(locale)


def file_url(path: Path, version: int | None = None) -> str:
    """The page-relative address of a file below the outputs folder; `version` defeats the browser's cache."""
    address = f"gradio_api/file={quote(path.as_posix())}"
    return address if version is None else f"{address}?v={version}"


def _status(parts: list[str], progress: float, state: str) -> str:
    percent = f"{progress * 100:.1f}"
    return (
        f'<div class="i2v-status {escape(state)}"><div class="i2v-line">{" · ".join(parts)}</div>'
        f'<div class="i2v-bar" role="progressbar" aria-label="{parts[0]}" aria-valuemin="0" aria-valuemax="100"'
        f' aria-valuenow="{percent}"><div style="width:{percent}%"></div></div></div>'
    )
