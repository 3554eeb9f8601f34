"""What was measured on cards, as README_OPTIMIZATION.md shows it. Reads result files and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.gpu.plots import Series, line_plot

GIB = 2**30
NOT_MEASURED = "Not measured yet."
Result = dict[str, Any]
Row = dict[str, Any]


def results(folder: Path, *, small: bool = False) -> list[Result]:
    """Every result file below `folder`, by card and suite. Those of `small` runs say nothing of a card and are left
    out unless they are asked for."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.json"))]
    return [one for one in found if one["small"] == small]


def document(folder: Path, *, small: bool = False) -> list[str]:
    """The lines of the measured section: the plots, then card by card and suite by suite."""
    found = results(folder, small=small)
    if not any(one["rows"] for one in found):
        return [NOT_MEASURED]
    lines: list[str] = []
    for card in dict.fromkeys(one["card"] for one in found):
        lines += ["", f"### {card}"] if lines else [f"### {card}"]
        for suite, render in SUITES.items():
            for one in found:
                if one["card"] == card and one["suite"] == suite and one["rows"]:
                    lines += ["", f"`{suite}`: {measured_on(one)}", "", *render(one)]
    lines += ["", *(f"![{title}](bench/results/gpu/{name})" for name, title, _ in drawn(found))]
    return lines


def plots(folder: Path, *, small: bool = False) -> dict[str, str]:
    """Every plot's SVG by its file name."""
    return {name: svg for name, _, svg in drawn(results(folder, small=small))}


def measured_on(one: Result) -> str:
    """Card, software and day, and whether the suite came to its end."""
    ended = "" if one["ended"] == "whole" else f"; it ended early ({one['ended']})"
    versions = f"driver {one['driver']}, torch {one['torch']}, diffusers {one['diffusers']}"
    return f"measured on {one['card']}, {versions}, {one['date']}{ended}."


def i2vgen(one: Result) -> list[str]:
    """A table for each precision and size, and the chunk sizes."""
    lines = [
        "Smaller cards are this one with torch's memory and the planner's probe capped together, the context counted;",
        "the chip's speed is this card's. Diffusers runs in its own defaults; *from* is the smallest card it ran on.",
        "Latents are compared after the same steps from the same noise. With random weights and a guidance of 9",
        "rounding grows from step to step: diffusers' own float16 is as far from float32 as ours.",
    ]
    columns = "peak allocated, GiB | reserved | device | s a step | x stock | decode, s | from stock | from float32"
    rows = [row for row in one["rows"] if row["who"] not in ("", "chunks")]
    for group in _groups(rows):
        first = group[0]
        lines += ["", f"| {size_of(first)}, {first['precision']} | card | {columns} |", "|---" * 10 + "|"]
        lines += [_i2vgen_row(row) for row in group]
    chunks = [row for row in one["rows"] if row["who"] == "chunks"]
    if chunks:
        first = chunks[0]
        lines += ["", f"| chunks, {size_of(first)}, {first['precision']} | peak allocated, GiB | reserved | s a step |"]
        lines += ["|---|---|---|---|"]
    for row in chunks:
        name = f"{row['chunk_frames'] or 'all'} frames, {row['chunk_pixels'] or 'all'} pixels"
        cells = _peaks(row["peak"])[:2] if not row["error"] else [row["error"], "-"]
        lines.append(f"| {name} | {' | '.join(cells)} | {number(row['seconds_per_step'], 3)} |")
    return lines


def _i2vgen_row(row: Row) -> str:
    who = row["who"] if "plan" not in row else plan_of(row["plan"])
    if row["error"] and "peak" not in row:
        return f"| {who} | {cards_of(row)} | {row['error']}: {row['short_bytes'] / GIB:.2f} GiB short |" + " - |" * 7
    peaks = _peaks(row["peak"]) if not row["error"] else [row["error"], "-", "-"]
    cells = [
        *peaks,
        number(row["seconds_per_step"], 3),
        number(row["ratio_to_stock"], 2),
        number(row["decode_seconds"], 1),
        _error(row["from_stock"]),
        _error(row["from_float32"]),
    ]
    return f"| {who} | {cards_of(row)} | {' | '.join(cells)} |"


