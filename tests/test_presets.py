"""Presets: whole, explained, picked from free memory, and each of them changes what runs."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import pytest
from machines import card, no_card, settings

from i2v.hardware.probe import Probe
from i2v.jobs.asked.prepare import build_plan, resolve
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.settings import settings as settings_module
from i2v.settings.keys import PRESET_KEYS
from i2v.settings.settings import PRESETS_DIR, pick_preset, preset_names, preset_notes, read_preset
from tests.photos import photograph

FOR_CARDS = ("06gb", "08gb", "12gb", "16gb", "24gb", "48gb", "80gb")
DECISIONS = ("precision", "chunk_frames", "chunk_pixels", "cfg", "offload", "decode_frames")
ALL_AT_ONCE = 10**9


def plan_of(preset: str) -> Plan:
    chosen = settings(card(100), preset=preset)
    return build_plan(resolve({"prompt": "a", "image": photograph(), "model": "i2vgen-xl"}, chosen), card(100))[0]


def test_the_presets_are_the_ones_promised() -> None:
    assert preset_names() == sorted((*FOR_CARDS, "cpu"))


@pytest.mark.parametrize("name", preset_names())
def test_every_key_of_a_preset_says_why(name: str) -> None:
    lines = (PRESETS_DIR / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    keys = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    assert {lines[number].partition(":")[0] for number in keys} == {*PRESET_KEYS, "needs_free_gib"}
    assert all(lines[number - 1].startswith("# ") for number in keys)


@pytest.mark.parametrize(
    ("probe", "preset"),
    [
        (no_card(), "cpu"),
        # What cards of each size have free beside a desktop, or as sold: T4, L4, L40S, H100.
        (card(5.4, 6), "06gb"),
        (card(7.2, 8), "08gb"),
        (card(11.2, 12), "12gb"),
        (card(14.6, 15), "16gb"),
        (card(15.4, 16), "16gb"),
        (card(22.0, 22.5), "24gb"),
        (card(23.3, 24), "24gb"),
        (card(44.2, 44.7), "48gb"),
        (card(79.1, 79.6), "80gb"),
        (card(139, 140), "80gb"),
        # Free memory decides, not size.
        (card(5.0, 12), "06gb"),
        (card(6.9, 24), "08gb"),
        (card(2.0, 80), "06gb"),
        (card(0.0, 24), "06gb"),
        # The driver keeps its figures to itself.
        (card(None, 12), "12gb"),
        (card(None, None), "06gb"),
    ],
)
def test_free_memory_picks_the_preset(probe: Probe, preset: str) -> None:
    assert pick_preset(probe) == preset


def test_a_card_below_the_smallest_preset_is_warned_about() -> None:
    (note,) = preset_notes("06gb", card(2.5, 4))
    assert note.id == "settings.preset_short"
    assert "2.5 GiB" in note.render("en")
    assert preset_notes("06gb", card(5.5)) == ()


def test_a_preset_for_cards_on_a_machine_without_one_is_noted() -> None:
    assert [note.id for note in preset_notes("12gb", no_card())] == ["settings.preset_without_card"]
    assert preset_notes("cpu", no_card()) == ()
    assert preset_notes("cpu", card(8)) == ()


def test_each_preset_changes_what_runs() -> None:
    plans = {name: plan_of(name) for name in preset_names()}
    for one, other in combinations(plans, 2):
        decisions = [[getattr(plans[name], key) for key in DECISIONS] for name in (one, other)]
        assert decisions[0] != decisions[1], f"{one} and {other} run alike"


def test_a_larger_card_never_gets_smaller_pieces() -> None:
    presets = [read_preset(name) for name in FOR_CARDS]
    for smaller, larger in pairwise(presets):
        assert smaller["needs_free_gib"] < larger["needs_free_gib"]
        for key in ("chunk_frames", "chunk_pixels", "decode_frames"):
            assert (smaller[key] or ALL_AT_ONCE) <= (larger[key] or ALL_AT_ONCE)
        for key in ("max_pixels", "max_frames", "max_steps"):
            assert smaller[key] <= larger[key]


def test_precision_and_placement_suit_the_machine() -> None:
    assert read_preset("cpu")["precision"] == "float32"
    assert {read_preset(name)["precision"] for name in FOR_CARDS} == {"float16"}
    smallest = read_preset("06gb")
    assert (smallest["chunk_frames"], smallest["cfg"], smallest["offload"]) == (1, "split", "staged")
    largest = read_preset("80gb")
    assert (largest["chunk_frames"], largest["cfg"], largest["offload"]) == (0, "batch", "resident")


@pytest.mark.parametrize(
    ("change", "message_id", "fragments"),
    [
        (("cfg: split", ""), "settings.preset_incomplete", ["presets/06gb.yaml", "cfg"]),
        (("cfg: split", "cfgg: split"), "settings.unknown_key_near", ["presets/06gb.yaml", "cfgg", "cfg"]),
        (("chunk_frames: 1", "chunk_frames: -1"), "settings.bad_whole", ["presets/06gb.yaml: chunk_frames"]),
        (("precision: float16", "precision: auto"), "settings.bad_choice", ["presets/06gb.yaml: precision"]),
    ],
)
def test_a_broken_preset_is_named(
    change: tuple[str, str], message_id: str, fragments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (PRESETS_DIR / "06gb.yaml").read_text(encoding="utf-8")
    assert change[0] in text
    (tmp_path / "06gb.yaml").write_text(text.replace(*change), encoding="utf-8")
    monkeypatch.setattr(settings_module, "PRESETS_DIR", tmp_path)
    with pytest.raises(UserError) as caught:
        read_preset("06gb")
    assert caught.value.message.id == message_id
    assert all(fragment in str(caught.value) for fragment in fragments)
