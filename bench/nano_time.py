"""How long nano takes: with the model loaded, phase by phase, and from the command line.

    python -m bench.nano_time [--side 512 --frames 96 --steps 25 --threads 2]

Names the processor and its instruction sets, since these decide how fast a step is, then times the default job. Prints
a table; exit code 1 when the best run with the model loaded, or from the command line, is above its target.
Both are the best of --runs, since another program's minute is not the model's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from i2v.families.base import Inputs
from i2v.families.nano.model import load
from i2v.families.nano.spec import SPEC
from i2v.memory.card import HostCard
from i2v.plan import Plan
from i2v.request import GenerationRequest

CPUINFO = Path("/proc/cpuinfo")
# What the arithmetic of a step can use, by the kernel's names for it.
INSTRUCTIONS = {"avx2": "avx2", "avx512": "avx512f", "avx512 bf16": "avx512_bf16", "amx bf16": "amx_bf16"}
LOADED_SECONDS = 20.0
COMMAND_LINE_SECONDS = 30.0
ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "i2v" / "assets" / "nano"
DEFAULTS = SPEC.defaults
PROMPT = "slow zoom in while the water ripples"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--side", type=int, default=DEFAULTS.width)
    parser.add_argument("--frames", type=int, default=DEFAULTS.num_frames)
    parser.add_argument("--steps", type=int, default=DEFAULTS.num_inference_steps)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--guidance", type=float, default=DEFAULTS.guidance_scale, help="above 1 takes twice as long")
    parser.add_argument("--runs", type=int, default=2)
    args = parser.parse_args()
    print(processor(CPUINFO.read_text(encoding="utf-8") if CPUINFO.is_file() else ""))
    torch.set_num_threads(args.threads)
    began = time.perf_counter()
    model = load(args.model, torch.float32)
    print(f"load {time.perf_counter() - began:.2f} s, {args.threads} threads, torch {torch.__version__}\n")
    noise = np.random.default_rng(0).integers(0, 255, (args.side // 8, args.side // 8, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((args.side, args.side), Image.Resampling.BICUBIC)
    request = GenerationRequest(
        model="nano", prompt=PROMPT, width=args.side, height=args.side,
        num_frames=args.frames, fps=DEFAULTS.fps, num_inference_steps=args.steps, guidance_scale=args.guidance, seed=1,
    )  # fmt: skip
    print(f"{args.side} x {args.side}, {args.frames} frames, {args.steps} steps, guidance {args.guidance:g}\n")
    print("| seconds | encode | denoise | decode | together | target |\n|---|---|---|---|---|---|")
    timed, loaded, whole = [], [], []
    for run in range(args.runs):
        phases = timed_run(model, request, picture)
        timed.append(phases)
        loaded.append(sum(phases))
        cells = " | ".join(f"{seconds:.2f}" for seconds in (*phases, loaded[-1]))
        print(f"| loaded, run {run + 1} | {cells} | {LOADED_SECONDS:g} |", flush=True)
    best = timed[loaded.index(min(loaded))]
    print(f"| a step, a frame | | {best[1] / args.steps:.3f} | {best[2] / args.frames:.3f} | | |")
    for run in range(args.runs):
        whole.append(command_line(picture, args))
        print(f"| command line, run {run + 1} | | | | {whole[-1]:.2f} | {COMMAND_LINE_SECONDS:g} |", flush=True)
    return int(min(loaded) > LOADED_SECONDS or min(whole) > COMMAND_LINE_SECONDS)


def processor(cpuinfo: str) -> str:
    """Its name, how many cores the system counts and the instruction sets that matter here, from /proc/cpuinfo."""
    lines = [line.partition(":") for line in cpuinfo.splitlines()]
    names = [value.strip() for key, _, value in lines if key.strip() == "model name"]
    flags = {flag for key, _, value in lines if key.strip() in ("flags", "Features") for flag in value.split()}
    known = [name for name, flag in INSTRUCTIONS.items() if flag in flags]
    missing = [name for name in INSTRUCTIONS if name not in known]
    if not names:
        return "processor not known"
    told = f"has {', '.join(known) or 'none of these'}" + (f"; not {', '.join(missing)}" if missing else "")
    return f"{names[0]}, {len(names)} cores; {told}"


def command_line(picture: Image.Image, args: argparse.Namespace) -> float:
    """Seconds from the command to its finished file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        picture.save(path)
        command = [
            sys.executable, "-m", "i2v", "generate", "--model", str(args.model), "--image", path, "--prompt", PROMPT,
            "--width", str(args.side), "--height", str(args.side), "--frames", str(args.frames),
            "--steps", str(args.steps), "--guidance", str(args.guidance), "--seed", "1", "--out", folder, "--cpu",
        ]  # fmt: skip
        began = time.perf_counter()
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - began


@torch.no_grad()
def timed_run(model, request: GenerationRequest, picture: Image.Image) -> tuple[float, float, float]:
    """Seconds of encode, denoise and decode."""
    card, plan, conditioning = HostCard(), Plan(), {}
    marks = [time.perf_counter()]
    for stage in model.encode_stages(request, Inputs({0: picture}), plan):
        stage.run(card, conditioning)
    marks.append(time.perf_counter())
    latents = model.prepare(request, plan, conditioning)
    for index in range(request.num_inference_steps):
        latents = model.denoise_step(card, conditioning, latents, index, request, plan).latents
    marks.append(time.perf_counter())
    for _frame in model.decode(card, conditioning, latents, request, plan):
        pass
    marks.append(time.perf_counter())
    return marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2]


if __name__ == "__main__":
    raise SystemExit(main())