def planner(one: Result) -> list[str]:
    """The worst cases, then each card's chosen plan, predicted and measured."""
    summary = one["notes"].get("summary") or {}
    memory, times = summary.get("memory_measured_to_predicted"), summary.get("time_measured_to_predicted")
    lines = ["| measured to predicted | least | most |", "|---|---|---|"]
    for name, pair in (("memory, reserved and context", memory), ("time of a job", times)):
        lines.append(f"| {name} | {' | '.join(number(value, 3) for value in pair or (None, None))} |")
    worst = summary.get("worst_regret")
    regret = "-" if worst is None else f"{100 * worst:.1f} %"
    lines += ["", f"Slower than the fastest plan that the card holds, at worst: {regret}."]
    lines += ["", "| job | card | plan | predicted, GiB | measured | predicted, s a job | measured |", "|---" * 7 + "|"]
    for row in one["rows"]:
        if row["kind"] != "memory":
            continue
        job = f"{size_of(row)}, {row['precision']}"
        if row["error"]:
            lines.append(f"| {job} | {cards_of(row)} | {row['error']} | - | - | - | - |")
            continue
        held = [f"{row[name] / GIB:.2f}" for name in ("predicted_peak_bytes", "measured_peak_bytes")]
        took = [number(row[name], 1) for name in ("predicted_seconds", "job_seconds")]
        lines.append(f"| {job} | {cards_of(row)} | {plan_of(row['plan'])} | {' | '.join([*held, *took])} |")
    return lines


def heal(one: Result) -> list[str]:
    """What was taken when, and what became of the run."""
    lines = ["What is computed otherwise is rounded otherwise, which grows as above.", ""]
    lines += ["| memory taken in | rungs | steps made, of | latents off by | frames off by, of 255 |", "|---" * 5 + "|"]
    for row in one["rows"]:
        if "phase" in row:
            rungs = "; ".join(plan_of(rung["plan"]) for rung in row["healed"]) or "none"
            made = f"{row['steps_made']}, {row['steps']}"
            off = f"{_error(row['latents_difference'])} | {number(row['frames_largest_difference'], 0)}"
            lines.append(f"| {row['phase']} | {rungs} | {made} | {off} |")
    return lines


def probe(one: Result) -> list[str]:
    """Free memory by NVML and by torch, and the other process."""
    lines = ["| moment | NVML free, GiB | torch free, GiB |", "|---|---|---|"]
    for row in one["rows"]:
        free = [row["nvml_free_bytes"], row["torch_free_bytes"]]
        lines.append(f"| {row['case']} | {' | '.join('-' if b is None else f'{b / GIB:.2f}' for b in free)} |")
    other = next((row for row in one["rows"] if "named" in row), None)
    if other is not None:
        name = other["named"]["name"] if other["named"] else None
        lines += ["", f"The other process is named as {name}." if name else "The other process is not named."]
    return lines


def limits(one: Result) -> list[str]:
    """Shares of the ceilings by phase, and the largest items of the slowest step."""
    lines = ["| job | plan | phase | seconds | TFLOP/s | of the matrix rate | of the floor |", "|---" * 7 + "|"]
    for row in one["rows"]:
        for phase in ("denoise", "decode"):
            if found := row.get(phase):
                shares = f"{100 * found['share_of_matrix_rate']:.0f} % | {100 * found['share_of_floor']:.0f} %"
                rate = f"{found['seconds']:.3f} | {found['flops_per_second'] / 1e12:.1f} | {shares}"
                lines.append(f"| {size_of(row)}, {row['precision']} | {plan_of(row['plan'])} | {phase} | {rate} |")
    profiled = next((row for row in one["rows"] if row["case"] == "profile"), None)
    if profiled is not None:
        lines += ["", f"| slowest step, {size_of(profiled)}: largest items | share | worth at most, s a job |"]
        lines += ["|---|---|---|"]
        for item in profiled["items"][:3]:
            worth = f"{100 * item['share']:.0f} % | {item['worth_seconds_of_a_job']:.1f}"
            lines.append(f"| `{item['name'].replace('|', '/')[:80]}` | {worth} |")
    return lines


def hunyuan(one: Result) -> list[str]:
    """A table for each size: ours on cards of several sizes, diffusers on the whole card."""
    one = {**one, "rows": [row for row in one["rows"] if row["who"]]}
    lines = [
        "Ours ran whole, sentence, steps and decoding, with torch's memory capped as on a card of that size, the",
        "context counted; diffusers had the whole card. Random weights at full size; the sentence has all 256 tokens.",
    ]
    columns = "predicted, GiB | reserved and context | encode, s | s a step | x stock | decode, s | from stock"
    for group in _groups(one["rows"]):
        first = group[0]
        lines += ["", f"| {size_of(first)}, {first['precision']} | card | {columns} |", "|---" * 9 + "|"]
        lines += [_hunyuan_row(row, one["context_bytes"]) for row in group]
    return lines


