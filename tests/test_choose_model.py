"""Choosing a model: which one a page begins with, what its cards say, and what a choice does to the form."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cli_support import i2v
from jobs_support import fake_model, settings_in
from machines import card, no_card
from model_folders import make_checkpoint
from page_support import FixedProbe, is_skip

from i2v.families import SPECS
from i2v.hardware.probe import MemoryProbe, Probe
from i2v.jobs.asked.plans import Plans
from i2v.jobs.service import JobService
from i2v.models.catalogue import find_model
from i2v.ui.create import form
from i2v.ui.create.asking import asked_first, download_told
from i2v.ui.create.choose_model import taken
from i2v.ui.create.first_model import FirstModel, first_model
from i2v.ui.create.model_cards import model_cards
from i2v.ui.page import _Page
from i2v.units import GIB

PUBLISHED = Path(__file__).parents[1] / "i2v/families/i2vgen_xl/configs"


def a_card(free_gib: float = 11, **more: object) -> Probe:
    reading = card(free_gib, 12)
    gpu = replace(reading.gpu, name="NVIDIA GeForce RTX 3060", **more)
    return replace(reading, gpus=(gpu,), gpu=gpu)


def first_on(folder: Path, reading: Probe, **overrides: object) -> FirstModel:
    settings, _ = settings_in(folder, cpu=False, preset="12gb", **overrides)
    with JobService(settings, FixedProbe(reading), plans=Plans(None)) as service:
        return first_model(service, settings, reading)


def test_with_a_card_a_page_begins_with_the_strongest_that_runs_well_and_says_so_in_one_sentence(tmp_path):
    first = first_on(tmp_path, a_card())
    assert (first.name, first.other, first.other_title) == ("LTX-Video", "nano", "Nano")
    told = first.told.render("en")
    assert told.endswith("about 5 min a video after a download of 26.5 GiB.")
    assert told.count(". ") == 0
    assert "26.5 GiB" in first.told.render("zh-CN")


def test_what_is_here_needs_no_download(tmp_path):
    folder = make_checkpoint(tmp_path / "models" / "i2vgen-xl", SPECS["i2vgen_xl"])
    shutil.copytree(PUBLISHED, folder, dirs_exist_ok=True)
    first = first_on(tmp_path, a_card(), offline=True)
    assert first.name == "i2vgen-xl"
    assert "download" not in first.told.render("en")


@pytest.mark.parametrize(
    ("reading", "overrides"),
    [
        (no_card(), {}),
        (a_card(simulated=True), {}),
        (a_card(), {"model": "nano"}),
        (a_card(), {"offline": True}),
        (a_card(0.2), {}),
    ],
    ids=["no card", "simulated", "chosen in the settings", "offline", "no room"],
)
def test_otherwise_it_is_the_settings_own_and_nothing_is_said(tmp_path, reading, overrides):
    assert first_on(tmp_path, reading, **overrides) == FirstModel("nano")


def test_the_page_is_laid_out_for_the_model_that_it_begins_with(tmp_path):
    settings, _ = settings_in(tmp_path, cpu=False, preset="12gb")
    probe = FixedProbe(a_card())
    with JobService(settings, probe, plans=Plans(None)) as service:
        page = _Page(service, settings, probe)
        named = {name: one.value for name, one in page.form.fields.items()}
        assert (named["model"], named["steps"], named["frames"]) == ("LTX-Video", 50, 121)
        note = page.answers._model_note("LTX-Video", "en", page.answers._resolved(raw("LTX-Video")))
        other = page.answers._model_note("nano", "en", page.answers._resolved(raw("nano")))
    assert 'data-id="nano">Take Nano instead</button>' in note
    assert "chosen for this machine" not in other


def raw(model: str) -> list[object]:
    return [model if name == "model" else None for name in form.FIELDS]


def test_a_card_chooses_as_the_field_does_and_only_what_is_in_the_list(tmp_path):
    settings, _ = settings_in(tmp_path)
    kept = {"at": "", "by": {"nano auto": ["picture", "standard", 512, 512, 96, 24, 25, 1.0]}}
    numbers, model = taken(kept, "nano", "auto", "choose", "i2vgen-xl", settings)
    assert (numbers["at"], model) == ("nano auto", "i2vgen-xl")
    assert numbers["by"] == kept["by"]
    for act, name in (("choose", "/etc"), ("delete", "nano"), (None, None)):
        assert all(map(is_skip, taken(kept, "nano", "auto", act, name, settings)))


def test_names_of_folders_are_no_html_and_what_is_damaged_has_no_button(tmp_path):
    make_checkpoint(tmp_path / "models" / "<b>", SPECS["i2vgen_xl"])
    (make_checkpoint(tmp_path / "models" / "torn", SPECS["i2vgen_xl"]) / "vae" / "config.json").unlink()
    settings, probe = settings_in(tmp_path)
    with JobService(settings, probe, plans=Plans(None)) as service:
        for locale in ("en", "zh-CN"):
            shown = model_cards(service.outlooks(), "nano", locale)
            assert "<b>" not in shown
            assert 'data-id="&lt;b&gt;"' in shown
            assert 'data-id="torn"' not in shown
            assert shown.count('aria-pressed="true"') == 1
            assert shown.count("<li class=") == len(SPECS) + 2


def test_models_that_do_not_work_here_are_folded_unless_one_of_them_is_chosen(tmp_path):
    settings, _ = settings_in(tmp_path)
    little = replace(no_card().host, ram_available_bytes=8 * GIB)
    with JobService(settings, FixedProbe(replace(no_card(), host=little)), plans=Plans(None)) as service:
        found = service.outlooks()
        others = [one for one in found if one.standing == "wont_fit"]
        shown, behind = model_cards(found, "nano", "en").split("<details")
        assert "open" not in behind.partition(">")[0]
        assert f"({len(others)})" in behind
        assert 'data-id="nano"' in shown
        for one in found:
            assert (f'data-id="{one.entry.name}"' in behind) == (one in others)
        assert " open>" in model_cards(found, others[0].entry.name, "en")
        assert "<details" not in model_cards([one for one in found if one not in others], "nano", "en")


def test_the_page_asks_before_gigabytes_are_downloaded(tmp_path):
    settings, probe = settings_in(tmp_path)
    fake_model(tmp_path)
    assert [download_told(find_model(name, settings), "en") for name in ("nano", "small")] == ["", ""]
    told = "I2VGen-XL is not on this computer yet: 4.7 GiB are downloaded first."
    with JobService(settings, probe, plans=Plans(None)) as service:
        assert asked_first(service, {"model": "i2vgen-xl"}, "en") == f"{told} Start it?"  # its plan is not known
        assert asked_first(service, {"model": "nano"}, "en") == ""
    with JobService(settings, FixedProbe(a_card()), plans=Plans(None)) as service:
        hours = {"model": "HunyuanVideo", "preset": "12gb", "width": 960, "height": 544, "frames": 129}
        asked = asked_first(service, hours, "en")
    assert re.fullmatch(r"HunyuanVideo is not .* 39\.0 GiB are downloaded first\. This run will .*\. Start it\?", asked)


def test_the_command_line_lists_the_same(tmp_path, monkeypatch):
    listed = i2v(tmp_path, "models", "--json", "--cpu")
    assert listed.returncode == 0, listed.stderr
    rows = json.loads(listed.stdout)
    assert {one["name"] for one in rows} >= {"nano", "i2vgen-xl"}
    assert rows[0]["standing"] == "fits"
    monkeypatch.setattr(MemoryProbe, "read", lambda self: a_card())
    told = i2v(tmp_path, "models", "--preset", "12gb").stdout
    assert told.index("nano  Fits") < told.index("i2vgen-xl  Fits") < told.index("HunyuanVideo  Fits, but very slow")
    assert "Tencent Hunyuan Community, 39.0 GiB to download" in told
