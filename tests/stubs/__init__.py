"""The stand-in driver library: compiled once per test run, described by one environment variable."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("nvml_stub.c")


@cache
def stub_library() -> Path:
    """The folder that holds the compiled `libnvidia-ml.so.1`, for LD_LIBRARY_PATH. Skips without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: the stand-in for libnvidia-ml cannot be built")
    folder = SOURCE.parent / "__pycache__" / "nvml"
    library = folder / "libnvidia-ml.so.1"
    if not library.exists() or library.stat().st_mtime < SOURCE.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f"{os.getpid()}.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", fresh, SOURCE], check=True)
        fresh.replace(library)
    return folder


def card(
    name: str = "NVIDIA Card",
    *fields: str,
    total_gib: float = 12,
    used_gib: float = 0,
    capability: str = "8.6",
    uuid: str | None = None,
) -> str:
    """One card for NVML_STUB; `fields` are further ones as the stub's head describes them, such as `fail=memory/4`."""
    uuid = uuid or f"GPU-{zlib.crc32(name.encode()):08x}"
    known = f"card:name={name},uuid={uuid},total={int(total_gib * 1024)},used={int(used_gib * 1024)},cc={capability}"
    return ",".join((known, *fields))


def stub_environment(*entries: str, driver: str = "580.65.06") -> dict[str, str]:
    """The environment of a process that is to see these cards."""
    environ = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    described = "|".join((f"driver:{driver}", *entries) if driver else entries)
    return environ | {"LD_LIBRARY_PATH": str(stub_library()), "NVML_STUB": described}
