"""What a machine leaves to a plan, and what of a card torch may take."""

from __future__ import annotations

import platform
from dataclasses import replace

import machines
import pytest
import torch

from i2v.hardware.host import read_host
from i2v.memory.card import CudaCard, open_card
from i2v.plan import Plan
from i2v.planning.cost import margin
from i2v.planning.machine import machine_of
from i2v.planning.measured import Measurement
from i2v.units import GIB

MEASURED = Measurement("Test card", "2.13.0", 1e13, 5e12, 8e12, 3e11, 1e10, 5e9, 8e-6, 300 * 2**20, True)


@pytest.mark.parametrize("measurement", [None, MEASURED], ids=["known", "measured"])
def test_more_stays_free_where_the_driver_moves_memory_away_instead_of_failing(measurement):
    linux = machines.card(6, 12)
    windows = replace(linux, host=replace(linux.host, wsl=True))
    assert margin(machine_of(linux, "cuda", measurement)) == int(6 * GIB * 0.04)
    assert margin(machine_of(windows, "cuda", measurement)) == 600 * 2**20


def test_windows_is_known_by_its_kernel(monkeypatch, tmp_path):
    for release, wsl in (("5.15.153.1-microsoft-standard-WSL2", True), ("6.8.0-45-generic", False)):
        monkeypatch.setattr(platform, "release", lambda release=release: release)
        assert read_host(tmp_path).wsl == wsl


@pytest.mark.parametrize(
    ("release", "cap_gib", "share"),
    [
        ("6.8.0", None, 12),
        ("6.8.0", 5, 5),
        ("6.8.0-microsoft", None, 9),
        ("6.8.0-microsoft", 5, 5),
        ("6-microsoft", 11, 9),
    ],
)
def test_under_windows_torch_takes_no_more_of_a_card_than_is_free(monkeypatch, release, cap_gib, share):
    """7 of 12 GiB are free, 2 are torch's already."""
    given = []
    monkeypatch.setattr(platform, "release", lambda: release)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7 * GIB, 12 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2 * GIB)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda fraction, device: given.append(fraction))
    CudaCard(cap_gib and cap_gib * GIB)
    assert given == [share / 12]


@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("bfloat16", True), ("float16", True)])
def test_float32_on_a_card_has_all_its_bits_only_in_a_plan_of_float32(monkeypatch, precision, allowed):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7 * GIB, 12 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda fraction, device: None)
    before = torch.backends.cuda.matmul.allow_tf32
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=not allowed):
        open_card(Plan(device="cuda", precision=precision))
        assert torch.backends.cudnn.allow_tf32 == allowed
        assert not torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = before
