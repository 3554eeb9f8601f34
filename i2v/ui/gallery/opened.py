"""One video of the gallery as HTML, and two side by side. Pure functions; every text is escaped here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from html import escape
from pathlib import Path

from i2v.events import PHASES, PhaseFinished
from i2v.families.scheduler_choices import SCHEDULERS
from i2v.family_settings import FAMILY_SETTINGS
from i2v.jobs.asked.account import measured_phases
from i2v.jobs.asked.two_stages import said_of
from i2v.jobs.job.folder import VIDEO
from i2v.jobs.job.history import MEMORY
from i2v.jobs.job.record import JobStatus
from i2v.plan import CFG_MODES, OFFLOADS, Plan, Prediction
from i2v.request import AS_DECODED, GenerationRequest
from i2v.ui.create.choices import typed_loras
from i2v.ui.gallery.cards import size_of
from i2v.ui.gallery.finish import finish_words
from i2v.ui.gallery.steadiness import steadiness_of
from i2v.ui.queue.rows import facts
from i2v.ui.shown import panels
from i2v.ui.shown.charts import memory_chart
from i2v.ui.shown.download_names import download_name
from i2v.ui.shown.folded import folded
from i2v.ui.shown.format import clock, gib, log_text
from i2v.ui.shown.panels import file_url
from i2v.ui.shown.view import JobView
from i2v.ui.texts import text
from i2v.vae_window import OWN
from i2v.video.steadiness import Steadiness
from i2v.video.steadiness_files import FRAMES_CSV

_OWN = ("device", "weights")
_PLAN = (
    *("preset", "device", "precision", "weights", "cfg", "offload"),
    *("chunk_frames", "chunk_pixels", "chunk_tokens", "decode_frames", "decode_rows", "vae_window", "step_cache"),
)
_NOTHING = "–"
_WORDED = {"cfg": CFG_MODES, "offload": OFFLOADS}


def opened(job: JobStatus, locale: str, before: str = "", after: str = "", report: Steadiness | None = None) -> str:
    """One video, what it is in a line, its files, and how steady it is by `report`. `before` and `after`: the ids of
    its neighbours in the grid."""
    title = f'<h2 class="i2v-opened-title" id="i2v-opened" tabindex="-1">{escape(job.request.prompt)}</h2>'
    steps = "".join(
        _button(act, "open", job_id, locale, sign, disabled=not job_id)
        for act, job_id, sign in (("act_previous", before, "‹"), ("act_next", after, "›"))
    )
    close = _button("act_close", "close", job.id, locale, "✕")
    seed = _say("gallery_seed", locale, seed=job.request.seed)
    return (
        f'<div class="i2v-opened-head">{title}<div class="i2v-opened-steps">{steps}{close}</div></div>'
        f'<div class="i2v-stage">{_player(job, "loop autoplay muted")}</div>'
        f'<p class="i2v-opened-facts">{" · ".join([*facts(job, locale), seed])}</p>{_downloads(job, locale)}'
        f"{steadiness_of(job.id, report, locale)}"
    )


def about(job: JobStatus, view: JobView, locale: str, prediction: Prediction | None = None) -> str:
    """What else there is to know of it, folded: its settings, its plan, and how its run went."""
    settings = _list(_asked(job, locale))
    plan = f"{_list(_plan(job.plan, locale))}{_healed(job, locale)}"
    return (
        f"{folded(text('gallery_settings', locale), settings, 'gallery-settings')}"
        f"{folded(text('gallery_plan', locale), plan, 'gallery-plan')}"
        f"{folded(text('gallery_run', locale), run_of(job, view, locale, prediction), 'gallery-run')}"
    )


def run_of(job: JobStatus, view: JobView, locale: str, prediction: Prediction | None = None) -> str:
    """How its run went: time and memory as predicted and as measured, by phase where that was predicted, log. Each
    time is told once."""
    by_phase = _by_phase(view, prediction, locale) if prediction else ""
    return (
        f"{_measured(job, view, locale, phases=not by_phase)}{by_phase}"
        f'<div class="i2v-opened-memory">{memory_chart(view.samples, job.plan.memory_cap_bytes, locale)}</div>'
        f"{folded(text('log', locale), panels.log(log_text(view, locale)), 'gallery-log')}"
    )


def side_by_side(one: JobStatus, other: JobStatus, locale: str) -> str:
    """Two videos that play together, each with its own buttons, and in what they differ."""
    before, after = dict(_asked(one, locale)), dict(_asked(other, locale))
    names = {**before, **after}  # of videos for different tasks one may have what the other has not
    compared = ((name, before.get(name, _NOTHING), after.get(name, _NOTHING)) for name in names)
    rows = "".join(
        f"<tr><th scope=row>{name}</th><td>{first}</td><td>{second}</td></tr>"
        for name, first, second in compared
        if first != second
    )
    panes = "".join(_pane(letter, job, locale) for letter, job in (("A", one), ("B", other)))
    heads = "<thead><tr><td></td><th scope=col>A</th><th scope=col>B</th></tr></thead>"
    table = f"<table>{heads}<tbody>{rows}</tbody></table>" if rows else _say("gallery_same", locale)
    close = _button("act_close", "close", one.id, locale, "✕")
    return (
        f'<div class="i2v-opened-head"><h2 class="i2v-opened-title" id="i2v-opened" tabindex="-1">'
        f'{_say("gallery_compared", locale)}</h2><div class="i2v-opened-steps">{close}</div></div>'
        f'<div class="i2v-pair">{panes}</div><div class="i2v-table i2v-narrow">{table}</div>'
    )


def exported(job: JobStatus, path: Path, locale: str) -> str:
    """A link to a file that was just written from a job's video."""
    name = escape(download_name(job.request, job.id, path.name))
    link = (
        f'<a class="i2v-download" href="{escape(file_url(path))}" download="{name}">'
        f"{_say('gallery_exported', locale, file=path.name)}</a>"
    )
    return f'<p class="i2v-exported">{link} {path.stat().st_size / 2**20:.2f} MiB</p>'


