"""What the engine costs on top of the arithmetic: events, memory samples, previews, chunk bookkeeping.

    python -m bench.engine_overhead

The same loaded model denoises the same request in the engine and in a bare loop, turn by turn; the median of
the turns' ratios counts. Prints a table, writes bench/results/engine_overhead.json, exits 1 beyond the target of 2 %.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from PIL import Image

from i2v.engine.engine import Engine
from i2v.events import Event, PhaseFinished
from i2v.families.base import Conditioning, Inputs
from i2v.families.i2vgen_xl.model import I2VGenXL, load
from i2v.memory.card import HostCard
from i2v.models.entry import ModelEntry
from i2v.plan import Plan
from i2v.request import GenerationRequest, first_image
from tests.checkpoints import Size, build_checkpoint

ROUNDS = 9
TARGET = 0.02
RESULTS = Path(__file__).parent / "results" / "engine_overhead.json"
REQUEST = GenerationRequest(
    model="mid", prompt="a rose", width=128, height=128, num_frames=8, fps=8, num_inference_steps=8,
    guidance_scale=6.0, seed=1, inputs=first_image("input.png"),
)  # fmt: skip
PLAN = Plan(cfg="split")


def bare_loop_seconds(model: I2VGenXL, picture: Image.Image) -> float:
    """The denoising of REQUEST with nothing around it."""
    card, conditioning = HostCard(), Conditioning()
    with torch.no_grad():
        for stage in model.encode_stages(REQUEST, Inputs({0: picture}), PLAN):
            stage.run(card, conditioning)
        latents = model.prepare(REQUEST, PLAN, conditioning)
        began = time.perf_counter()
        for index in range(REQUEST.num_inference_steps):
            latents = model.denoise_step(card, conditioning, latents, index, REQUEST, PLAN).latents
        return time.perf_counter() - began


def engine_seconds(engine: Engine, entry: ModelEntry, folder: Path) -> float:
    """The denoising of REQUEST as the app does it."""
    events: list[Event] = []
    for kept in folder.glob("*.safetensors"):  # from the beginning each time
        kept.unlink()
    engine.run(REQUEST, PLAN, entry=entry, job_folder=folder, emit=events.append, cancelled=lambda: False)
    return next(event.seconds for event in events if isinstance(event, PhaseFinished) and event.phase == "denoise")


def main() -> int:
    torch.set_num_threads(1)
    picture = Image.linear_gradient("L").convert("RGB").resize((REQUEST.width, REQUEST.height))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        picture.save(folder / "input.png")
        checkpoint = build_checkpoint(folder / "mid", Size(channels=(64, 128, 128, 128), text_dim=64))
        entry = ModelEntry("mid", "i2vgen_xl", "mid", checkpoint, None, True, 0, None)
        engine, model = Engine(), load(checkpoint, torch.float32)
        bare, ours = [], []
        print(f"{'round':>5} {'bare loop':>10} {'engine':>10}")
        for turn in range(ROUNDS):
            bare.append(bare_loop_seconds(model, picture))
            ours.append(engine_seconds(engine, entry, folder))
            print(f"{turn + 1:>5} {bare[-1]:>9.3f}s {ours[-1]:>9.3f}s", flush=True)
    overhead = median(mine / plain for mine, plain in zip(ours, bare, strict=True)) - 1
    print(f"Overhead: {overhead:.1%} (target: under {TARGET:.0%})")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"bare_seconds": bare, "engine_seconds": ours, "overhead": overhead}) + "\n")
    return 0 if overhead < TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
