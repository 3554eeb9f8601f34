"""Suite `planner`: is what the planner predicts what the card does, and is what it chooses the fastest that fits?

Every rung of each size runs once on the whole card (its time, and what its choice is judged by), and every chosen plan
once on the card it was chosen for (its memory: torch's allocator may hold no more than that card would have).
Predictions are without corrections. What was measured goes to `ledger.jsonl`, as the app itself writes it.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from bench.gpu.contenders import Ours, Run, encode, run
from bench.gpu.i2vgen import STEP_SECONDS, pace, plan_json, plans
from bench.gpu.record import Clock, Record, Row
from bench.gpu.suite import Bench, OutOfTime
from i2v.plan import Plan, Prediction
from i2v.planning.known import engine_phase
from i2v.planning.ledger import Entry, Ledger, PhaseMeasured, Setup
from i2v.planning.planner import Considered, Planner, candidates

LEDGER = "ledger.jsonl"
STEPS_OF_A_JOB = 50


def suite(bench: Bench, record: Record, clock: Clock) -> None:
    """The self-measurement, then size by size. Raises OutOfTime."""
    record.note(measurement=vars(bench.measurement(clock)), steps=STEPS_OF_A_JOB)
    precision = bench.scale.precisions[0]
    for size in bench.scale.sizes:
        try:
            _memory(bench, record, clock, precision, size)
            _rungs(bench, record, clock, precision, size)
        finally:
            record.note(summary=summary(record))


def _memory(bench: Bench, record: Record, clock: Clock, precision: str, size: tuple[int, int, int]) -> None:
    """Each card's chosen plan, capped to the smallest card it is chosen for."""
    for plan, caps, _ in plans(bench, clock, precision, size):
        cap = min((cap for cap in caps if cap), default=None)
        case = f"{precision} {size[0]}x{size[1]}x{size[2]} on {cap or 'all'} bytes"
        if record.has(case):
            continue
        one = _consider(bench, clock, size, plan, cap)
        if one.prediction.verdict == "wont_fit":
            record.put(case, {**_about(precision, size), "kind": "memory", "cap_bytes": cap, "error": "no plan fits"})
            continue
        record.put(case, {**_about(precision, size), "kind": "memory", **_run(bench, clock, size, one, cap)})


def _rungs(bench: Bench, record: Record, clock: Clock, precision: str, size: tuple[int, int, int]) -> None:
    """Every rung on the whole card; then, for each card, the chosen one beside the fastest that fits it."""
    for plan in list(candidates(bench.rig.base_plan(precision), ()))[: bench.scale.rungs]:
        case = f"{precision} {size[0]}x{size[1]}x{size[2]} {' '.join(map(str, plan_json(plan).values()))}"
        if not record.has(case):
            one = _consider(bench, clock, size, plan, None)
            record.put(case, {**_about(precision, size), "kind": "rung", **_run(bench, clock, size, one, None)})
    for cap in bench.scale.caps:
        case = f"{precision} {size[0]}x{size[1]}x{size[2]} regret on {cap} bytes"
        if not record.has(case):
            found = _regret(bench, record, clock, precision, size, cap)
            if found is not None:
                record.put(case, {**_about(precision, size), "kind": "regret", "cap_bytes": cap, **found})


def _regret(
    bench: Bench, record: Record, clock: Clock, precision: str, size: tuple[int, int, int], cap: int
) -> Row | None:
    """How much longer the chosen plan takes than the fastest that the card holds; by measured times, whole jobs, and by
    measured memory. None where nothing fits."""
    machine = bench.rig.machine(cap, bench.measurement(clock))
    chosen = bench.dry.plan(machine, bench.scale.job(size, STEPS_OF_A_JOB), bench.rig.base_plan(precision))
    if chosen.prediction.verdict == "wont_fit":
        return None
    name = f"{precision} {size[0]}x{size[1]}x{size[2]} "
    rungs = {row["case"]: row for row in record.rows() if row["case"].startswith(name) and row.get("kind") == "rung"}
    mine = rungs.get(name + " ".join(map(str, plan_json(chosen.plan).values())))
    fitting = [row for row in rungs.values() if not row["error"] and row["measured_peak_bytes"] <= cap]
    if mine is None or mine["error"] or not fitting:
        return None
    best = min(fitting, key=lambda row: row["job_seconds"])
    return {
        "chosen": mine["plan"],
        "chosen_seconds": mine["job_seconds"],
        "fastest": best["plan"],
        "fastest_seconds": best["job_seconds"],
        "regret": max(0.0, mine["job_seconds"] / best["job_seconds"] - 1),
    }


