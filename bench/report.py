"""Writes the tables of README_OPTIMIZATION.md from bench/results/*.json.

    python -m bench.report           # rewrite the tables
    python -m bench.report --check   # exit 1 if the document and the results disagree

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. What `python -m bench.gpu` measured stands where NAME
is `gpu`; its results and plots lie in bench/results/gpu.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.gpu import tables
from i2v.families import SPECS

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "README_OPTIMIZATION.md"
RESULTS = Path(__file__).parent / "results"
GPU = RESULTS / "gpu"


def unet_memory(result: dict[str, Any]) -> list[str]:
    """Activations by size: stock with guidance in one batch and split, and exact chunks with guidance split."""
    peaks = {
        (row["side"], row["frames"], row["cfg"], row["chunk_frames"], row["chunk_pixels"]): row["gib"]
        for row in result["rows"]
    }
    chunks = sorted({key[3:] for key in peaks if key[3]}, reverse=True)
    head = [
        "stock, one batch",
        "stock, two passes",
        *(f"{frames} frames, {pixels} pixels" for frames, pixels in chunks),
    ]
    lines = [f"| one UNet call, GiB (computed) | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for side, frames in sorted({key[:2] for key in peaks}):
        stock = [peaks[side, frames, cfg, 0, 0] for cfg in ("batch", "split")]
        ours = [peaks[side, frames, "split", *chunk] for chunk in chunks]
        cells = " | ".join(f"{gib:.2f}" for gib in (*stock, *ours))
        lines.append(f"| {side}x{side}, {frames} frames | {cells} |")
    return lines


def busy_machine(result: dict[str, Any]) -> list[str]:
    """Seconds per step of a small model, default waiting against the worker's, quiet and busy."""
    lines = [f"| seconds per step, {result['cores']} cores (measured) | mean | worst |", "|---|---|---|"]
    for name in ("quiet", "busy"):
        for setting, times in result[name].items():
            lines.append(f"| {name}, {setting} | {sum(times) / len(times):.2f} | {max(times):.2f} |")
    return lines


SHOWN = ((512, 512, 16), (768, 512, 16), (768, 768, 16), (1280, 704, 16), (1024, 1024, 28))
CARDS = ("GTX 1660 Ti", "RTX 3050", "RTX 3060", "RTX 4060", "RTX 4070", "RTX 3090", "RTX 4090", "A100")


def plan_table(result: list[dict[str, Any]]) -> list[str]:
    """I2VGen-XL by card and size: the peak of the plan that is chosen and its time, or that nothing fits."""
    rows = [row for row in result if row["model"] == "i2vgen_xl" and row["card"] in CARDS]
    cells = {(row["card"], row["width"], row["height"], row["frames"]): _cell(row) for row in rows}
    heads = [f"{width}x{height}, {frames}" for width, height, frames in SHOWN]
    lines = [f"| card (predicted) | {' | '.join(heads)} |", "|---" * (len(SHOWN) + 1) + "|"]
    lines += [f"| {card} | {' | '.join(cells[card, *job] for job in SHOWN)} |" for card in CARDS]
    return lines


def _cell(row: dict[str, Any]) -> str:
    if row["verdict"] == "wont_fit":
        return "-"
    minutes, seconds = divmod(row["seconds"], 60)
    return f"{row['peak_gib']:.1f} GiB, {minutes}:{seconds:02d}"


def eight_bits(result: dict[str, Any]) -> list[str]:
    """What each storage of the denoiser's weights weighs, and its error against float32."""
    lines = ["| weights | I2VGen-XL's UNet (computed) | latents off by | frames, PSNR |", "|---|---|---|---|"]
    for row in result["rows"]:
        name = row["precision"] if row["weights"] == "full" else f"{row['weights']}, computed in {row['precision']}"
        error = f"{100 * row['latents_error']:.1f} %"
        lines.append(f"| {name} | {row['i2vgen_xl_unet_gib']:.2f} GiB | {error} | {row['psnr_db']:.1f} dB |")
    return lines


