"""A model twice as large as the RAM it may have: it streams from its files, and its time is foretold.

    python -m bench.disk_streaming

Makes a Wan of 6 GiB of random weights (it needs as much free disk), nearly all in its feed-forward layers, so that a
processor computes a step in less time than its weights take to come. Measures disk and processor, and has the planner
say how that runs with 3 GiB of RAM: on a card simulated in them, and by the processor alone. So it is run in a process
whose control group may hold 3 GiB, pages of files included (`bench.memory_group`); and once without a cap, all of its
weights in RAM. Both must come to the same latents. Linux only. Where no control group may be made nothing caps the
pages of files, so there is nothing to prove, and it says so.
Writes bench/results/disk_streaming.json; exits 1 when latents differ, the cap is passed or the foretold time of
loading and denoising is off by more than a quarter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

from bench.host_memory import Meter
from bench.memory_group import MemoryGroup, memory_group
from i2v.dryrun.measure import measure
from i2v.dryrun.runner import DryRunner
from i2v.engine.checkpoint import LATENTS
from i2v.engine.engine import Engine
from i2v.events import Event, PhaseFinished, PhaseStarted, StepFinished
from i2v.families import SPECS
from i2v.hardware.disk import measured_read_rate
from i2v.jobs.asked.plans import FIXED_ON_PROCESSOR
from i2v.models.entry import ModelEntry
from i2v.models.mapped import mapped_components
from i2v.models.weight_files import readings
from i2v.plan import Plan, Prediction, everywhere
from i2v.planning.machine import Machine
from i2v.planning.planner import Planner
from i2v.request import GenerationRequest
from i2v.units import GIB
from tests.latents import load_latents
from tests.wan_checkpoints import build_wan

SPEC = SPECS["wan"]
CAP_BYTES = 3 * GIB
CARD_BYTES = GIB
RESIDENT = Plan(device="simulated", places=everywhere("resident"), memory_cap_bytes=16 * GIB)
OFF_BY = 0.25
SHARD_BYTES = GIB // 2
RAN = "ran.json"
RESULTS = Path(__file__).parent / "results" / "disk_streaming.json"
REQUEST = GenerationRequest(
    model="large", task="t2v", prompt="waves roll in", width=32, height=32, num_frames=1, fps=16,
    num_inference_steps=6, guidance_scale=1.0, seed=0,
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """Of the transformer: so many equal blocks, each with so many heads of 24 channels, and so many in its feed-forward
    layer."""

    blocks: int
    heads: int
    feed_forward: int


LARGE = Size(18, 40, 40960)  # 328 MiB a block
SMALL = Size(16, 12, 12288)  # 30 MiB a block


@dataclass(frozen=True)
class Ran:
    """One run of the model, by phase: seconds, and the most anonymous memory. `step_seconds`: of each step.
    `read_bytes`: from the disk while it denoised. `peak_bytes`: the most of its group, None without one."""

    seconds: dict[str, float]
    anonymous_bytes: dict[str, int]
    step_seconds: list[float]
    read_bytes: int
    peak_bytes: int | None = None


def checkpoint(folder: Path, size: Size, dtype: torch.dtype = torch.float32) -> Path:
    """A Wan in `folder` whose transformer has `size` and weights of `dtype`. It is written shard by shard, so that it
    need not fit into RAM, and is on the disk."""
    built = build_wan(folder)
    transformer = built / "transformer"
    config = json.loads((transformer / "config.json").read_text())
    config |= {"num_layers": size.blocks, "num_attention_heads": size.heads, "ffn_dim": size.feed_forward}
    (transformer / "config.json").write_text(json.dumps(config))
    for old in transformer.glob("*.safetensors"):
        old.unlink()
    with torch.device("meta"):
        wanted = WanTransformer3DModel.from_config(config).state_dict()
    torch.manual_seed(0)
    shard: dict[str, torch.Tensor] = {}
    places: dict[str, str] = {}

    def write() -> None:
        name = f"part-{len(set(places.values())):05}.safetensors"
        save_file(shard, transformer / name, {"format": "pt"})
        with (transformer / name).open("rb") as written:
            os.fsync(written.fileno())  # only what is on the disk can be forgotten
        places.update(dict.fromkeys(shard, name))
        shard.clear()

    for name, like in wanted.items():
        shard[name] = torch.empty(like.shape).normal_(std=0.02).to(dtype)
        if sum(one.nbytes for one in shard.values()) >= SHARD_BYTES:
            write()
    write()
    index = {"metadata": {"total_size": sum(one.nbytes for one in wanted.values())}, "weight_map": places}
    (transformer / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    forget_all(built)
    return built


def forget(file: Path) -> None:
    """Have the system keep nothing of it in RAM: pages count for the group that read them first."""
    with file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def forget_all(folder: Path) -> None:
    """Have the system keep nothing of the model's largest part."""
    for file in weights(folder):
        forget(file)


