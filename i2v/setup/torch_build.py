"""Which build of torch this machine's card and driver can run. Bare Python: nothing is installed yet.

The choice is a pure function over `torch_builds.toml`; looking at the card is apart from it.
"""

from __future__ import annotations

import ctypes
import os
import threading
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Capability = tuple[int, int]

DATA = Path(__file__).with_name("torch_builds.toml")


@dataclass(frozen=True)
class TorchBuild:
    """`name` is "default", "cu126" or "cpu". `index_url` is where its wheels are, None for pip's usual place.
    `reason` is the id of the text that says why it was chosen."""

    name: str
    index_url: str | None
    reason: str

    def requirement(self, version: str) -> str:
        """What to ask pip for: "torch==2.13.0+cu126"."""
        return f"torch=={version}" if self.index_url is None else f"torch=={version}+{self.name}"


@dataclass(frozen=True)
class DriverCard:
    """What the driver says before anything is installed; None where it does not say."""

    compute_capability: Capability | None
    driver_version: str | None

    def __str__(self) -> str:
        capability = ".".join(map(str, self.compute_capability)) if self.compute_capability else "?"
        return f"compute capability {capability}, driver {self.driver_version or '?'}"


def choose_torch_build(
    compute_capability: Capability | None,
    driver_version: str | None,
    *,
    system: str = "Linux",
    environ: Mapping[str, str] = os.environ,
) -> TorchBuild:
    """The build to install for one card; both None means there is no card.

    What the driver does not tell is taken as good enough: the kernel run after the install has the last word.
    Only on Linux is the package index's own wheel a large one with CUDA in it, so elsewhere the default always serves.
    """
    if system != "Linux":
        return _build("default", "launcher.torch_default", environ)
    if compute_capability is None and driver_version is None:
        return _build("cpu", "launcher.torch_no_card", environ)
    driver = _branch(driver_version)
    fitting_card = [build for build in _data()["builds"] if _runs_on(build, compute_capability)]
    fitting = [build for build in fitting_card if driver is None or driver >= build.get("min_driver", 0)]
    name = fitting[0]["name"]
    if name == "cpu":
        return _build(
            name, "launcher.torch_old_card" if len(fitting_card) == 1 else "launcher.torch_old_driver", environ
        )
    if name == "default":
        return _build(name, "launcher.torch_default", environ)
    older = "launcher.torch_for_driver" if fitting_card[0]["name"] == "default" else "launcher.torch_for_card"
    return _build(name, older, environ)


def common_capability(capabilities: Sequence[Capability]) -> Capability | None:
    """The capability that decides among several cards: the oldest, as one build can serve it and the newer ones
    beside it; but the newest where that one is beyond the build for old cards."""
    if not capabilities:
        return None
    old_cards = next(build for build in _data()["builds"] if build["name"] == "cu126")
    newest = max(capabilities)
    return newest if newest > tuple(old_cards["max_capability"]) else min(capabilities)


def build_names() -> tuple[str, ...]:
    """Every build there is; all but "default" are also the local part of a version, as in 2.13.0+cu126."""
    return tuple(build["name"] for build in _data()["builds"])


def see_card() -> DriverCard | None:
    """The machine's card and driver by the driver's own library, or None. Takes milliseconds, never raises."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        if nvml.nvmlInit_v2() != 0:
            return None
    except (OSError, AttributeError):
        return None
    version = ctypes.create_string_buffer(80)
    known = nvml.nvmlSystemGetDriverVersion(version, ctypes.c_uint(80)) == 0
    count = ctypes.c_uint()
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    capabilities: list[Capability] = []
    for index in range(count.value):
        handle, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
        if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) != 0:
            continue
        if nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor)) == 0:
            capabilities.append((major.value, minor.value))
    nvml.nvmlShutdown()
    if count.value == 0:
        return None
    return DriverCard(common_capability(capabilities), version.value.decode(errors="replace") if known else None)


def reachable(index_url: str, seconds: float = 3.0) -> bool:
    """Whether the index answers for torch within `seconds`, name look-up included, through the usual proxies."""
    answered: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{index_url}/torch/", timeout=seconds) as response:
                answered.append(response.status == 200)
        except (OSError, ValueError, urllib.error.URLError):
            answered.append(False)

    # A thread, because the time-out of a request does not cover the look-up of its name.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return bool(answered and answered[0])


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(DATA.read_text(encoding="utf-8"))


def _build(name: str, reason: str, environ: Mapping[str, str]) -> TorchBuild:
    build = next(build for build in _data()["builds"] if build["name"] == name)
    index = (environ.get("I2V_TORCH_INDEX") or _data()["index"]).rstrip("/")
    return TorchBuild(name, f"{index}/{build['folder']}" if "folder" in build else None, reason)


def _runs_on(build: Mapping[str, Any], capability: Capability | None) -> bool:
    if capability is None:
        return True
    low, high = tuple(build.get("min_capability", ())), tuple(build.get("max_capability", (999, 0)))
    return low <= capability <= high


def _branch(driver_version: str | None) -> int | None:
    """580 of "580.65.06"; None for what is no version."""
    first = (driver_version or "").split(".")[0]
    return int(first) if first.isdecimal() else None
