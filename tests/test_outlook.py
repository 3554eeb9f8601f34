"""What each model would do on a machine, in which order they are told, and which one a page begins with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from jobs_support import settings_in
from machines import card, no_card
from model_folders import make_checkpoint
from page_support import FixedProbe

from i2v.families import SPECS
from i2v.families.spec import InputSlot, Licence, Strength
from i2v.hardware.probe import Probe
from i2v.jobs.asked import outlook as outlook_module
from i2v.jobs.asked.outlook import STANDINGS, Outlook, begins_with, instead_of, proposed, sound
from i2v.jobs.asked.plans import Plans
from i2v.jobs.service import JobService
from i2v.messages import LOCALES, message
from i2v.planning.rates import find_card
from i2v.units import GIB

RTX_3060 = "NVIDIA GeForce RTX 3060"


def with_card(free_gib: float, total_gib: float, name: str = RTX_3060) -> Probe:
    reading = card(free_gib, total_gib)
    gpu = replace(reading.gpu, name=name)
    return replace(reading, gpus=(gpu,), gpu=gpu)


@contextmanager
def service_on(folder: Path, reading: Probe, preset: str = "12gb", **more: object) -> Iterator[JobService]:
    settings, _ = settings_in(folder, cpu=False, preset=preset, **more)
    with JobService(settings, FixedProbe(reading), plans=Plans(None)) as service:
        yield service


def found_on(folder: Path, reading: Probe, preset: str = "12gb") -> list[Outlook]:
    with service_on(folder, reading, preset) as service:
        return service.outlooks()


def named(found: list[Outlook], name: str) -> Outlook:
    return next(one for one in found if one.entry.name == name)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_family_says_what_the_page_tells_of_it(spec):
    missing = [name for name in ("about", "licence") if not getattr(spec, name)]
    assert missing == [], "its spec is to say this"
    assert spec.licence.url is None or spec.licence.url.startswith("https://huggingface.co/")
    assert (spec.licence.url is None) == spec.comes_with_the_app
    for locale in LOCALES if spec.strength else ():  # without one it is never proposed
        assert message(spec.strength.reason).render(locale) != spec.strength.reason
    assert begins_with(spec)


def test_the_plan_of_each_model_is_the_one_that_the_form_would_be_answered_with(tmp_path):
    with service_on(tmp_path, with_card(11, 12)) as service:
        found = service.outlooks()
        for one in found:
            plan, _ = service.plan({"model": one.entry.name})
            assert (one.planned is None) == (plan is None)
            assert plan is None or one.planned.prediction == plan.prediction
            assert plan is None or one.planned.plan == plan.plan
    assert {one.entry.family for one in found} == set(SPECS)


@pytest.mark.parametrize("reading", [with_card(11, 12), with_card(2, 6), with_card(76, 80), no_card()])
def test_those_that_work_best_come_first_and_those_on_disk_before_others(tmp_path, reading):
    make_checkpoint(tmp_path / "models" / "mine", SPECS["i2vgen_xl"])
    found = found_on(tmp_path, reading)
    places = [(STANDINGS.index(one.standing), not one.entry.present) for one in found]
    assert places == sorted(places)
    assert found[0].entry.name == "nano"


def test_what_is_short_is_told_where_it_does_not_fit_and_what_would_be_faster_where_it_does(tmp_path):
    short_of_ram = with_card(5.5, 6)
    short_of_ram = replace(short_of_ram, host=replace(short_of_ram.host, ram_available_bytes=4 * GIB))
    found = found_on(tmp_path, short_of_ram, "06gb")
    large = named(found, "HunyuanVideo")
    assert large.standing == "wont_fit"
    short = large.planned.prediction.shortages("cuda")[0]
    assert large.holds_back.id == f"planning.short_{short.place}"
    assert found.index(large) > found.index(named(found, "nano"))
    slow = named(found_on(tmp_path, with_card(2, 6), "06gb"), "i2vgen-xl")
    assert slow.holds_back.id == "planning.faster_card"


def test_without_a_card_what_ram_cannot_hold_is_told_though_nobody_ran_it_dry(tmp_path):
    def on(ram_gib: float) -> Outlook:
        reading = no_card()
        host = replace(reading.host, ram_available_bytes=int(ram_gib * GIB))
        found = found_on(tmp_path / str(ram_gib), replace(reading, host=host), "cpu")
        return named(found, "Wan2.1-T2V-14B-Diffusers")

    assert (on(24).standing, on(24).holds_back.id) == ("wont_fit", "planning.weights_short_ram")
    assert (on(96).standing, on(96).holds_back) == ("unknown", None)


def test_what_takes_the_time_is_told_where_a_video_takes_some(tmp_path):
    """Arithmetic, on a card with memory; where weights stream over a slow link, that."""
    found = found_on(tmp_path, with_card(11, 12))
    assert named(found, "HunyuanVideo").holds_back.id == "planning.limit_arithmetic"
    assert named(found, "nano").holds_back is None
    slow = replace(find_card(RTX_3060), link=1e7, link_locked=0.0)
    with service_on(tmp_path / "slow", with_card(5.5, 6), "06gb") as service:
        asked = service._plans.asked(service.resolve({"model": "HunyuanVideo"}), with_card(5.5, 6))
        asked = replace(asked, machine=replace(asked.machine, rates=slow))
        assert service._plans.limit(asked, service._plans.at_once(asked)) == "link"


def test_a_second_look_works_out_only_what_has_changed(tmp_path, monkeypatch):
    asked = []
    at_once = Plans.at_once
    monkeypatch.setattr(Plans, "at_once", lambda self, *one, **more: asked.append(one) or at_once(self, *one, **more))
    with service_on(tmp_path, with_card(11.01, 12)) as service:
        first = service.outlooks()
        service._probe.reading = with_card(11.02, 12)  # some megabytes come and go
        assert service.outlooks() == first
        assert len(asked) == len(first)
        service._probe.reading = with_card(2, 12)
        assert named(service.outlooks(), "HunyuanVideo") != named(first, "HunyuanVideo")
        before = len(asked)
        monkeypatch.setattr(Plans, "known_rows", -1)  # a model has been run dry meanwhile
        service.outlooks()
        assert len(asked) == before + len(first)


def test_a_service_that_is_ready_has_worked_the_list_out(tmp_path, monkeypatch):
    with service_on(tmp_path, with_card(11, 12), preload=False) as service:
        service.get_ready()
        monkeypatch.delattr(Plans, "at_once")
        assert named(service.outlooks(), "i2vgen-xl").standing == "fits"


def test_a_model_that_takes_hours_is_slow_and_stands_behind_those_that_do_not(tmp_path):
    found = found_on(tmp_path, with_card(11, 12))
    assert named(found, "HunyuanVideo").standing == "slow"
    assert named(found, "HunyuanVideo").planned.prediction.verdict == "fits"
    assert found.index(named(found, "i2vgen-xl")) < found.index(named(found, "HunyuanVideo"))


def test_a_damaged_model_comes_last_and_says_why(tmp_path):
    folder = make_checkpoint(tmp_path / "models" / "mine", SPECS["i2vgen_xl"])
    (folder / "unet" / "config.json").unlink()
    last = found_on(tmp_path, with_card(11, 12))[-1]
    assert (last.entry.name, last.standing) == ("mine", "damaged")
    assert last.holds_back == last.entry.problem


def test_the_strongest_that_fits_well_is_proposed_and_never_without_a_card(tmp_path):
    found = found_on(tmp_path, with_card(11, 12))
    assert proposed(found, offline=False).entry.name == "LTX-Video"
    assert instead_of(proposed(found, offline=False), found).entry.name == "nano"
    assert proposed(found_on(tmp_path, no_card()), offline=False) is None


def test_what_is_not_here_is_not_proposed_offline(tmp_path):
    found = found_on(tmp_path, with_card(11, 12))
    assert proposed(found, offline=True).entry.name == "nano"


def test_a_large_card_is_not_proposed_what_some_countries_may_not_use_or_what_makes_nothing_of_a_photograph(
    tmp_path, monkeypatch
):
    """HunyuanVideo I2V fits there in some minutes, and is stronger than the small Wan 2.2. The large ones of Wan are
    too much to download, or make videos of sentences alone."""
    found = found_on(tmp_path, with_card(76, 80, "NVIDIA H100 80GB HBM3"), "80gb")
    large = named(found, "HunyuanVideo-I2V")
    assert large.standing == "fits"
    monkeypatch.setattr(outlook_module, "WAITED_SECONDS", large.planned.prediction.seconds)
    assert proposed(found, offline=False).entry.name == "Wan2.2-TI2V-5B-Diffusers"
    free = replace(large.spec, licence=Licence("Apache 2.0", "https://huggingface.co/x"))
    monkeypatch.setitem(SPECS, "hunyuan_video_i2v", free)
    assert (
        proposed(found, offline=False).entry.name == "Wan2.2-TI2V-5B-Diffusers"
    )  # 43 GiB are more than a page begins with
    monkeypatch.setattr(outlook_module, "FETCHED_BYTES", large.entry.size_bytes)
    assert proposed(found, offline=False).entry.name == "HunyuanVideo-I2V"
    monkeypatch.setattr(outlook_module, "WAITED_SECONDS", large.planned.prediction.seconds - 1)
    assert proposed(found, offline=False).entry.name == "Wan2.2-TI2V-5B-Diffusers"
    monkeypatch.setattr(outlook_module, "WAITED_SECONDS", large.planned.prediction.seconds)
    monkeypatch.setattr(outlook_module, "FETCHED_BYTES", 0)
    here = [replace(one, entry=replace(one.entry, present=one is large or one.entry.present)) for one in found]
    assert proposed(here, offline=False).entry.name == "HunyuanVideo-I2V"


@pytest.mark.parametrize(
    "inputs",
    [
        {"i2v": (InputSlot("image"), InputSlot("image", at=-1))},
        {"i2v": (InputSlot("image"), InputSlot("audio", at=None))},
        {"t2v": ()},
    ],
    ids=["two pictures", "a sound", "no picture"],
)
def test_what_a_photograph_alone_is_not_enough_for_is_not_proposed(tmp_path, monkeypatch, inputs):
    found = found_on(tmp_path, with_card(11, 12))
    monkeypatch.setitem(SPECS, "ltx", replace(SPECS["ltx"], inputs=inputs))
    assert proposed(found, offline=False).entry.name == "i2vgen-xl"


def test_what_reads_no_sentence_is_not_proposed(tmp_path, monkeypatch):
    """Stable Video Diffusion stands above I2VGen-XL, and the page asks for a sentence."""
    found = found_on(tmp_path, with_card(11, 12))
    monkeypatch.setitem(SPECS, "ltx", replace(SPECS["ltx"], inputs={"t2v": ()}))
    assert SPECS["svd"].strength.rank > SPECS["i2vgen_xl"].strength.rank
    assert named(found, SPECS["svd"].hub_id.split("/")[1]).standing == "fits"
    assert proposed(found, offline=False).entry.name == "i2vgen-xl"


def test_a_family_needs_nothing_but_its_spec_to_be_told_of(tmp_path, monkeypatch):
    """One with sound, that takes a first and a last picture, and that nobody has run dry yet."""
    spec = replace(
        SPECS["i2vgen_xl"],
        name="new",
        title="New",
        class_name="NewPipeline",
        hub_id="somebody/New",
        inputs={"i2v": (InputSlot("image"), InputSlot("image", at=-1, needed=False)), "t2v": ()},
        audio_rate=48_000,
        strength=Strength(90, "family.strength_wan"),
    )
    monkeypatch.setitem(SPECS, "new", spec)
    found = named(found_on(tmp_path, with_card(11, 12)), "New")
    assert found.standing == "unknown"
    words = [one.render("en") for one in (*begins_with(found.spec), sound(found.spec))]
    assert words == ["from a photograph", "first and last picture", "from a sentence alone", "with sound"]
    assert found.to_json("en")["sound"] is True
