"""The allocator's setting: only where it is safe, and for every process that computes."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from i2v.jobs.process.allocator import allocator_setting
from i2v.jobs.process.start import worker_environment


@pytest.mark.parametrize(
    ("kernel", "file", "environ", "expected"),
    [
        ("6.8.0-45-generic", None, {}, "expandable_segments:True"),
        ("5.15.153.1-microsoft-standard-WSL2", None, {}, None),
        ("5.15.148-tegra", None, {}, None),
        ("5.15.148", "etc/nv_tegra_release", {}, None),
        ("6.8.0-45-generic", "dev/kfd", {}, None),
        ("6.8.0-45-generic", None, {"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, None),
        ("6.8.0-45-generic", None, {"PYTORCH_ALLOC_CONF": ""}, None),
    ],
)
def test_expandable_segments_only_where_they_are_safe(
    tmp_path: Path, kernel: str, file: str | None, environ: dict[str, str], expected: str | None
) -> None:
    if file:
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    assert allocator_setting(kernel, tmp_path, environ).get("PYTORCH_ALLOC_CONF") == expected


def test_every_process_that_computes_has_it_however_the_app_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: "6.8.0-45-generic")
    monkeypatch.setattr(Path, "exists", lambda path: False)
    for card in ("GPU-1", ""):
        assert worker_environment(card, {})["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert (
        worker_environment("GPU-1", {"PYTORCH_ALLOC_CONF": "backend:native"})["PYTORCH_ALLOC_CONF"] == "backend:native"
    )