def foretold(folder: Path, cap_bytes: int, card_bytes: int | None) -> tuple[Plan, Prediction, Machine]:
    """What the planner chooses with so much RAM, of which a card is simulated, or for a processor alone; measured are
    processor and disk."""
    rate = measured_read_rate(weights(folder))
    if rate is None:
        raise SystemExit(f"How fast the disk of {folder} is read cannot be measured.")
    device = "cpu" if card_bytes is None else "simulated"
    machine = Machine(
        device, measure(torch.device("cpu")).rates(0, True), card_bytes or cap_bytes, cap_bytes, 64 * GIB,
        disk_read_rate=rate, disk_measured=True,
    )  # fmt: skip
    dry = DryRunner(SPEC.name, folder, "float32")
    fixed = () if device == "simulated" else FIXED_ON_PROCESSOR
    planned = Planner(
        machine, lambda request, plan: (dry.run(request, plan), True), spec=SPEC,
        mapped=lambda precision: mapped_components(folder, SPEC, precision),
        readings=lambda precision: readings(folder, SPEC, precision),
    ).plan(REQUEST, Plan(device=device, memory_cap_bytes=card_bytes), fixed, look_around=False)  # fmt: skip
    assert planned is not None
    return planned.plan, planned.prediction, machine


def weights(folder: Path) -> list[Path]:
    return sorted((folder / "transformer").glob("*.safetensors"))


def run(folder: Path, plan: Plan, job: Path) -> Ran:
    """A whole run of the model in this process."""
    entry = ModelEntry("large", SPEC.name, "large", folder, None, True, 0, None)
    meter, seconds, steps, reads = Meter(), {}, [], {}

    def see(event: Event) -> None:
        meter.see(event)
        match event:
            case PhaseStarted(phase="denoise") | PhaseFinished(phase="denoise"):
                reads[type(event).__name__] = read_bytes()
            case StepFinished(phase="denoise"):
                steps.append(event.seconds)
        if isinstance(event, PhaseFinished):
            seconds[event.phase] = seconds.get(event.phase, 0.0) + event.seconds

    with meter.following():
        Engine().run(REQUEST, plan, entry=entry, job_folder=job, emit=see, cancelled=lambda: False)
    read = reads["PhaseFinished"] - reads["PhaseStarted"]
    return Ran(seconds, meter.anonymous_bytes, steps, read)


