"""A report on this installation to paste into a bug report, with a real generation as its last line.

No torch import: what is installed is asked of its metadata, and the generation runs where all do, in the worker.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from i2v import __version__
from i2v.events import Cancelled, Done, Failed
from i2v.hardware.probe import GIB, Gpu, MemoryProbe, Probe
from i2v.messages import DEFAULT_LOCALE, Message, UserError, message
from i2v.models.catalogue import unreadable_folders
from i2v.settings.settings import ROOT, Settings, preset_notes

PACKAGES = (
    "torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface_hub", "gradio", "nvidia-ml-py",
    "psutil", "pyyaml", "imageio-ffmpeg", "pillow", "numpy",
)  # fmt: skip
SELF_TEST = {
    "model": "auto",
    "prompt": "A slow pan to the right",
    "width": 64,
    "height": 64,
    "frames": 4,
    "steps": 2,
    "seed": 1,
}
"""The smallest job that goes through everything: worker, model, steps, decoder, video."""


def report(settings: Settings, probe: Probe) -> tuple[str, bool]:
    """The report in the settings' language, and whether everything needed works."""
    locale = settings.language if settings.language != "auto" else DEFAULT_LOCALE
    checks = [*_folders(settings), _ffmpeg(), _self_test(settings)]
    lines = [*_versions(), *_machine(probe), *_settings(settings, probe), *(text for text, _ in checks)]
    return "\n".join(line.render(locale) for line in lines), all(well for _, well in checks)


def _versions() -> Iterator[Message]:
    yield message("doctor.app", version=__version__, python=platform.python_version(), system=platform.platform())
    found = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    yield message("doctor.packages", packages=found)
    stamp = Path(ROOT / ".venv" / "i2v-stamp.json")
    try:
        made = json.loads(stamp.read_text(encoding="utf-8"))
        proof = made["proof"]
        yield message(
            "doctor.stamp",
            installed=made["installed"],
            wanted=made["build"],
            torch=proof["torch"],
            kernel=proof["error"] or "ok",
            card=proof["card"] or "-",
        )
    except (OSError, ValueError, KeyError, TypeError):
        yield message("doctor.no_stamp")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def _machine(probe: Probe) -> Iterator[Message]:
    for gpu in probe.gpus:
        yield _gpu(gpu, chosen=gpu == probe.gpu)
        for process in gpu.processes:
            held = "?" if process.used_bytes is None else f"{process.used_bytes / GIB:.2f}"
            yield message("doctor.process", name=process.name, pid=process.pid, held=held)
        yield from gpu.problems
    yield from probe.problems
    host = probe.host
    yield message(
        "doctor.host",
        cores=host.cpu_count,
        ram=f"{host.ram_available_bytes / GIB:.1f}",
        ram_total=f"{host.ram_total_bytes / GIB:.1f}",
        swap=f"{host.swap_free_bytes / GIB:.1f}",
        swap_total=f"{host.swap_total_bytes / GIB:.1f}",
        disk=f"{host.disk_free_bytes / GIB:.1f}",
    )


def _gpu(gpu: Gpu, *, chosen: bool) -> Message:
    figures = {
        name: "?" if value is None else f"{value / GIB:.2f}"
        for name, value in (("free", gpu.free_bytes), ("total", gpu.total_bytes))
    }
    return message(
        "doctor.gpu_chosen" if chosen else "doctor.gpu",
        index=gpu.index,
        name=gpu.name,
        capability=".".join(map(str, gpu.compute_capability)) if gpu.compute_capability else "?",
        driver=gpu.driver or "?",
        **figures,
    )


def _settings(settings: Settings, probe: Probe) -> Iterator[Message]:
    yield message("doctor.preset", preset=settings.preset, source=settings.sources["preset"])
    yield from preset_notes(settings.preset, probe)


_Check = tuple[Message, bool]


def _folders(settings: Settings) -> Iterator[_Check]:
    for folder in (settings.outputs_dir, settings.logs_dir, settings.models_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-"):
                yield message("doctor.folder_well", folder=str(folder)), True
        except OSError as error:
            yield message("doctor.folder_broken", folder=str(folder), error=os.strerror(error.errno or 0)), False
    for place in (settings.models_dir, *settings.model_folders):
        for folder in unreadable_folders(place):
            yield message("doctor.folder_skipped", folder=str(folder)), True


def _ffmpeg() -> _Check:
    try:
        import imageio_ffmpeg

        return message("doctor.ffmpeg_well", version=imageio_ffmpeg.get_ffmpeg_version()), True
    except (ImportError, OSError, RuntimeError) as error:
        return message("doctor.ffmpeg_broken", error=str(error)), False


def _self_test(settings: Settings) -> _Check:
    """Makes a small clip from a drawn picture through the service, in a folder that is thrown away."""
    from PIL import Image

    from i2v.jobs.service import JobService

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="i2v-doctor-") as name:
        folder = Path(name)
        picture = folder / "picture.png"
        Image.linear_gradient("L").convert("RGB").save(picture)
        probe = MemoryProbe(
            cap_gib=settings.simulate_gib, gpu=settings.gpu, cpu=settings.cpu, disk_path=settings.outputs_dir
        )
        service = JobService(replace(settings, outputs_dir=folder / "outputs"), probe, own_jobs_only=True)
        try:
            job = service.submit(SELF_TEST, picture)
            ends = [event for _, event in service.attach(job) if isinstance(event, (Done, Failed, Cancelled))]
            if isinstance(ends[-1], Done) and service.result(job).stat().st_size > 0:
                return message("doctor.test_well", seconds=f"{time.monotonic() - started:.1f}"), True
            why = ends[-1].message.render() if isinstance(ends[-1], Failed) else "-"
            return message("doctor.test_failed", error=why, log=str(settings.logs_dir)), False
        except UserError as error:
            return message("doctor.test_failed", error=str(error), log=str(settings.logs_dir)), False
        finally:
            service.close()
