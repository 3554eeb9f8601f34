"""What a busy machine costs the worker: a small model's steps on all cores while other programs keep them busy.

    python -m bench.busy_machine

The same step runs in fresh processes with the default wait of the computing threads and with the worker's, on
a quiet machine and on a busy one. Prints a table, writes bench/results/busy_machine.json, exits 1 when the worker's
setting is slower by more than half on either. How much it wins on a busy one is chance: it depends on where the system
puts the other programs, so the mean and the worst of several processes are shown.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from i2v.jobs.process.child import worker_environment
from tests.checkpoints import build_checkpoint

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
latents = model.prepare(request, plan, {})
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
PROCESSES = 5


def seconds(environment: dict[str, str], checkpoint: Path) -> list[float]:
    """How long a step takes, in several processes one after the other, each the mean of four."""
    command = [sys.executable, "-c", STEPS, str(checkpoint)]
    runs = [subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True) for _ in range(PROCESSES)]
    return [float(run.stdout) for run in runs]


def measure(checkpoint: Path, plain: dict[str, str], ours: dict[str, str], result: dict[str, Any]) -> None:
    """Fill `result` with the seconds per step, quiet and busy."""
    print(f"{'seconds per step':>16} {'mean':>7} {'worst':>7}")
    for name in ("quiet", "busy"):
        others = [
            subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count() if name == "busy" else 0)
        ]
        try:
            both = {"default": seconds(plain, checkpoint), "worker": seconds(ours, checkpoint)}
            result[name] = both
        finally:
            for other in others:
                other.kill()
                other.wait()
        for setting, times in both.items():
            print(f"{name:>8} {setting:>7} {mean(times):>7.2f} {max(times):>7.2f}", flush=True)


def main() -> int:
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("GOMP_", "OMP_"))}
    ours = worker_environment("", plain)
    result = {"cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        measure(build_checkpoint(Path(folder) / "small"), plain, ours, result)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result) + "\n")
    slower = [mean(result[name]["worker"]) > 1.5 * mean(result[name]["default"]) for name in ("quiet", "busy")]
    return int(any(slower))


if __name__ == "__main__":
    sys.exit(main())
