"""How long nano takes, with the model loaded, phase by phase.

    python bench/nano_time.py --model i2v/assets/nano [--side 512 --frames 16 --steps 25 --threads 2]

Prints one line per run; the first run warms the caches and is shown apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from i2v.families.nano.model import load
from i2v.families.nano.spec import SPEC
from i2v.memory.card import HostCard
from i2v.plan import Plan
from i2v.request import GenerationRequest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--guidance", type=float, default=SPEC.defaults.guidance_scale, help="above 1 takes twice as long"
    )
    parser.add_argument("--runs", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    began = time.perf_counter()
    model = load(args.model, torch.float32)
    print(f"load {time.perf_counter() - began:.2f} s, {args.threads} threads, torch {torch.__version__}")
    noise = np.random.default_rng(0).integers(0, 255, (args.side // 8, args.side // 8, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((args.side, args.side), Image.Resampling.BICUBIC)
    request = GenerationRequest(
        model="nano", prompt="slow zoom in while the water ripples", width=args.side, height=args.side,
        num_frames=args.frames, fps=12, num_inference_steps=args.steps, guidance_scale=args.guidance, seed=1,
    )  # fmt: skip
    for run in range(args.runs):
        encode, denoise, decode = timed_run(model, request, picture)
        total = encode + denoise + decode
        print(
            f"run {run + 1}{' (warming up)' if run == 0 else ''}: encode {encode:.2f} s, denoise {denoise:.2f} s, "
            f"decode {decode:.2f} s, together {total:.2f} s"
        )
    return 0


@torch.no_grad()
def timed_run(model, request: GenerationRequest, picture: Image.Image) -> tuple[float, float, float]:
    """Seconds of encode, denoise and decode."""
    card, plan, conditioning = HostCard(), Plan(), {}
    marks = [time.perf_counter()]
    for stage in model.encode_stages(request, picture, plan):
        stage.run(card, conditioning)
    marks.append(time.perf_counter())
    latents = model.prepare(request, plan)
    for index in range(request.num_inference_steps):
        latents = model.denoise_step(card, conditioning, latents, index, request, plan).latents
    marks.append(time.perf_counter())
    for _frame in model.decode(card, conditioning, latents, request, plan):
        pass
    marks.append(time.perf_counter())
    return marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2]


if __name__ == "__main__":
    raise SystemExit(main())