def read_bytes() -> int:
    """What this process has read from the disk so far, mapped files included."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("read_bytes:")))


def command(folder: Path, plan: Plan, job: Path, group: MemoryGroup | None) -> list[str]:
    """What does `run` in a process of its own, in `group`, and writes to `job` what `read` reads."""
    job.mkdir()
    orders = {"folder": str(folder), "plan": plan.to_json(), "job": str(job)}
    if group is not None:
        orders["group"] = [str(group.folder), group.limit_name, group.peak_name]
    return [sys.executable, "-m", "bench.disk_streaming", json.dumps(orders)]


def read(job: Path, group: MemoryGroup | None) -> Ran:
    """What a process that has run `command` tells."""
    ran = Ran(**json.loads((job / RAN).read_text(encoding="utf-8")))
    return ran if group is None else replace(ran, peak_bytes=group.peak_bytes())


def child(orders: dict[str, Any]) -> None:
    """What `command` starts."""
    if "group" in orders:
        MemoryGroup(Path(orders["group"][0]), *orders["group"][1:]).enter()
    job = Path(orders["job"])
    ran = run(Path(orders["folder"]), Plan.from_json(orders["plan"]), job)
    (job / RAN).write_text(json.dumps(asdict(ran)), encoding="utf-8")


def beyond(streamed: Ran, prediction: Prediction, cap_bytes: int, *, equal: bool) -> list[str]:
    """What is not as it should be."""
    said = [] if equal else ["The latents are not those of the resident run."]
    if streamed.peak_bytes is None or streamed.peak_bytes > cap_bytes:
        said.append(f"The process held {streamed.peak_bytes} bytes, more than {cap_bytes}.")
    wanted, took = loading_and_denoising(prediction), streamed.seconds["load"] + streamed.seconds["denoise"]
    if abs(wanted / took - 1) > OFF_BY:
        said.append(f"Loading and denoising took {took:.1f} s, foretold were {wanted:.1f} s.")
    return said


def loading_and_denoising(prediction: Prediction) -> float:
    """Both, since a plan that keeps nothing loaded reads the network when it is placed to denoise."""
    return prediction.load_seconds + sum(
        phase.seconds for phase in prediction.phases if phase.name.startswith("denoise")
    )


def main(arguments: Sequence[str]) -> int:
    if arguments:
        child(json.loads(arguments[0]))
        return 0
    with tempfile.TemporaryDirectory() as place, memory_group("disk-streaming") as group:
        if group is None:
            raise SystemExit("No control group may be made here, so nothing caps the pages of files.")
        root = Path(place)
        folder = checkpoint(root / "large", LARGE)
        group.limit(CAP_BYTES)
        told: dict[str, Any] = {
            "capped_by": f"a control group, by {group.limit_name}",
            "weights_gib": round(sum(file.stat().st_size for file in weights(folder)) / GIB, 2),
            "cap_gib": round(CAP_BYTES / GIB, 2),
        }
        said = []
        for name, card_bytes, in_ram in (("card", CARD_BYTES, RESIDENT), ("processor", None, Plan(device="cpu"))):
            subprocess.run(command(folder, in_ram, root / f"{name} in RAM", None), check=True)
            resident = read(root / f"{name} in RAM", None)
            forget_all(folder)
            plan, prediction, machine = foretold(folder, CAP_BYTES, card_bytes)
            forget_all(folder)
            load_before = os.getloadavg()[0]
            # In the group from its first instruction on, so that libraries count too.
            subprocess.run(command(folder, plan, root / name, group), check=True, preexec_fn=group.enter)
            streamed = read(root / name, group)
            loads = [load_before, os.getloadavg()[0]]
            latents = [load_latents(root / one / LATENTS) for one in (name, f"{name} in RAM")]
            equal = torch.equal(*latents)
            told[name] = shown(plan, prediction, machine, streamed)
            told[name] |= {
                "in_ram_seconds": round(resident.seconds["denoise"], 2),
                "equal": equal,
                "load_averages": loads,
            }
            said += [f"{name}: {one}" for one in beyond(streamed, prediction, CAP_BYTES, equal=equal)]
    print(json.dumps(told, indent=1))
    RESULTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print("\n".join(said) or "The model streams within its cap, equal, in the time that was foretold.")
    return 1 if said else 0


def shown(plan: Plan, prediction: Prediction, machine: Machine, streamed: Ran) -> dict[str, Any]:
    """What was foretold beside what came."""
    steps = REQUEST.num_inference_steps
    return {
        "peak_gib": round((streamed.peak_bytes or 0) / GIB, 2),
        "anonymous_gib": round(max(streamed.anonymous_bytes.values()) / GIB, 2),
        "ram_foretold_gib": round(prediction.ram_peak_bytes / GIB, 2),
        "verdict": prediction.verdict,
        "disk_mb_per_s": round(machine.disk_read_rate / 1e6),
        "read_foretold_gib_per_step": round(prediction.read_again_bytes / GIB, 2),
        "read_gib_per_step": round(streamed.read_bytes / steps / GIB, 2),
        "load_foretold_seconds": round(prediction.load_seconds, 2),
        "load_seconds": round(streamed.seconds["load"], 2),
        "denoise_foretold_seconds": round(loading_and_denoising(prediction) - prediction.load_seconds, 2),
        "denoise_seconds": round(streamed.seconds["denoise"], 2),
        "step_seconds": [round(one, 2) for one in streamed.step_seconds],
        "plan": plan.to_json(),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
