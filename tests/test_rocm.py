"""AMD cards by a ROCm build of torch, which is not here: a stand-in answers as it would."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from i2v.hardware import probe as hardware
from i2v.hardware import rocm
from i2v.hardware.probe import MemoryProbe
from i2v.hardware.rocm import RocmCard, read_amd_gpus, rocm_cards
from i2v.messages import message
from i2v.units import GIB

CARD = RocmCard(0, "AMD Radeon RX 7900 XTX", 24 * GIB, 20 * GIB, "0000:03:00.0")


def asked(monkeypatch: pytest.MonkeyPatch, hip: str | None, **about: int) -> list[dict[str, object]]:
    """What the child answers with a torch of this kind."""
    torch = ModuleType("torch")
    torch.version = SimpleNamespace(hip=hip)
    torch.cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 1,
        mem_get_info=lambda index: (CARD.free_bytes, CARD.total_bytes),
        get_device_properties=lambda index: SimpleNamespace(name=CARD.name, **about),
    )
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", torch)
        patch.delitem(sys.modules, "i2v.worker.rocm_cards", raising=False)
        found = importlib.import_module("i2v.worker.rocm_cards").cards()
    sys.modules.pop("i2v.worker.rocm_cards", None)
    return found


def test_a_rocm_build_names_its_cards_and_another_build_none(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"pci_domain_id": 0, "pci_bus_id": 3, "pci_device_id": 0}
    assert asked(monkeypatch, "6.4.1", **place) == [vars(CARD)]
    assert asked(monkeypatch, "6.4.1") == [{**vars(CARD), "pci": ""}]
    assert asked(monkeypatch, None, **place) == []


def test_what_is_free_is_what_the_kernel_says_now(tmp_path: Path) -> None:
    (tmp_path / CARD.pci).mkdir()
    for used in (3 * GIB, 9 * GIB):
        (tmp_path / CARD.pci / "mem_info_vram_used").write_text(f"{used}\n")
        (gpu,) = read_amd_gpus(lambda: (CARD,), tmp_path)
        assert (gpu.uuid, gpu.name, gpu.free_bytes) == ("0", CARD.name, CARD.total_bytes - used)
    (gpu,) = read_amd_gpus(lambda: (CARD,), tmp_path / "nowhere")
    assert gpu.free_bytes == CARD.free_bytes
    assert gpu.problems == (message("hardware.rocm_untested", card=CARD.name),)


@pytest.mark.parametrize(("build", "answer", "cards"), [
    ("2.13.0+rocm6.4", json.dumps([vars(CARD)]), (CARD,)),
    ("2.13.0+rocm6.4", "[]", ()),
    ("2.13.0+rocm6.4", "Segmentation fault", ()),
    ("2.13.0+rocm6.4", '[{"x": 1}]', ()),
    ("2.13.0+cpu", json.dumps([vars(CARD)]), ()),
])  # fmt: skip
def test_torch_is_asked_only_where_it_is_a_rocm_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: str, answer: str, cards: tuple[RocmCard, ...]
) -> None:
    monkeypatch.setattr(rocm, "KERNEL_DRIVER", tmp_path)
    monkeypatch.setattr(rocm, "version", lambda package: build)
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_options: SimpleNamespace(stdout=answer))
    rocm_cards.cache_clear()
    assert rocm_cards() == cards
    monkeypatch.setattr(rocm, "KERNEL_DRIVER", tmp_path / "none")
    rocm_cards.cache_clear()
    assert rocm_cards() == ()
    rocm_cards.cache_clear()


def test_an_amd_card_is_taken_where_there_is_no_nvidia_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "read_gpus", lambda: ((), (message("hardware.no_driver"),)))
    monkeypatch.setattr(hardware, "read_amd_gpus", lambda: read_amd_gpus(lambda: (CARD,), tmp_path))
    probe = MemoryProbe(disk_path=tmp_path).read()
    assert (probe.gpu.name, probe.problems) == (CARD.name, ())
    assert MemoryProbe(disk_path=tmp_path, cpu=True).read().gpu is None
