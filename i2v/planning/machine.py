"""The machine a plan is made for: what it computes with, what is free, and what is lost before the first tensor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from i2v.hardware.disk import NVME
from i2v.hardware.probe import Probe
from i2v.planning.measured import Measurement
from i2v.planning.rates import CONTEXT_BYTES, Rates, find_card, host_rates, known_card
from i2v.units import GIB

# What a worker that has loaded torch, diffusers and transformers holds in RAM before a model: resident memory of
# `python -c "import i2v.engine.engine, i2v.families.i2vgen_xl.model"` with the CPU build of torch, 0.55 GiB, and the
# same again for the libraries that a CUDA build maps.
HOST_BASELINE_BYTES = {"cpu": int(0.6 * GIB), "simulated": int(0.6 * GIB), "cuda": int(1.2 * GIB)}
# cuBLAS (32 MiB a handle from Hopper on, 8 MiB before) and cuDNN's plans.
WORKSPACE_BYTES = 64 * 2**20

# What a desktop takes and gives back while one watches. Under WSL that is Windows' own desktop, and the driver does not
# fail beyond what is free but moves memory to the host, many times slower: ComfyUI reserves 600 MiB there.
MARGIN_FLOOR_BYTES = 200 * 2**20
WSL_MARGIN_FLOOR_BYTES = 600 * 2**20

BFLOAT16_CAPABILITY = (8, 0)  # NVIDIA cards compute bfloat16 from this compute capability on
MIN_CONTEXT_BYTES = 128 * 2**20  # a smaller figure was measured while another program gave memory back

Device = Literal["cpu", "cuda", "simulated"]


@dataclass(frozen=True)
class Machine:
    """`budget_bytes`: free on the card before our context exists, or in RAM where the processor computes.
    `context_bytes` and `workspace_bytes` are taken from it beside what tensors hold, `margin_floor_bytes` at least stay
    free. `expandable_segments`: whether torch keeps the card's memory in them, see `host.py`. `slowdown`: by what times
    are multiplied because other programs compute as well. `disk_read_rate`: bytes/s at which a model's files are read,
    as they are where nothing is known of an imagined machine: from an NVMe disk. `disk_measured`: whether that was
    measured, or is what disks of its kind do."""

    device: Device
    rates: Rates
    budget_bytes: int
    ram_free_bytes: int
    disk_free_bytes: int
    context_bytes: int = 0
    workspace_bytes: int = 0
    margin_floor_bytes: int = 0
    expandable_segments: bool = True
    slowdown: float = 1.0
    disk_read_rate: float = NVME
    disk_measured: bool = False

    @property
    def name(self) -> str:
        return self.rates.name

    def with_budget(self, budget_bytes: int) -> Machine:
        """The same with another amount free."""
        return replace(self, budget_bytes=budget_bytes)


def machine_of(probe: Probe, device: Device, measurement: Measurement | None = None) -> Machine:
    """The machine as probed. A card whose memory cannot be read counts as having nothing free."""
    ram, disk = probe.host.ram_available_bytes, probe.host.disk_free_bytes
    if device == "cpu" or probe.gpu is None:
        rates = host_rates(probe.host.cpu_count)
        rate = probe.host.disk_read_rate
        return Machine("cpu", rates, ram, ram, disk, margin_floor_bytes=MARGIN_FLOOR_BYTES, disk_read_rate=rate)
    if device == "simulated":
        # It counts tensors and nothing else, and it is made of the RAM it computes in.
        rates, free = host_rates(probe.host.cpu_count), probe.gpu.free_bytes or 0
        return Machine("simulated", rates, free, ram, disk, disk_read_rate=probe.host.disk_read_rate)
    gpu, free = probe.gpu, probe.gpu.free_bytes or 0
    bf16 = gpu.compute_capability is None or gpu.compute_capability >= BFLOAT16_CAPABILITY
    total = gpu.total_bytes or 0
    rates = known_card(gpu.name, total) if measurement is None else measurement.rates(total, bf16)
    machine = replace(
        card_machine(rates, free, ram, disk),
        margin_floor_bytes=WSL_MARGIN_FLOOR_BYTES if probe.host.wsl else MARGIN_FLOOR_BYTES,
        expandable_segments=probe.host.expandable_segments,
        disk_read_rate=probe.host.disk_read_rate,
    )
    if measurement is None:
        return machine
    return replace(machine, context_bytes=max(measurement.context_bytes, MIN_CONTEXT_BYTES))


def imagined_machine(gpu_name: str, vram_bytes: int | None, ram_bytes: int, disk_bytes: int) -> Machine:
    """A machine with a card that is not at hand, all of it free where `vram_bytes` is not given.

    Raises UserError for a card that the data file does not know."""
    rates = find_card(gpu_name)
    return card_machine(rates, rates.memory_bytes if vram_bytes is None else vram_bytes, ram_bytes, disk_bytes)


def card_machine(rates: Rates, budget_bytes: int, ram_bytes: int, disk_bytes: int) -> Machine:
    """A machine with a real card."""
    return Machine(
        "cuda", rates, budget_bytes, ram_bytes, disk_bytes,
        CONTEXT_BYTES, WORKSPACE_BYTES, MARGIN_FLOOR_BYTES,
    )  # fmt: skip
