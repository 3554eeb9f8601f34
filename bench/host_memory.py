"""What a run of HunyuanVideo takes of RAM where RAM is short, metered in a process of its own. Linux only.

    python -m bench.host_memory

An untrained checkpoint whose transformer has many equal blocks runs as the planner has it with RAM for half of them:
weights stay in their files and come to the card block by block. It runs once more with each component read anew by the
phase that needs it (`Plan.keep_loaded`). Metered is the process's anonymous memory, which the system cannot drop as it
drops pages of files (RssAnon in /proc/self/status), against what it was before the run. The card is simulated, so that
its memory is RAM as well: the two blocks that take turns on it are what the run may hold.
Writes bench/results/host_memory.json; exits 1 when a phase before decoding is beyond its limit. What decoding holds are
the decoder's own activations on the simulated card.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from i2v.dryrun.runner import DryRunner
from i2v.engine.engine import Engine
from i2v.events import Event, MemorySampled, PhaseStarted
from i2v.families import SPECS
from i2v.models.entry import ModelEntry
from i2v.models.mapped import mapped_components
from i2v.plan import Plan
from i2v.planning.machine import HOST_BASELINE_BYTES, Machine
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
from i2v.request import GenerationRequest
from i2v.units import GIB
from tests.hunyuan_checkpoints import build_hunyuan

MIB = 2**20
SPEC = SPECS["hunyuan_video"]
BLOCKS, HEADS = 24, 15  # heads of 16 channels: 8 MiB a block
BLOCKS_AT_A_TIME = 2
# What else may be held: the weights outside of blocks, activations of this small size, and what torch and the
# allocator keep for the next time.
ALL_ELSE_BYTES = 24 * MIB
PHASES = ("load", "encode", "denoise")
SAMPLE_SECONDS = 0.002
RESULTS = Path(__file__).parent / "results" / "host_memory.json"
REQUEST = GenerationRequest(
    model="many blocks", task="t2v", prompt="waves roll in", width=128, height=128, num_frames=5, fps=24,
    num_inference_steps=2, guidance_scale=6.0, seed=0,
)  # fmt: skip


@dataclass(frozen=True)
class Planned:
    """The runs that are to be metered, and what the transformer's blocks weigh."""

    plans: tuple[Plan, ...]
    sizes_bytes: tuple[int, ...]

    @property
    def most_bytes(self) -> int:
        """What a run may hold beyond what the process had before it."""
        return BLOCKS_AT_A_TIME * max(self.sizes_bytes) + ALL_ELSE_BYTES


@dataclass
class Meter:
    """The most by phase of one run: `anonymous_bytes` of the process, `card_bytes` of the simulated card. The former is
    looked at every few milliseconds, and whenever the engine tells something."""

    anonymous_bytes: dict[str, int] = field(default_factory=dict)
    card_bytes: dict[str, int] = field(default_factory=dict)
    phase: str = "before"

    def look(self) -> None:
        self.anonymous_bytes[self.phase] = max(self.anonymous_bytes.get(self.phase, 0), anonymous_bytes())

    def see(self, event: Event) -> None:
        self.look()
        if isinstance(event, PhaseStarted):
            self.phase = event.phase
        elif isinstance(event, MemorySampled):
            self.card_bytes[event.phase] = max(self.card_bytes.get(event.phase, 0), event.peak_allocated_bytes)

    @contextmanager
    def following(self):
        """For the time of the `with`."""
        ends = threading.Event()

        def follow() -> None:
            while not ends.wait(SAMPLE_SECONDS):
                self.look()

        self.look()
        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()

    @property
    def above_bytes(self) -> dict[str, int]:
        """The most anonymous memory of each phase, beyond what there was before the run."""
        before = self.anonymous_bytes["before"]
        return {phase: most - before for phase, most in self.anonymous_bytes.items() if phase != "before"}


