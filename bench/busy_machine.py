"""What a busy machine costs the worker: a small model's steps on all cores while other programs keep them busy.

    python -m bench.busy_machine

The same step runs in fresh processes with the default wait of the computing threads and with the worker's, on
a quiet machine and on a busy one. Prints a table, writes bench/results/busy_machine.json, exits 1 when the worker's
setting does not win threefold on a busy machine, or costs more than half on a quiet one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from i2v.families.i2vgen_xl.checkpoints import build_checkpoint
from i2v.jobs.child import worker_environment

RESULTS = Path(__file__).parent / "results" / "busy_machine.json"
STEPS = """
import sys, time, torch
from pathlib import Path
from i2v.families.i2vgen_xl.model import load
from i2v.memory.card import HostCard
from i2v.plan import Plan
from i2v.request import GenerationRequest
request = GenerationRequest(model="small", prompt="a rose", width=96, height=96, num_frames=8, fps=8,
                            num_inference_steps=4, guidance_scale=6.0, seed=1)
plan, model, dim = Plan(cfg="split"), load(Path(sys.argv[1]), torch.float32), 32
latents = model.prepare(request, plan)
conditioning = {"prompt": torch.zeros(1, 77, dim), "negative": torch.zeros(1, 77, dim),
                "image_embeds": torch.zeros(1, 1, dim), "image_latents": torch.zeros_like(latents)}
torch.set_num_threads(max(2, torch.get_num_threads()))
with torch.no_grad():
    times = []
    for index in range(4):
        began = time.perf_counter()
        model.denoise_step(HostCard(), conditioning, latents, index, request, plan)
        times.append(time.perf_counter() - began)
print(sum(times) / len(times))
"""
BUSY = "while True: pass"


def seconds(environment: dict[str, str], checkpoint: Path) -> float:
    """How long a step takes in a process of its own, the mean of four."""
    command = [sys.executable, "-c", STEPS, str(checkpoint)]
    return float(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)


def measure(checkpoint: Path, plain: dict[str, str], ours: dict[str, str], result: dict[str, Any]) -> None:
    """Fill `result` with the seconds per step, quiet and busy."""
    print(f"{'':>6} {'default':>9} {'worker':>9}")
    for name in ("quiet", "busy"):
        others = [
            subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count() if name == "busy" else 0)
        ]
        try:
            result[name] = {"default_seconds": seconds(plain, checkpoint), "worker_seconds": seconds(ours, checkpoint)}
        finally:
            for other in others:
                other.kill()
                other.wait()
        print(f"{name:>6} {result[name]['default_seconds']:>8.2f}s {result[name]['worker_seconds']:>8.2f}s", flush=True)


def main() -> int:
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("GOMP_", "OMP_"))}
    ours = worker_environment("", plain)
    result = {"cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        measure(build_checkpoint(Path(folder) / "small"), plain, ours, result)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result) + "\n")
    quiet, busy = (row["worker_seconds"] / row["default_seconds"] for row in (result["quiet"], result["busy"]))
    return 0 if quiet < 1.5 and busy < 1 / 3 else 1


if __name__ == "__main__":
    sys.exit(main())
