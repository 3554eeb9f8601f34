"""Weights that RAM does not hold come from the disk in every step: told, and in the time that is foretold."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from i2v.hardware.disk import NVME, SATA, SPINNING, read_rate
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.cost import predict
from i2v.planning.machine import HOST_BASELINE_BYTES
from i2v.planning.pipeline import read_share
from i2v.planning.planner import Planner
from i2v.planning.why import why
from i2v.units import GIB
from tests.planning.support import WEIGHTS, card, job, made_up

STREAMED = Plan(device="cuda", precision="float16", cfg="split", places=everywhere("streamed"), keep_loaded=False)
MAPPED = frozenset({"unet"})


def foretold(ram_gib: float, disk_read_rate: float = SATA, plan: Plan = STREAMED, mapped: frozenset[str] = MAPPED):
    found, _ = made_up(job(), plan)
    machine = replace(card(8), ram_free_bytes=int(ram_gib * GIB), disk_read_rate=disk_read_rate)
    return predict(found, job(), plan, machine, mapped=mapped)


def unet_bytes() -> int:
    return sum(made_up(job(), STREAMED)[0].blocks["unet"].sizes)


def test_what_ram_holds_is_read_once():
    assert foretold(64).read_again_bytes == foretold(64, NVME).read_again_bytes == 0
    assert foretold(64).seconds == foretold(64, NVME).seconds


def test_what_it_does_not_hold_comes_from_the_disk_in_every_pass():
    little, much = foretold(3), foretold(64)
    # Half of what is left beside the process is locked, and stays; the rest comes round in order.
    ram = 3 * GIB - HOST_BASELINE_BYTES["cuda"] - max(WEIGHTS["text_encoder"], WEIGHTS["vae"])
    assert little.read_again_bytes == pytest.approx(unet_bytes() - ram / 2, abs=1)
    assert little.verdict == "fits"
    passes = 2 * job().num_inference_steps
    assert little.seconds > passes * little.read_again_bytes / SATA * 0.95
    assert foretold(3, SPINNING).seconds > 2 * little.seconds > 2 * much.seconds
    assert foretold(3, 1e12).seconds == pytest.approx(much.seconds, rel=0.05)


def test_the_share_that_is_read_again():
    assert [read_share(1000, ram) for ram in (1000, 999, 500, 0, -1)] == [0.0, 1 - 999 / 2000, 0.75, 1.0, 1.0]
    assert read_share(0, -1) == 0.0  # all of it stays on the card


def test_what_stays_on_the_card_is_not_read_again():
    sizes = made_up(job(), STREAMED)[0].blocks["unet"].sizes
    kept = replace(STREAMED, places=(*everywhere("streamed"), Placement("unet", "streamed", sum(sizes), 2)))
    assert foretold(3, SPINNING, kept).seconds < foretold(3, SPINNING).seconds / 10


def test_weights_that_have_to_be_copied_are_no_matter_of_the_disk():
    copied = foretold(3, mapped=frozenset())
    assert copied.read_again_bytes == 0
    assert copied.verdict == "wont_fit"


def test_the_person_is_told():
    machine = replace(card(1.5), ram_free_bytes=3 * GIB, disk_read_rate=SATA)
    for mapped, wanted in ((MAPPED, True), (frozenset(), False)):
        planner = Planner(machine, made_up, mapped=lambda precision, mapped=mapped: mapped)
        said = [one.id for one in why(planner.plan(job(), STREAMED, ("offload",), look_around=False))]
        assert ("planning.read_again" in said) is wanted


@pytest.mark.parametrize(
    ("disk", "files", "wanted"),
    [
        ("nvme0n1", {"queue/rotational": "0"}, NVME),
        ("sda", {"queue/rotational": "0"}, SATA),
        ("sda", {"queue/rotational": "1"}, SPINNING),
        ("vda", {"queue/rotational": "1"}, SATA),  # a virtual machine's, whatever it says
        ("sda", {"queue/x": ""}, SATA),
    ],
)
@pytest.mark.parametrize("where", ["whole", "partition", "encrypted"])
def test_a_disk_is_as_fast_as_its_kind(tmp_path: Path, disk: str, files, wanted: float, where: str) -> None:
    number = tmp_path.stat().st_dev
    devices, system = tmp_path / "dev", tmp_path / "system"
    devices.mkdir()
    for name, text in files.items():
        (system / disk / name).parent.mkdir(parents=True, exist_ok=True)
        (system / disk / name).write_text(text)
    seen = system / disk
    if where != "whole":
        seen = system / disk / f"{disk}1"
        seen.mkdir()
    if where == "encrypted":
        (system / "dm-0" / "slaves").mkdir(parents=True)
        (system / "dm-0" / "slaves" / seen.name).symlink_to(seen)
        seen = system / "dm-0"
    (devices / f"{os.major(number)}:{os.minor(number)}").symlink_to(seen)
    assert read_rate(tmp_path / "not" / "there", devices) == wanted


def test_a_disk_that_is_not_known_counts_as_an_ordinary_one(tmp_path: Path) -> None:
    assert read_rate(tmp_path, tmp_path) == SATA