def _hunyuan_row(row: Row, context_bytes: int) -> str:
    who = row["who"]
    if plan := row.get("plan"):
        tokens = f"tokens {plan['chunk_tokens']}" if plan["chunk_tokens"] else "whole"
        who = f"ours: {plan['offload']}, {tokens}, decode {plan['decode_frames'] or 'whole'}"
    if row["error"]:
        return f"| {who} | {cards_of(row)} | {row['error']} |" + " - |" * 6
    held = max(row[name]["reserved_bytes"] for name in ("encode", "peak") if row.get(name))
    predicted = row.get("predicted_peak_bytes")
    cells = [
        number(predicted and predicted / GIB, 2),
        number((held + context_bytes) / GIB, 2),
        number(row.get("encode_seconds"), 1),
        number(row["seconds_per_step"], 2),
        number(row.get("ratio_to_stock"), 2),
        number(row["decode_seconds"], 1),
        _error(row.get("from_stock")),
    ]
    return f"| {who} | {cards_of(row)} | {' | '.join(cells)} |"


def families(one: Result) -> list[str]:
    """The worst cases, then every model on every card."""
    summary = one["notes"].get("summary") or {}
    lines = [
        "Each model at full size, bfloat16, random weights, the plan that was chosen for a card of that size, torch's",
        "memory capped as there. A whole sentence, two or three steps of each part, all frames decoded; predictions",
        "without corrections. The chip's speed is this card's.",
        "",
        "| measured to predicted | least | most |",
        "|---|---|---|",
    ]
    for name, pair in (("memory, reserved and context", "memory"), ("time of a job", "time")):
        values = summary.get(f"{pair}_measured_to_predicted") or (None, None)
        lines.append(f"| {name} | {' | '.join(number(value, 3) for value in values)} |")
    columns = "predicted, GiB | measured | predicted, s a job | measured | of it denoising, predicted | measured"
    lines += ["", f"| model | card | weights | {columns} |", "|---" * 9 + "|"]
    for row in one["rows"]:
        model = f"{row['family']}, {size_of(row)}"
        if row["error"]:
            lines.append(f"| {model} | {cards_of(row)} | {row['error']} |" + " - |" * 6)
            continue
        held = [number(row[name] / GIB, 2) for name in ("predicted_peak_bytes", "measured_peak_bytes")]
        took = [number(row[name], 0) for name in ("job_predicted_seconds", "job_seconds")]
        denoised = [number(row[name]["denoise"], 0) for name in ("predicted_seconds", "measured_seconds")]
        cells = " | ".join([row["plan"]["offload"], *held, *took, *denoised])
        lines.append(f"| {model} | {cards_of(row)} | {cells} |")
    return lines


def autoencoders(one: Result) -> list[str]:
    """Time and memory of each way, and how far its frames are from those of float32."""
    lines = ["A few frames by diffusers' own module, random weights; plans of half precision allow TensorFloat-32.", ""]
    lines += ["| autoencoder of | latents | in | seconds | beside weights, GiB | from float32 |", "|---" * 6 + "|"]
    for row in one["rows"]:
        size = "x".join(map(str, row["latents"]))
        cells = [number(row["seconds"], 2), number(row["extra_bytes"] / GIB, 2), _error(row["from_float32"])]
        lines.append(f"| {row['family']} | {size} | {row['way']} | {' | '.join(cells)} |")
    return lines


def convolutions(one: Result) -> list[str]:
    """Each shape: what is held beside by layout, in shares of a copy of input, weights and output, and the rates."""
    lines = ["| convolution | a copy of all, MiB | held beside it, channels first | last | TFLOP/s, first | last |"]
    lines += ["|---" * 6 + "|"]
    by_shape: dict[str, dict[str, Row]] = {}
    for row in one["rows"]:
        shape, _, layout = row["case"].rpartition(", ")
        by_shape.setdefault(shape, {})[layout] = row
    for shape, layouts in by_shape.items():
        rows = [layouts[name] for name in ("channels first", "channels last") if name in layouts]
        copied = sum(rows[0][name] for name in ("input_bytes", "weight_bytes", "output_bytes"))
        held = " | ".join(f"{row['beside_bytes'] / copied:.2f}" for row in rows)
        rates = " | ".join(f"{row['flops_per_second'] / 1e12:.0f}" for row in rows)
        lines.append(f"| {shape} | {copied / 2**20:.0f} | {held} | {rates} |")
    return lines


def nano(one: Result) -> list[str]:
    """What was trained."""
    row = one["rows"][-1]
    if row["error"]:
        return [f"Not trained: {row['error']}."]
    size = f"{row['parameters'] / 1e6:.1f} million parameters, channels {row['channels']}"
    loss = f", loss {row['losses'][-1][2]} at step {row['losses'][-1][0]}" if row["losses"] else ""
    return [f"{size}, {row['minutes']:.1f} minutes{loss}."]


