"""A second process that takes memory of the card and gives it back, as another program would.

    python -m bench.gpu.holder DEVICE

Reads commands line by line and answers each with the bytes it holds then: `take BYTES`, `leave BYTES` (take all that is
free but so much), `free`. It has its context before the first answer, and ends with its input.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import torch

PIECE_BYTES = 2**30


class Holder:
    """The process, from outside. Raises RuntimeError where it has ended or says something else."""

    def __init__(self, device: torch.device) -> None:
        command = [sys.executable, "-m", "bench.gpu.holder", device.type]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        self._answer()

    @property
    def pid(self) -> int:
        """The process's id here; in a container NVML may know it by another."""
        return self._process.pid

    def take(self, size: int) -> int:
        """Hold so many bytes more; how many it holds then."""
        return self._ask(f"take {size}")

    def leave(self, size: int) -> int:
        """Take all that is free but `size` bytes."""
        return self._ask(f"leave {size}")

    def free(self) -> int:
        """Give everything back."""
        return self._ask("free")

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _ask(self, command: str) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("holding "):
            raise RuntimeError(f"the process that holds memory has ended or says {line!r}")
        return int(line.split()[1])


def main(kind: str) -> int:
    device = torch.device(kind)
    held: list[torch.Tensor] = [torch.zeros(1, device=device)]
    _tell(held)
    for line in sys.stdin:
        command, _, number = line.strip().partition(" ")
        if command == "free":
            del held[1:]
            if device.type == "cuda":
                torch.cuda.empty_cache()
        elif command == "take":
            _take(held, int(number), device)
        elif command == "leave":
            free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
            _take(held, max(0, free - int(number)), device)
        _tell(held)
    return 0


def _take(held: list[torch.Tensor], size: int, device: torch.device) -> None:
    while size > 0:
        piece = min(size, PIECE_BYTES)
        held.append(torch.zeros(piece, dtype=torch.uint8, device=device))
        size -= piece


def _tell(held: list[torch.Tensor]) -> None:
    print("holding", sum(one.numel() * one.element_size() for one in held), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