def _button(
    word: str, act: str, job_id: str, locale: str, sign: str = "", *, disabled: bool = False, of: str = ""
) -> str:
    """A button for the server; `sign` is seen in place of its word. `of`: which video it means, for a screen reader."""
    said = _say(word, locale)
    name = f"{said}: {escape(of)}" if of else said
    return (
        f'<button type="button" class="i2v-act" data-act="{act}" data-id="{escape(job_id)}" title="{said}"'
        f' aria-label="{name}"{" disabled" if disabled else ""}>{sign or said}</button>'
    )


def _pane(letter: str, job: JobStatus, locale: str) -> str:
    of = f"{letter}, {job.request.prompt[:80]}"
    buttons = "".join(
        _button(word, act, job.id, locale, of=of) for word, act in (("act_open", "open"), ("act_use", "use"))
    )
    return (
        f"<figure>{_player(job, 'muted autoplay')}<figcaption><b>{letter}</b> {escape(job.request.prompt)}</figcaption>"
        f'<div class="i2v-pane-actions">{buttons}</div></figure>'
    )


def _asked(job: JobStatus, locale: str) -> list[tuple[str, str]]:
    """The settings, with the words at their head."""
    return [(_say("gallery_prompt", locale), escape(job.request.prompt)), *_settings(job, locale)]


def _player(job: JobStatus, how: str) -> str:
    ratio = f"aspect-ratio:{job.request.width}/{job.request.height}"
    name = escape(job.request.prompt[:80])
    return (
        f'<video style="{ratio}" src="{escape(file_url(job.folder / VIDEO))}" aria-label="{name}" controls playsinline'
        f' {how} preload="auto"></video>'
    )


def _downloads(job: JobStatus, locale: str) -> str:
    links = [("download", VIDEO), ("download_settings", "request.json"), ("download_memory", MEMORY)]
    links.append(("download_steadiness", FRAMES_CSV))
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
    clips = [one for one in request.inputs if one.kind == "video"]
    values = {
        "model": request.model,
        **({"lora": ", ".join(typed_loras(request.adapters))} if request.adapters else {}),
        "gallery_task": text("task_two_pictures" if request.last_image_path else f"task_{request.task}", locale),
        **({"strength": f"{clips[0].strength:g}"} if clips else {}),
        "gallery_size": size_of(job),
        "frames": request.num_frames,
        "fps": request.fps,
        "steps": request.num_inference_steps,
        "guidance": f"{request.guidance_scale:g}",
        **({"true_guidance": f"{request.true_guidance_scale:g}"} if request.true_guidance_scale > 1 else {}),
        **_schedule(request, locale),
        "seed": request.seed,
        **({"finishing": finish_words(request.finish, locale)} if request.finish != AS_DECODED else {}),
        "negative": request.negative_prompt or "–",
        **({"fit": text(f"fit_{request.fit}", locale)} if request.inputs else {}),
        "gallery_made": made,
    }
    return [(_say(name, locale), escape(str(value))) for name, value in values.items()]


def _schedule(request: GenerationRequest, locale: str) -> dict[str, str]:
    """What it was denoised by and how it was guided, where that is not as usual."""
    told = {}
    if request.scheduler:
        told["scheduler"] = (
            SCHEDULERS[request.scheduler].title if request.scheduler in SCHEDULERS else request.scheduler
        )
    if request.betas:
        told["betas"] = text(f"betas_{request.betas}", locale)
    if request.guidance_rescale:
        told["guidance_rescale"] = f"{request.guidance_rescale:g}"
    if request.guidance_curve != "constant":
        told["guidance_curve"] = text(f"curve_{request.guidance_curve}", locale)
    if request.two_stages is not None:
        told["two_stages"] = text(f"two_stages_{said_of(request)}", locale)
    set_by_hand = {name: getattr(request, name) for name in FAMILY_SETTINGS}
    return told | {name: f"{value:g}" for name, value in set_by_hand.items() if value is not None}


def _plan(plan: Plan, locale: str) -> list[tuple[str, str]]:
    values = {**asdict(plan), "offload": plan.offload}

    def value(name: str) -> str:
        if name in _WORDED:
            return text(f"{name}_{values[name]}", locale)
        if values[name] == "full":
            return text("weights_full", locale)
        if values[name] == OWN:
            return text("vae_window_own", locale)
        if name == "step_cache":
            return f"{values[name]:g}" if values[name] else text("never", locale)
        if name.endswith(("_frames", "_pixels")):
            return str(values[name] or text("all", locale))
        return str(values[name])

    rows = [(_say(f"plan_key_{name}", locale) if name in _OWN else _say(name, locale), value(name)) for name in _PLAN]
    rows.append((_say("plan_key_loss", locale), text("gallery_lossless" if plan.lossless else "gallery_lossy", locale)))
    return [(name, escape(told)) for name, told in rows]


def _list(rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    return f'<dl class="i2v-facts">{body}</dl>'


def _healed(job: JobStatus, locale: str) -> str:
    if not job.healed:
        return ""
    rungs = "".join(f"<li>{escape(rung)}</li>" for rung in job.healed)
    return f"<h3>{_say('gallery_healed', locale)}</h3><ul>{rungs}</ul>"


def _measured(job: JobStatus, view: JobView, locale: str, *, phases: bool) -> str:
    """Predicted against measured seconds, with `phases` the time of each, and the highest memory that was seen."""
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
    for phase in PHASES if phases else ():
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
