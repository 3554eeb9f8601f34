"""A child process whose memory is capped by the kernel, pages of files that it reads included: a control group of its
own below the one that this process is in. Linux only, and only where the group may be made."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Where the controller lies, and what its files are called: of version 1, and of 2.
V1 = ("memory", Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.max_usage_in_bytes")
V2 = ("", Path("/sys/fs/cgroup"), "memory.max", "memory.peak")


@dataclass(frozen=True)
class MemoryGroup:
    """A group in `folder`. `limit_name`, `peak_name`: of its files."""

    folder: Path
    limit_name: str
    peak_name: str

    def enter(self) -> None:
        """Have this process in the group from now on: what it takes from here on counts."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def limit(self, size_bytes: int) -> None:
        """No more than that for all processes of the group together."""
        (self.folder / self.limit_name).write_text(str(size_bytes))

    def peak_bytes(self) -> int:
        """The most that the group held, pages of files included."""
        return int((self.folder / self.peak_name).read_text())


@contextlib.contextmanager
def memory_group(name: str) -> Iterator[MemoryGroup | None]:
    """A new group for the time of the `with`, at whose end it must be empty; None where none may be made."""
    group = _made(f"{name}-{os.getpid()}")
    try:
        yield group
    finally:
        if group is not None:
            _remove(group.folder)


def _made(name: str) -> MemoryGroup | None:
    for controller, root, limit_name, peak_name in (V1, V2):
        with contextlib.suppress(OSError, StopIteration):
            lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
            own = next(path for _, controllers, path in lines if controller in controllers.split(","))
            folder = root / own.lstrip("/") / name
            folder.mkdir()
            if (folder / limit_name).exists() and (folder / peak_name).exists():
                return MemoryGroup(folder, limit_name, peak_name)
            folder.rmdir()
    return None


def _remove(folder: Path) -> None:
    for _ in range(50):  # a process that ended leaves its group a moment later
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)
