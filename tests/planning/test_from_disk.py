"""Weights that RAM does not hold come from the disk in every step: told, and in the time that is foretold."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from i2v.hardware.disk import NVME, SATA, SPINNING, STRETCH_BYTES, measured_read_rate, read_rate
from i2v.jobs.asked import plans
from i2v.models.entry import ModelEntry
from i2v.models.weight_files import Reading
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.cost import predict
from i2v.planning.machine import HOST_BASELINE_BYTES, Machine
from i2v.planning.measured import DiskRates
from i2v.planning.pipeline import read_share
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
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


def test_what_a_simulated_card_copies_comes_from_the_disk_too():
    """Nothing is locked there, and nothing is copied beside the computing. While it is copied more is read."""
    found, _ = made_up(job(), STREAMED)
    passes = 2 * job().num_inference_steps

    def foretold_with(ram_gib: float, disk_read_rate: float = SPINNING):
        ram = int(ram_gib * GIB)
        machine = Machine("simulated", host_rates(2), 8 * GIB, ram, 500 * GIB, disk_read_rate=disk_read_rate)
        return predict(found, job(), replace(STREAMED, device="simulated"), machine, mapped=frozenset(WEIGHTS))

    little, much = foretold_with(3), foretold_with(64)
    assert (little.read_again_bytes, much.read_again_bytes) == (unet_bytes(), 0)
    read_only = passes * unet_bytes() * (1 / SPINNING - 1 / host_rates(2).link)
    assert little.seconds - much.seconds == pytest.approx(read_only)
    assert foretold_with(3, 2 * host_rates(2).link).seconds == pytest.approx(much.seconds)
    assert little.verdict == "fits"


def test_the_rate_that_was_measured_is_told_with_what_a_step_waits():
    machine = replace(card(1.5), ram_free_bytes=3 * GIB, disk_read_rate=SATA)
    for measured, wanted in ((True, "planning.read_again_measured"), (False, "planning.read_again")):
        planner = Planner(replace(machine, disk_measured=measured), made_up, mapped=lambda precision: MAPPED)
        planned = planner.plan(job(), STREAMED, ("offload",), look_around=False)
        (said,) = (one for one in why(planned) if one.id.startswith("planning.read_again"))
        assert said.id == wanted
        assert said.params["rate"] == "450"
        read_bytes = planned.prediction.read_again_bytes
        assert float(said.params["seconds"]) == pytest.approx(read_bytes / SATA, rel=0.01)


ON_PROCESSOR = Plan(device="cpu", precision="float16", cfg="split")
SHORT, ROOMY = 3.0, 64.0  # GiB: all weights together have 3.3


def processor(ram_gib: float, disk_read_rate: float = SATA) -> Machine:
    ram = int(ram_gib * GIB)
    return Machine("cpu", host_rates(2), ram, ram, 500 * GIB, disk_read_rate=disk_read_rate)


def on_processor(machine: Machine, mapped: frozenset[str] = frozenset(WEIGHTS), fixed: tuple[str, ...] = ("cfg",)):
    planner = Planner(machine, made_up, mapped=lambda precision: mapped)
    planned = planner.plan(job(64, 64), ON_PROCESSOR, (*fixed, "offload"), look_around=False)
    assert planned is not None
    return planned


def test_a_processor_computes_with_weights_that_ram_has_no_room_for():
    """As they lie in their files: nothing has to be free for them but for the blocks that are in use."""
    little, much = on_processor(processor(SHORT)), on_processor(processor(ROOMY))
    assert (little.prediction.verdict, much.prediction.verdict) == ("fits", "fits")
    assert (little.plan.offload, much.plan.offload) == ("streamed", "resident")
    assert next(one.id for one in why(little)) == "planning.offload_files"
    assert much.prediction.read_again_bytes == 0


def test_a_processor_reads_what_ram_does_not_hold_in_every_step():
    """One after the other with its computing, since it waits for each page."""
    found, _ = made_up(job(64, 64), ON_PROCESSOR)
    streamed = replace(ON_PROCESSOR, places=everywhere("streamed"))
    size = sum(found.blocks["unet"].sizes)

    def foretold_with(ram_gib: float):
        return predict(found, job(64, 64), streamed, processor(ram_gib, SPINNING), mapped=frozenset(WEIGHTS))

    little, much = foretold_with(2.5), foretold_with(ROOMY)
    assert (little.read_again_bytes, much.read_again_bytes) == (size, 0)
    passes = 2 * job().num_inference_steps
    assert little.seconds - much.seconds == pytest.approx(passes * size / SPINNING)


def test_what_a_processor_has_to_copy_must_fit():
    for mapped in (frozenset(), frozenset({"text_encoder"})):
        planned = on_processor(processor(2.5), mapped)
        assert planned.prediction.verdict == "wont_fit"
        assert planned.prediction.shortages("cpu")[0].place == "ram"
    # In eight bits they are copies, whatever the files hold.
    found, _ = made_up(job(64, 64), replace(ON_PROCESSOR, weights="int8"))
    streamed = replace(ON_PROCESSOR, weights="int8", places=everywhere("streamed"))
    stored = predict(found, job(64, 64), streamed, processor(2.5), mapped=frozenset(WEIGHTS))
    assert stored.read_again_bytes == 0
    assert stored.ram_peak_bytes > found.weights["unet"]


def test_what_loras_add_lies_in_no_file():
    plain, _ = made_up(job(64, 64), ON_PROCESSOR)
    streamed = replace(ON_PROCESSOR, places=everywhere("streamed"))
    with_them = [
        predict(found, job(64, 64), streamed, processor(SHORT), mapped=frozenset(WEIGHTS)).ram_peak_bytes
        for found in (plain, plain.with_adapters(GIB))
    ]
    assert with_them[1] - with_them[0] >= GIB


def test_what_loading_reads_is_foretold():
    found, _ = made_up(job(), STREAMED)
    readings = {"unet": Reading(GIB, False), "vae": Reading(GIB // 4, False), "of no phase": Reading(GIB, False)}
    machine = replace(card(8), ram_free_bytes=64 * GIB, disk_read_rate=SATA)
    without, loads = (predict(found, job(), STREAMED, machine, readings=one) for one in ({}, readings))
    assert (without.load_bytes, loads.load_bytes) == (0, GIB + GIB // 4)
    assert loads.load_seconds == pytest.approx(loads.load_bytes / SATA)
    assert loads.seconds - without.seconds == pytest.approx(loads.load_seconds)


def test_what_ram_does_not_hold_is_not_looked_through_where_it_is_as_published():
    """It would be read, and be gone when its turn comes."""
    found, _ = made_up(job(), STREAMED)
    for ram_gib, published, wanted in ((3, True, 0), (3, False, GIB), (64, True, GIB)):
        machine = replace(card(8), ram_free_bytes=ram_gib * GIB, disk_read_rate=SATA)
        readings = {"unet": Reading(GIB, published)}
        assert predict(found, job(), STREAMED, machine, mapped=MAPPED, readings=readings).load_bytes == wanted


def test_the_person_is_told_what_loading_takes():
    machine = replace(card(8), disk_read_rate=SATA)
    for cold, wanted in ((GIB, True), (2**20, False)):
        read = {"unet": Reading(cold, False)}
        planner = Planner(machine, made_up, readings=lambda precision, read=read: read)
        planned = planner.plan(job(), STREAMED, look_around=False)
        told = [one.params for one in why(planned) if one.id == "planning.load"]
        assert told == ([{"gib": "1.00", "seconds": "2"}] if wanted else [])


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    """On a disk, and written to it: what is only in memory cannot be forgotten."""
    folder = tmp_path / "transformer"
    folder.mkdir()
    with (folder / "diffusion_pytorch_model.safetensors").open("wb") as file:
        for _ in range(3):
            file.write(os.urandom(STRETCH_BYTES))
        file.flush()
        os.fsync(file.fileno())
    return folder / "diffusion_pytorch_model.safetensors"


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="the system does not say what it has kept")
def test_a_disk_is_measured_on_files_that_the_system_has_to_read(large_file: Path) -> None:
    measured = measured_read_rate([large_file])
    if measured is None:
        pytest.skip("these files are on no disk")
    assert 1e6 < measured < 1e11
    with large_file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as held:
        held[:: mmap.PAGESIZE]  # mapped elsewhere, it stays in RAM: that says nothing of the disk
        assert measured_read_rate([large_file]) is None
        held[:1]


def test_little_says_nothing_of_a_disk(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(bytes(1000))
    assert measured_read_rate([tmp_path / "small"]) is measured_read_rate([]) is None
    assert measured_read_rate([tmp_path / "gone"]) is None


def test_a_disk_is_measured_once_and_kept(large_file: Path, tmp_path: Path, monkeypatch) -> None:
    folder = large_file.parents[1]
    entry = ModelEntry("model", "wan", "model", folder, None, True, 0, None)
    elsewhere = tmp_path / "elsewhere"  # where only a link leads to the weights
    (elsewhere / "transformer").mkdir(parents=True)
    (elsewhere / "transformer" / large_file.name).symlink_to(large_file)
    asked: list[Sequence[Path]] = []

    def measure(files: Sequence[Path]) -> float:
        asked.append(files)
        return 2e8

    monkeypatch.setattr(plans, "measured_read_rate", measure)
    for _ in range(2):  # two starts of the app
        with closing(plans.Plans(tmp_path / "planner")) as own:
            own.measure_disk(entry)
            own.measure_disk(replace(entry, folder=elsewhere))  # of the same disk
            own.measure_disk(replace(entry, folder=tmp_path / "empty"))
    assert asked == [(large_file,)]
    assert DiskRates(tmp_path / "planner" / "disks.json").get(folder) == 2e8
    assert DiskRates(tmp_path / "planner" / "disks.json").get(Path("/proc")) is None