def _about(precision: str, size: tuple[int, int, int]) -> Row:
    return {"precision": precision, "width": size[0], "height": size[1], "frames": size[2]}


def _consider(bench: Bench, clock: Clock, size: tuple[int, int, int], plan: Plan, cap: int | None) -> Considered:
    """What is predicted of exactly this plan, for a whole job."""
    machine = bench.rig.machine(cap, bench.measurement(clock))
    prediction = Planner(machine, bench.dry).forced(bench.scale.job(size, STEPS_OF_A_JOB), plan)
    assert prediction is not None
    return Considered(plan, prediction)


def _run(bench: Bench, clock: Clock, size: tuple[int, int, int], one: Considered, cap: int | None) -> Row:
    """Encode, a few steps and decode; what each phase held and took beside what was predicted, and the ledger's line.
    The steps' middle stands for all those of a whole job."""
    bench.need(clock, 2 * STEP_SECONDS * bench.scale.timed_steps * size[0] * size[1] * size[2] / 2**25)
    model, job = bench.model(one.plan.precision, clock), bench.scale.job(size)
    conditioning, encode_peak, encode_seconds = encode(bench.rig, model, job, one.plan)
    found = run(
        bench.rig, Ours(model, one.plan), job, conditioning,
        cap_bytes=cap, steps=bench.scale.timed_steps, room_for=clock.room_for,
    )  # fmt: skip
    if found.error == "out of time":
        raise OutOfTime
    told: Row = {"plan": plan_json(one.plan), "cap_bytes": cap, "error": found.error}
    if found.error or found.decode is None:
        return told
    staged = one.plan.offload == "staged"  # encode runs staged here; what it holds under a resident plan is not known
    measured = _phases(bench, one.prediction, found, encode_peak.reserved_bytes if staged else None, encode_seconds)
    _add_to_ledger(bench, one.plan, measured)
    peak = max(phase.measured_bytes for phase in measured) + bench.rig.context_bytes
    return {
        **told,
        "phases": [vars(phase) for phase in measured],
        "predicted_peak_bytes": one.prediction.peak.peak_bytes,
        "measured_peak_bytes": peak,
        "device_bytes": found.peak.device_bytes,
        "predicted_seconds": one.prediction.seconds,
        "job_seconds": sum(phase.measured_seconds for phase in measured),
    }


def _phases(
    bench: Bench, prediction: Prediction, found: Run, encode_bytes: int | None, encode_seconds: float
) -> tuple[PhaseMeasured, ...]:
    """Engine phase by engine phase, without the context in either."""
    step = pace(found.step_seconds[1:]) or found.step_seconds[0]
    assert found.decode is not None
    came = {
        "encode": (encode_bytes, encode_seconds),
        "denoise": (found.denoise.reserved_bytes, found.step_seconds[0] + step * (STEPS_OF_A_JOB - 1)),
        "decode": (found.decode.reserved_bytes, found.decode_seconds or 0.0),
    }
    measured = []
    for name, (held, took) in came.items():
        ours = [phase for phase in prediction.phases if engine_phase(phase.name) == name]
        predicted = max(phase.peak_bytes for phase in ours) - prediction.context_bytes
        seconds = sum(phase.seconds for phase in ours)
        measured.append(PhaseMeasured(name, predicted, predicted if held is None else held, seconds, took))
    return tuple(measured)


def _add_to_ledger(bench: Bench, plan: Plan, phases: tuple[PhaseMeasured, ...]) -> None:
    described = bench.rig.described()
    setup = Setup("i2vgen_xl", plan.precision, described["card"], torch.__version__, str(described["cudnn"] or ""))
    Ledger(bench.out / LEDGER).add(Entry(setup, replace(plan, memory_cap_bytes=None).to_json(), phases))


def summary(record: Record) -> Row:
    """The worst of all rows: by how much memory was over and under its prediction, the pace, and the regret."""
    rows = [row for row in record.rows() if row.get("phases")]
    ratios = [row["measured_peak_bytes"] / row["predicted_peak_bytes"] for row in rows if row["kind"] == "memory"]
    paces = [row["job_seconds"] / row["predicted_seconds"] for row in rows if row["kind"] == "rung"]
    regrets = [row["regret"] for row in record.rows() if row.get("kind") == "regret"]
    return {
        "memory_measured_to_predicted": [min(ratios), max(ratios)] if ratios else None,
        "time_measured_to_predicted": [min(paces), max(paces)] if paces else None,
        "worst_regret": max(regrets, default=None),
        "out_of_memory": sum("memory" in row.get("error", "") for row in record.rows()),
    }
