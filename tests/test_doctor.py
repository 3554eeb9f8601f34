"""The report for a bug report: what it says, and that its verdict can be no."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from i2v.cli import doctor
from i2v.hardware.probe import GIB, Gpu, GpuProcess, MemoryProbe, Probe
from i2v.jobs import service
from i2v.messages import message
from i2v.settings.settings import Settings, load_settings
from tests.warm_support import shared


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    return MemoryProbe(cpu=True, disk_path=tmp_path).read()


@pytest.fixture
def settings(probe: Probe, tmp_path: Path) -> Settings:
    folders = {name: tmp_path / name for name in ("outputs_dir", "logs_dir", "models_dir")}
    return load_settings(probe=probe, environ={}, overrides={**folders, "cpu": True})


def test_the_report_makes_a_real_video_and_leaves_nothing(
    settings: Settings, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "JobService", partial(service.JobService, start=shared().start))
    text, well = doctor.report(settings, probe)
    assert well, text
    assert "test video made" in text
    assert f"Python {sys.version.split()[0]}" in text
    assert re.search(r"torch \d+\.\d+", text)
    assert "ffmpeg" in text
    assert list(settings.outputs_dir.iterdir()) == []


def test_a_folder_that_cannot_be_written_fails_the_report(
    settings: Settings, probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_self_test", lambda settings: (message("doctor.test_well", seconds="0"), True))
    (tmp_path / "file").touch()
    text, well = doctor.report(replace(settings, outputs_dir=tmp_path / "file" / "outputs"), probe)
    assert not well
    assert f"FAILED  {tmp_path}/file/outputs cannot be written" in text


def test_a_self_test_that_cannot_run_fails_the_report(settings: Settings, probe: Probe) -> None:
    """Its model would have to be fetched, from where nobody answers."""
    text, well = doctor.report(replace(settings, model="i2vgen-xl", hf_endpoint="http://127.0.0.1:9"), probe)
    assert not well
    assert "FAILED  no test video" in text
    assert "http://127.0.0.1:9" in text
    assert "Traceback" not in text


def test_cards_and_who_holds_their_memory_are_named(
    settings: Settings, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_self_test", lambda settings: (message("doctor.test_well", seconds="0"), True))
    busy = Gpu(
        index=0,
        uuid="GPU-1",
        name="NVIDIA GeForce RTX 3060",
        total_bytes=12 * GIB,
        free_bytes=11 * GIB,
        used_bytes=GIB,
        driver="580.65.06",
        compute_capability=(8, 6),
        processes=(GpuProcess(41, "firefox", GIB // 2), GpuProcess(42, "game", None)),
    )
    mute = Gpu(index=1, uuid="1", name="Mute", problems=(message("hardware.unified_memory"),))
    text, _ = doctor.report(replace(settings, language="zh-CN"), replace(probe, gpus=(busy, mute), gpu=busy))
    assert (
        "显卡 0（使用中）：NVIDIA GeForce RTX 3060，空闲 11.00 GiB，共 12.00 GiB，计算能力 8.6，驱动 580.65.06" in text
    )
    assert "firefox（pid 41）占用：0.50 GiB" in text
    assert "game（pid 42）占用：? GiB" in text
    assert "显卡 1：Mute，空闲 ? GiB" in text
    assert "该芯片与处理器共用内存" in text
