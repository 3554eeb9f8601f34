"""What the warm worker holds on its card and in RAM. It is free to the next job, whose process it is, and no other
program's."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from i2v.hardware.host import private_bytes
from i2v.hardware.probe import Probe
from i2v.planning.rates import CONTEXT_BYTES


class OnCard(Protocol):
    """A process that sees one card: its UUID, or "" for none."""

    pid: int
    card: str


def without_worker(probe: Probe, worker: OnCard | None) -> Probe:
    """The machine as it would be without `worker`: what it has loaded is used by the next job or leaves before that
    loads."""
    if worker is None:
        return probe
    host = probe.host
    available = min(host.ram_available_bytes + private_bytes(worker.pid), host.ram_total_bytes)
    return replace(_card_without(probe, worker), host=replace(host, ram_available_bytes=available))


def _card_without(probe: Probe, worker: OnCard) -> Probe:
    """Where the driver does not say what the worker holds (in containers, on WSL), it is a context at least."""
    gpu = probe.gpu
    if gpu is None or gpu.simulated or gpu.free_bytes is None or gpu.uuid != worker.card:
        return probe
    own = [process for process in gpu.processes if process.pid == worker.pid]
    held = sum(process.used_bytes or 0 for process in own) or CONTEXT_BYTES
    free = gpu.free_bytes + held
    if gpu.total_bytes is not None:
        free = min(free, gpu.total_bytes)
    others = tuple(process for process in gpu.processes if process not in own)
    return replace(probe, gpu=replace(gpu, free_bytes=free, processes=others))