def anonymous_bytes() -> int:
    """This process's memory that is no file's, as the kernel counts it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("the kernel does not tell RssAnon")


def checkpoint(folder: Path) -> Path:
    """A HunyuanVideo in `folder` with BLOCKS equal blocks in its transformer."""
    return build_hunyuan(folder, num_layers=BLOCKS, num_single_layers=0, num_attention_heads=HEADS)


def planned(folder: Path) -> Planned:
    """What the planner chooses for the checkpoint in `folder` on a card that holds a quarter of its transformer, with
    RAM for half of it beside the worker, and the same with components that leave RAM with their phase."""
    dry = DryRunner(SPEC.name, folder, "float32")
    whole = dry.weights_bytes["transformer"]
    machine = Machine("cuda", host_rates(2), whole // 4, HOST_BASELINE_BYTES["cuda"] + whole // 2, 64 * GIB)
    found = Planner(
        machine, lambda request, plan: (dry.run(request, plan), True), spec=SPEC,
        mapped=lambda precision: mapped_components(folder, SPEC, precision),
    ).plan(REQUEST, Plan(device="cuda", precision="float32"), look_around=False)  # fmt: skip
    assert found is not None
    if found.prediction.verdict == "wont_fit" or found.plan.offload != "streamed":
        raise SystemExit(f"The planner has no plan that streams: {found.plan}, {found.prediction}")
    plan = replace(found.plan, device="simulated", memory_cap_bytes=GIB)
    sizes = dry.run(REQUEST, plan).blocks["transformer"].sizes
    return Planned((plan, replace(plan, keep_loaded=False)), sizes)


def metered(folder: Path, plan: Plan) -> Meter:
    """A whole run of the checkpoint in `folder` in this process."""
    entry = ModelEntry("many blocks", SPEC.name, "many blocks", folder, None, True, 0, None)
    meter = Meter()
    with tempfile.TemporaryDirectory() as job, meter.following():
        Engine().run(REQUEST, plan, entry=entry, job_folder=Path(job), emit=meter.see, cancelled=lambda: False)
    return meter


def beyond(planned: Planned, meters: Sequence[Meter]) -> list[str]:
    """What is not as it should be."""
    most = planned.most_bytes
    return [
        f"{phase} took {meter.above_bytes[phase] / MIB:.1f} MiB of RAM, more than {most / MIB:.1f}"
        for meter in meters
        for phase in PHASES
        if meter.above_bytes[phase] > most
    ]


def command(folder: Path, plan: Plan, result: Path) -> list[str]:
    """What meters a run in a process of its own, and writes to `result` what `read` reads."""
    return [sys.executable, "-m", "bench.host_memory", str(folder), json.dumps(plan.to_json()), str(result)]


def read(result: Path) -> Meter:
    """The meter of a process that has run `command`."""
    return Meter(**json.loads(result.read_text(encoding="utf-8")))


def main(arguments: Sequence[str]) -> int:
    if arguments:
        folder, plan, result = arguments
        meter = metered(Path(folder), Plan.from_json(json.loads(plan)))
        Path(result).write_text(json.dumps(asdict(meter)), encoding="utf-8")
        return 0
    meters = []
    with tempfile.TemporaryDirectory() as folder:
        made, result = checkpoint(Path(folder) / "many-blocks"), Path(folder) / "metered.json"
        runs = planned(made)
        for plan in runs.plans:
            subprocess.run(command(made, plan, result), check=True)
            meters.append(read(result))
    told = told_of(runs, meters)
    print(json.dumps(told, indent=1))
    RESULTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    said = beyond(runs, meters)
    print("\n".join(said) or "Every phase is within its limit.")
    return 1 if said else 0


def told_of(planned: Planned, meters: Sequence[Meter]) -> dict[str, Any]:
    """The result file."""

    def mib(sizes: dict[str, int]) -> dict[str, float]:
        return {phase: round(size / MIB, 1) for phase, size in sizes.items()}

    return {
        "blocks": len(planned.sizes_bytes),
        "block_mib": round(max(planned.sizes_bytes) / MIB, 1),
        "limit_mib": round(planned.most_bytes / MIB, 1),
        "runs": [
            {"keep_loaded": plan.keep_loaded, "ram_mib": mib(meter.above_bytes), "card_mib": mib(meter.card_bytes)}
            for plan, meter in zip(planned.plans, meters, strict=True)
        ],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
