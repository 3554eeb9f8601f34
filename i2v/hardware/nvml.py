"""NVIDIA cards as the driver's own library (NVML) sees them, whole device, without creating a CUDA context.

Every field is asked for by itself: what a driver, a container or WSL refuses becomes a problem on that card, never
the end of the probe. MIG instances appear as cards of their own, under their parent's index.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psutil
import pynvml

from i2v.messages import Message, message

T = TypeVar("T")

UNIFIED_MEMORY_CAPABILITIES = frozenset({(8, 7), (11, 0), (12, 1)})
"""Compute capabilities of chips that share the host's memory (Orin, Thor, GB10) and report none of their own."""


@dataclass(frozen=True)
class GpuProcess:
    """A program on the card. `used_bytes` is None where the driver does not say (WSL, containers)."""

    pid: int
    name: str
    used_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        return {"pid": self.pid, "name": self.name, "used_bytes": self.used_bytes}


@dataclass(frozen=True)
class Gpu:
    """One card, or one MIG instance. `uuid` is what CUDA_VISIBLE_DEVICES takes; where the driver hides it, it is the
    index, which CUDA takes as well. Figures the driver does not give are None, and `problems` says why."""

    index: int
    uuid: str
    name: str
    total_bytes: int | None = None
    free_bytes: int | None = None
    used_bytes: int | None = None
    driver: str | None = None
    compute_capability: tuple[int, int] | None = None
    processes: tuple[GpuProcess, ...] = ()
    problems: tuple[Message, ...] = ()
    simulated: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "uuid": self.uuid,
            "name": self.name,
            "total_bytes": self.total_bytes,
            "free_bytes": self.free_bytes,
            "used_bytes": self.used_bytes,
            "driver": self.driver,
            "compute_capability": list(self.compute_capability) if self.compute_capability else None,
            "processes": [process.to_json() for process in self.processes],
            "problems": [problem.to_json() for problem in self.problems],
            "simulated": self.simulated,
        }


_STARTING = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: message("hardware.no_driver"),
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: message("hardware.driver_not_loaded"),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: message("hardware.driver_mismatch"),
    pynvml.NVML_ERROR_NO_PERMISSION: message("hardware.no_permission"),
}

_lock = threading.Lock()
_started = False


def read_gpus() -> tuple[tuple[Gpu, ...], tuple[Message, ...]]:
    """Every card in the driver's order (PCI bus), and what kept us from seeing more. Never raises."""
    try:
        _start()
        driver, driver_problem = _ask("driver version", pynvml.nvmlSystemGetDriverVersion)
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        _stop()
        return (), (_STARTING.get(error.value) or message("hardware.nvml_failed", error=str(error)),)
    gpus: list[Gpu] = []
    problems: list[Message] = [driver_problem] if driver_problem else []
    for index in range(count):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            problems.append(message("hardware.card_unreadable", index=index, error=str(error)))
            continue
        if _mig_enabled(handle):
            instances = [_read_gpu(index, instance, driver) for instance in _mig_instances(handle)]
            if not instances:
                problems.append(message("hardware.mig_empty", index=index))
            gpus.extend(instances)
        else:
            gpus.append(_read_gpu(index, handle, driver))
    return tuple(gpus), tuple(problems)


def _start() -> None:
    """Starting NVML costs up to a tenth of a second, so one start serves the whole process."""
    global _started
    with _lock:
        if not _started:
            pynvml.nvmlInit()
            _started = True


def _stop() -> None:
    """After a failure the next read starts afresh: the driver may have been reloaded meanwhile."""
    global _started
    with _lock:
        if _started:
            _started = False
            _ask("", pynvml.nvmlShutdown)


def _ask(what: str, question: Callable[[], T]) -> tuple[T | None, Message | None]:
    """The answer, or None and the reason."""
    try:
        return question(), None
    except (pynvml.NVMLError, UnicodeDecodeError) as error:
        return None, message("hardware.field_unreadable", field=what, error=str(error))


@dataclass
class _Card:
    """One handle being read; collects the problems of its fields."""

    handle: Any
    problems: list[Message] = field(default_factory=list)

    def ask(self, what: str, question: Callable[[Any], T]) -> T | None:
        answer, problem = _ask(what, lambda: question(self.handle))
        if problem:
            self.problems.append(problem)
        return answer


def _read_gpu(index: int, handle: Any, driver: str | None) -> Gpu:
    card = _Card(handle)
    name = card.ask("name", pynvml.nvmlDeviceGetName)
    uuid = card.ask("UUID", pynvml.nvmlDeviceGetUUID)
    capability = card.ask("compute capability", pynvml.nvmlDeviceGetCudaComputeCapability)
    total = free = used = None
    memory, memory_problem = _ask("memory", lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    if memory is not None:
        total, free, used = memory.total, memory.free, memory.used
    elif capability in UNIFIED_MEMORY_CAPABILITIES:
        host = psutil.virtual_memory()
        total, free, used = host.total, host.available, host.total - host.available
        card.problems.append(message("hardware.unified_memory"))
    elif memory_problem:
        card.problems.append(memory_problem)
    return Gpu(
        index=index,
        uuid=uuid or str(index),
        name=name or f"NVIDIA GPU {index}",
        total_bytes=total,
        free_bytes=free,
        used_bytes=used,
        driver=driver,
        compute_capability=capability,
        processes=_processes(card),
        problems=tuple(card.problems),
    )


def _processes(card: _Card) -> tuple[GpuProcess, ...]:
    """Programs that hold memory on the card, largest first; one that computes and draws is listed once."""
    found: dict[int, int | None] = {}
    for what, question in (
        ("compute processes", pynvml.nvmlDeviceGetComputeRunningProcesses),
        ("graphics processes", pynvml.nvmlDeviceGetGraphicsRunningProcesses),
    ):
        for process in card.ask(what, question) or ():
            found[process.pid] = max(filter(None, (found.get(process.pid), process.usedGpuMemory)), default=None)
    listed = (GpuProcess(pid, _process_name(pid), used) for pid, used in found.items())
    return tuple(sorted(listed, key=lambda process: (-(process.used_bytes or 0), process.pid)))


def _process_name(pid: int) -> str:
    """The program's name; in a container, where the process is not ours to see, what the driver calls it."""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        name, _ = _ask("process name", lambda: pynvml.nvmlSystemGetProcessName(pid))
        if isinstance(name, bytes):
            name = name.decode(errors="replace")
        return name.rsplit("/", 1)[-1] if name else f"pid {pid}"


def _mig_enabled(handle: Any) -> bool:
    modes, _ = _ask("MIG mode", lambda: pynvml.nvmlDeviceGetMigMode(handle))
    return bool(modes) and modes[0] == pynvml.NVML_DEVICE_MIG_ENABLE


def _mig_instances(handle: Any) -> list[Any]:
    count, _ = _ask("MIG count", lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    instances = (
        _ask("MIG", lambda i=i: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, i))[0] for i in range(count or 0)
    )
    return [instance for instance in instances if instance is not None]