def quantised(result: dict[str, Any]) -> list[str]:
    """What each way of storing weights weighs, how far it is off, and whether it streams and is foretold."""
    whole = result["whole_mib"]
    lines = [
        f"| weights | a block ({whole:.0f} MiB in float32) | the block off by | a step off by | streams | foretold |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        errors = " | ".join(f"{100 * row[name]:.2f} %" for name in ("block_off", "step_off"))
        answers = " | ".join("yes" if row[name] else "no" for name in ("streams", "foretold"))
        lines.append(f"| {row['way']} | {row['block_mib']:.1f} MiB | {errors} | {answers} |")
    return lines


def streamed_memory(result: dict[str, Any]) -> list[str]:
    """A whole run of I2VGen-XL by size and chunks, staged and streamed; and the fastest plan for a little memory."""
    lines = ["| a whole run, GiB (computed) | chunks | staged | streamed |", "|---|---|---|---|"]
    for row in result["rows"]:
        chunks = f"{row['chunk_frames']} frames, {row['chunk_pixels']} pixels"
        size = f"{row['side']}x{row['side']}, {row['frames']} frames"
        lines.append(f"| {size} | {chunks} | {row['staged_gib']:.2f} | {row['streamed_gib']:.2f} |")
    lines += [
        "",
        "| the fastest plan, RTX 3060 (predicted) | free | how | holds at most | time |",
        "|---|---|---|---|---|",
    ]
    for one in result["fastest"]:
        minutes, seconds = divmod(one["seconds"], 60)
        size = f"{one['side']}x{one['side']}, {one['frames']} frames"
        how = f"{one['offload']}, {one['kept_gib']:.2f} GiB of blocks stay" if one["kept_gib"] else one["offload"]
        lines.append(
            f"| {size} | {one['free_gib']} GiB | {how} | {one['peak_gib']:.2f} GiB | {minutes}:{seconds:02d} |"
        )
    return lines


def hunyuan_memory(result: dict[str, Any]) -> list[str]:
    """HunyuanVideo's runs by size: as diffusers' blocks run, and on the rungs that hold less."""
    lines = [
        "| a run of HunyuanVideo, GiB (computed) | tokens, frames at once | text | denoise | decode | needs | others |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        size = f"{row['width']}x{row['height']}, {row['frames']} frames"
        chunks = f"{row['chunk_tokens'] or 'all'}, {row['decode_frames'] or 'all'}"
        phases = " | ".join(f"{row['phases_gib'][name]:.2f}" for name in ("text", "denoise", "decode"))
        others = result["others_gib"][f"{row['width']}x{row['height']}x{row['frames']}"] or ""
        lines.append(f"| {size} | {chunks} | {phases} | {row['needs_gib']:.2f} | {others} |")
    return lines


def vae_windows(result: dict[str, Any]) -> list[str]:
    """Windows of HunyuanVideo's autoencoder: what they hold, and how far their picture is from the own one."""
    lines = [
        "| window, latents | decoding holds | encoding holds | decoding's work | latents off by | frames, PSNR |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        name = row["window"]
        marked = f"**{name}**" if name in result["offered"] else name
        if "psnr_db" in row:
            differs = f"{100 * row['latents_error']:.1f} % | {row['psnr_db']:.1f} dB"
        else:
            marked, differs = f"{name}, the own one", "nothing | the same"
        held = f"{row['decode_gib']:.2f} GiB | {row['encode_gib']:.2f} GiB | {row['decode_work']:.2f}"
        lines.append(f"| {marked} | {held} | {differs} |")
    return lines


def families(result: dict[str, Any]) -> list[str]:
    """The large models at full size: the least that has to be free, and what three cards make of them."""
    cards = [one["card"] for one in result["rows"][0]["cards"]]
    lines = [
        f"| model, size (computed) | needs, GiB | others, GB | RAM, GiB | {' | '.join(cards)} |",
        "|---|---|---|---|" + "---|" * len(cards),
    ]
    for row in result["rows"]:
        case = row["case"]
        size = f"{SPECS[case['family']].title}, {case['width']}x{case['height']}, {case['frames']} frames"
        on = " | ".join(_on_card(one) for one in row["cards"])
        lines.append(f"| {size} | **{row['needs_gib']:.2f}** | {case['others_gib']} | {row['ram_gib']:.0f} | {on} |")
    return lines


def _on_card(one: dict[str, Any]) -> str:
    """One plan in a few words: its time, and what holds it back."""
    if one["verdict"] == "wont_fit":
        return "won't fit"
    back = f", held back by {one['held_back_by']}" if one["held_back_by"] else ""
    disk = f", {one['read_again_gib']:.0f} GiB read in each step" if one["read_again_gib"] else ""
    return f"{one['minutes']:.0f} min, {one['offload']}{back}{disk}"


def offloads(result: dict[str, Any]) -> list[str]:
    """A step of Wan's transformer: ours, and diffusers' group offload."""
    lines = ["| a step of a small Wan (metered) | on the card at most | apart from all on the card |", "|---|---|---|"]
    return [*lines, *(f"| {row['way']} | {row['peak_mib']:.0f} MiB | {row['apart']:.0e} |" for row in result["rows"])]


def wan_vae(result: dict[str, Any]) -> list[str]:
    """Wan's autoencoder in strips of rows, and as diffusers has it."""
    lines = [
        "| Wan's autoencoder (computed) | rows at once | decoding holds, GiB | work | encoding holds, GiB | work |",
        "|---|---|---|---|---|---|",
    ]
    ways: dict[tuple[str, Any], dict[str, Any]] = {}
    for row in result["rows"]:
        ways.setdefault((row["clip"], row["rows"]), {})[row["way"]] = row
    for (clip, rows), both in ways.items():
        found = (f"{both[way]['on_card_gib']:.2f} | {both[way]['work']:.2f}" for way in ("decode", "encode"))
        lines.append(f"| {clip} | {rows} | {' | '.join(found)} |")
    return lines


TABLES: dict[str, Callable[[Any], list[str]]] = {
    "unet_memory": unet_memory,
    "eight_bits": eight_bits,
    "quantised": quantised,
    "busy_machine": busy_machine,
    "plan_table": plan_table,
    "streamed_memory": streamed_memory,
    "hunyuan_memory": hunyuan_memory,
    "vae_windows": vae_windows,
    "families": families,
    "wan_vae": wan_vae,
    "offloads": offloads,
}


def render(document: str) -> str:
    """The document with every table made anew from its result file."""

    def table(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "gpu":
            return "\n".join([f"<!-- table: {name} -->", *tables.document(GPU), "<!-- end -->"])
        path = RESULTS / f"{name}.json"
        if not path.exists():
            lines = ["Not computed yet."]
        else:
            lines = TABLES[name](json.loads(path.read_text(encoding="utf-8")))
        return "\n".join([f"<!-- table: {name} -->", *lines, "<!-- end -->"])

    return re.sub(r"<!-- table: (\w+) -->.*?<!-- end -->", table, document, flags=re.DOTALL)


def stale_plots(folder: Path) -> dict[Path, str]:
    """The plots of the results in `folder` whose files are not as they should be, with what they should be."""
    wanted = {folder / name: svg for name, svg in tables.plots(folder).items()}
    return {path: svg for path, svg in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != svg}


def main(arguments: list[str]) -> int:
    document = DOCUMENT.read_text(encoding="utf-8")
    rendered, stale = render(document), stale_plots(GPU)
    if "--check" in arguments:
        differs = rendered != document or bool(stale)
        if differs:
            print("README_OPTIMIZATION.md or its plots do not match bench/results; run: python -m bench.report")
        return int(differs)
    DOCUMENT.write_text(rendered, encoding="utf-8")
    for path, svg in stale.items():
        path.write_text(svg, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