SUITES: dict[str, Callable[[Result], list[str]]] = {
    "i2vgen": i2vgen,
    "planner": planner,
    "heal": heal,
    "limits": limits,
    "hunyuan": hunyuan,
    "families": families,
    "autoencoders": autoencoders,
    "convolutions": convolutions,
    "probe": probe,
    "nano": nano,
}


def drawn(found: Sequence[Result]) -> list[tuple[str, str, str]]:
    """File name, title and SVG of every plot: peak against size, and for each size the time of a step against the card.

    In the first precision of a card's runs; the file's name begins with the card's."""
    made = []
    for one in found:
        rows = [row for row in one["rows"] if one["suite"] == "i2vgen" and row["who"] not in ("", "chunks")]
        rows = [
            row for row in rows if not row["error"] and row["seconds_per_step"] and row["precision"] == _first(rows)
        ]
        if not rows:
            continue
        card = "-".join(one["card"].lower().split())
        title = f"Peak reserved, GiB, by size ({one['card']}, {rows[0]['precision']})"
        made.append((f"{card}-peak.svg", title, line_plot(title, *_peak_by_size(rows))))
        for group in _groups(rows):
            size = size_of(group[0])
            title = f"Seconds a step by card, {size} ({one['card']} capped, {rows[0]['precision']})"
            name = f"{card}-time-{group[0]['width']}x{group[0]['height']}x{group[0]['frames']}.svg"
            made.append((name, title, line_plot(title, *_time_by_card(group, one["notes"]["caps_bytes"]))))
    return made


def _peak_by_size(rows: Sequence[Row]) -> tuple[list[str], list[Series]]:
    """A line for each way of diffusers, and for ours the plan of each card."""
    sizes = [size_of(group[0]) for group in _groups(rows)]
    lines: dict[str, dict[str, float]] = {}
    for row in rows:
        for name in [row["who"]] if "plan" not in row else [f"ours, {card}" for card in card_names(row)]:
            lines.setdefault(name, {})[size_of(row)] = row["peak"]["reserved_bytes"] / GIB
    return sizes, [Series(name, [values.get(size) for size in sizes]) for name, values in lines.items()]


def _time_by_card(rows: Sequence[Row], caps: Sequence[int]) -> tuple[list[str], list[Series]]:
    """Ours where a plan fits, diffusers from the smallest card it ran on. Times were taken on the card's own plan for
    ours, on the whole card for diffusers."""
    lines: dict[str, list[float | None]] = {}
    for row in rows:
        values = lines.setdefault(row["who"], [None] * len(caps))
        for index, cap in enumerate(caps):
            least = row.get("runs_in_bytes")
            if cap in row.get("caps_bytes", ()) or (least is not None and cap >= least):
                values[index] = row["seconds_per_step"]
    return [card_name(cap) for cap in caps], [Series(name, values) for name, values in lines.items()]


def _first(rows: Sequence[Row]) -> str:
    return rows[0]["precision"]


def _groups(rows: Iterable[Row]) -> list[list[Row]]:
    """By precision and size, in the order of the file."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["precision"], row["width"], row["height"], row["frames"]), []).append(row)
    return list(groups.values())


def size_of(row: Row) -> str:
    """512x512, 16 frames"""
    return f"{row['width']}x{row['height']}, {row['frames']} frames"


def plan_of(plan: Row) -> str:
    """A plan in a few words."""
    chunks = f"chunks {plan['chunk_frames']}/{plan['chunk_pixels']}" if plan["chunk_frames"] else "whole"
    return f"{plan['offload']}, {plan['cfg']}, {chunks}, decode {plan['decode_frames']}"


def card_name(cap: int) -> str:
    """A card by its size; 0 and None are all of it."""
    return f"{cap / GIB:.3g} GiB" if cap else "all"


def card_names(row: Row) -> list[str]:
    """Every card that a plan was chosen for, the smallest first."""
    return [card_name(cap) for cap in sorted(row["caps_bytes"], key=lambda cap: cap or float("inf"))]


def cards_of(row: Row) -> str:
    """The cards that a row speaks of."""
    if row.get("caps_bytes"):
        return ", ".join(card_names(row))
    if row.get("runs_in_bytes"):
        return f"from {card_name(row['runs_in_bytes'])}"
    return card_name(row.get("cap_bytes") or 0)


def number(value: float | None, digits: int) -> str:
    """A figure, or - where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def _peaks(peak: Row) -> list[str]:
    return [f"{peak[name] / GIB:.2f}" for name in ("allocated_bytes", "reserved_bytes", "device_bytes")]
