"""`python -m i2v plan`: whether a job fits, how long it takes and how it would be run, before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

from i2v.cli.exits import Exit
from i2v.cli.terminal import clock
from i2v.families import SPECS
from i2v.hardware.probe import MemoryProbe, Probe
from i2v.jobs.asked.plans import Asked, Plans
from i2v.jobs.asked.prepare import Resolved, fixed_by_person, resolve
from i2v.messages import Message, message
from i2v.plan import Plan
from i2v.planning.known import Known
from i2v.planning.machine import card_machine, imagined_machine
from i2v.planning.overview import overview
from i2v.planning.planner import Considered, Planned
from i2v.planning.rates import known_card
from i2v.planning.why import phase_name, why
from i2v.request import GenerationRequest
from i2v.settings.settings import Settings, preset_source
from i2v.settings.values import Number
from i2v.units import GIB, amount
from i2v.vae_window import OWN

PLAN_FLAGS = ("vram", "ram", "gpu_name")
_GIB = Number(0.01, 4096)


def plan(
    values: Mapping[str, Any],
    settings: Settings,
    probe: MemoryProbe,
    *,
    as_json: bool,
    explain: bool,
    locale: str,
    plans: Plans | None = None,
) -> Exit:
    """Print the plan for `values`: the request's keys, and `vram`, `ram` (GiB free) and `gpu_name` for another machine
    than this one. Raises UserError for what can not be."""
    rest = dict(values)
    vram, ram, gpu_name = (rest.pop(key, None) for key in PLAN_FLAGS)
    resolved, reading = resolve(rest, settings, to_run=False), probe.read()
    with closing(plans or Plans.of(settings)) as all_plans:
        all_plans.measure_disk(resolved.entry)
        asked = _asked(resolved, reading, all_plans, vram=vram, ram=ram, gpu_name=gpu_name)
        planned, said = all_plans.exactly(asked), all_plans.said(asked.entry, asked.request)
    if as_json:
        told = plan_json(planned, locale) | {"said": [text.render(locale) for text in said]}
        print(json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join(text.render(locale) for text in (*plan_lines(planned), *said)))
    if explain:
        print("\n".join(_explained(planned)))
    return Exit.NO_ROOM if planned.prediction.verdict == "wont_fit" else Exit.DONE


def _asked(
    resolved: Resolved,
    reading: Probe,
    plans: Plans,
    *,
    vram: Any,
    ram: Any,
    gpu_name: str | None,
) -> Asked:
    """The question on this machine, or on the one that the flags describe."""
    asked = plans.asked(resolved, reading)
    if gpu_name is not None or vram is not None:
        asked = elsewhere(
            asked, gpu_name, None if vram is None else int(_GIB.parse(vram, "--vram") * GIB), resolved.settings
        )
    if ram is not None:
        free = int(_GIB.parse(ram, "--ram") * GIB)
        asked = replace(asked, machine=replace(asked.machine, ram_free_bytes=free))
    return plans.corrected(asked)


def table(*, as_json: bool) -> Exit:
    """Print every model, size and card of the shipped table."""
    rows = list(overview(Known()))
    if as_json:
        print(json.dumps([row.to_json() for row in rows], indent=1))
        return Exit.DONE
    for row in rows:
        size = f"{row.width}x{row.height}x{row.frames}"
        memory = f"{row.peak_gib:6.2f} of {row.free_gib:6.2f} GiB"
        print(f"{row.model:10} {size:14} {row.card:14} {row.verdict:9} {memory} {clock(row.seconds):>9}")
    return Exit.DONE


def plan_json(planned: Planned, locale: str) -> dict[str, Any]:
    """The document of `--json`: memory in GiB, time in seconds."""
    prediction = planned.prediction
    return {
        "verdict": prediction.verdict,
        "lossless": planned.plan.lossless,
        "peak_gib": _gib(prediction.peak.peak_bytes),
        "margin_gib": _gib(prediction.margin_bytes),
        "context_gib": _gib(prediction.context_bytes),
        "budget_gib": _gib(prediction.budget_bytes),
        "ram_peak_gib": _gib(prediction.ram_peak_bytes),
        "disk_gib": _gib(prediction.disk_bytes),
        "seconds": round(prediction.seconds, 1),
        "load_seconds": round(prediction.load_seconds, 1),
        "finish_seconds": round(prediction.finish_seconds, 1),
        "finish_gib": _gib(prediction.finish_bytes),
        "phases": [
            {
                "name": phase.name,
                "weights_gib": _gib(phase.weights_bytes),
                "activations_gib": _gib(phase.activations_bytes),
                "workspace_gib": _gib(phase.workspace_bytes),
                "peak_gib": _gib(phase.peak_bytes),
                "seconds": round(phase.seconds, 2),
            }
            for phase in prediction.phases
        ],
        "plan": asdict(planned.plan),
        "ladder": [_rung(one) for one in planned.ladder],
        "why": [text.render(locale) for text in why(planned)],
        "nearest": [_settings(job) for job in planned.nearest],
    }


def plan_lines(planned: Planned) -> Iterator[Message]:
    """The same in a few lines for people."""
    prediction, request = planned.prediction, planned.request
    short = prediction.shortages(planned.plan.device)
    yield message(
        f"planning.verdict_{prediction.verdict}" if not short else f"planning.verdict_short_{short[0].place}",
        needed=amount(short[0].needed_bytes, up=True) if short else "",
        free=amount(short[0].free_bytes) if short else "",
        width=request.width,
        height=request.height,
        frames=request.num_frames,
        steps=request.num_inference_steps,
        model=request.model,
        peak=_two(prediction.peak.peak_bytes),
        budget=_two(prediction.budget_bytes),
        phase=phase_name(prediction.peak.name).to_json(),
        time=clock(prediction.seconds),
    )
    yield from why(planned)
    for job in planned.nearest:
        yield message("planning.nearest", width=job.width, height=job.height, frames=job.num_frames)


def _explained(planned: Planned) -> Iterator[str]:
    yield ""
    for one in planned.considered:
        mark = "*" if one.plan == planned.plan else " "
        prediction = one.prediction
        yield (
            f"{mark} {_name(one.plan):59} {_two(prediction.peak.peak_bytes):>7} GiB "
            f"{prediction.seconds:9.1f} s  {prediction.verdict}"
        )


def _rung(one: Considered) -> dict[str, Any]:
    return {
        "plan": asdict(one.plan),
        "peak_gib": _gib(one.prediction.peak.peak_bytes),
        "seconds": round(one.prediction.seconds, 1),
    }


def _name(plan: Plan) -> str:
    chunks = f"frames={plan.chunk_frames} pixels={plan.chunk_pixels} decode={plan.decode_frames}"
    if plan.chunk_tokens:
        chunks = f"tokens={plan.chunk_tokens}"
    weights = "" if plan.weights == "full" else f" weights={plan.weights}"
    window = "" if plan.vae_window == OWN else f" window={plan.vae_window}"
    cache = f" step_cache={plan.step_cache:g}" if plan.step_cache else ""
    return f"{plan.offload} cfg={plan.cfg} {chunks}{weights}{window}{cache}"


def _settings(job: GenerationRequest) -> dict[str, int]:
    return {"width": job.width, "height": job.height, "frames": job.num_frames}


def elsewhere(asked: Asked, gpu_name: str | None, vram_bytes: int | None, settings: Settings) -> Asked:
    """The same question on a card that is not at hand, or with another amount of it free. `settings`: the request's."""
    here = asked.machine
    if gpu_name is None and here.device == "cuda":
        return replace(asked, machine=here.with_budget(vram_bytes))
    if gpu_name is None:
        machine = card_machine(known_card("", vram_bytes), vram_bytes, here.ram_free_bytes, here.disk_free_bytes)
    else:
        machine = imagined_machine(gpu_name, vram_bytes, here.ram_free_bytes, here.disk_free_bytes)
    fixed = settings.sources["precision"] not in ("default", preset_source("cpu"))
    precision = asked.base.precision if fixed else SPECS[asked.entry.family].half
    person = fixed_by_person(settings)
    base = replace(asked.base, device="cuda", precision=precision, memory_cap_bytes=None)
    return replace(asked, machine=machine, base=base, fixed=person)


def _gib(size: int) -> float:
    return round(size / GIB, 3)


def _two(size: int) -> str:
    return f"{size / GIB:.2f}"
