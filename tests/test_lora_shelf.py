"""The shelf of LoRAs as the page shows it: rows, what comes back with a model, words for the sentence, and /loras."""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest
from jobs_support import settings_in
from page_support import is_skip
from safetensors.torch import save_file

from i2v.families import SPECS
from i2v.messages import message
from i2v.models.adapters import FOLDER, AdapterFile
from i2v.models.catalogue import find_model
from i2v.models.lora_about import AboutLora
from i2v.models.lora_list import ListedLora, list_loras
from i2v.settings.settings import Settings
from i2v.ui.create import choose_loras
from i2v.ui.create.choose_loras import loras_for, rows_for, with_word
from i2v.ui.create.lora_rows import MOST_OTHERS, LoraRow, lora_rows
from tests.lora_files import DIFFUSERS, MUSUBI, named, pairs

WAN = named(pairs({"blocks.0.self_attn.q": (16, 16)}, 4, 0), MUSUBI)
NANO = named(pairs({"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": (8, 8)}, 2, 0), DIFFUSERS)
LITTLE = "Wan2.1-T2V-1.3B-Diffusers"
HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """With a LoRA for Wan, one for nano, and a broken one."""
    settings, _ = settings_in(tmp_path)
    folder = settings.models_dir / FOLDER
    folder.mkdir(parents=True)
    save_file(WAN, folder / "paper.safetensors", {"modelspec.trigger_phrase": "paper cut"})
    save_file(NANO, folder / "drift.safetensors")
    (folder / "broken.safetensors").write_bytes(b"x" * 50)
    return settings


def rows_of(html: str) -> dict[str, str]:
    """Each row by its name, in their order."""
    return {one[1]: one[0] for one in re.finditer(r'<li class="i2v-lora[^>]* data-lora="([^"]*)".*?</li>', html)}


def test_what_the_model_takes_comes_first_and_the_rest_says_why_it_cannot_be_ticked(settings: Settings) -> None:
    rows = rows_of(rows_for(LITTLE, settings, "en"))
    assert list(rows) == ["paper", "broken", "drift"]
    assert "disabled" not in rows["paper"]
    reasons = {"broken": "broken is not a safetensors file", "drift": "drift is for another model than Wan"}
    for name, reason in reasons.items():
        described = re.search(r'<input type="checkbox" disabled aria-describedby="([^"]+)"', rows[name])
        told = re.search(rf'id="{described[1]}">([^<]*)<', rows[name])
        assert told[1].startswith(reason)
        assert str(settings.models_dir) not in told[1]
    assert next(iter(rows_of(rows_for("nano", settings, "zh-CN")))) == "drift"
    assert rows_for("nobody", settings, "en") == ""


def test_nothing_that_a_file_says_is_markup() -> None:
    about = AboutLora((2, 4), HOSTILE, HOSTILE, (HOSTILE,), HOSTILE)
    html = lora_rows(
        [LoraRow(ListedLora(AdapterFile(HOSTILE, Path("x"), 5, (), None, about), None, HOSTILE))], "f", "en"
    )
    assert "<script" not in html
    assert html.count(escape(HOSTILE)) >= 7


@pytest.mark.parametrize("count", [MOST_OTHERS, MOST_OTHERS + 1])
def test_many_for_other_models_are_folded_away(count: int) -> None:
    refusal = message("family.adapters_not_taken", model="Nano")
    files = [AdapterFile(f"{number:02}", Path("x"), 5, ("wan",), None) for number in range(count + 2)]
    rows = [LoraRow(ListedLora(one, refusal if place < count else None)) for place, one in enumerate(files)]
    html = lora_rows(rows, "f", "en")
    before, _, folded = html.partition("<details")
    assert [*rows_of(before), *rows_of(folded)] == [f"{number:02}" for number in (count, count + 1, *range(count))]
    assert len(rows_of(folded)) == (count if count > MOST_OTHERS else 0)
    assert ("For other models: 5" in folded) is (count > MOST_OTHERS)
    described = re.findall(r'aria-describedby="([^"]+)"', html)
    assert len(set(described)) == count
    assert all(html.count(f'id="{one}"') == 1 for one in described)
    assert "search" not in html
    assert 'type="search"' in lora_rows(rows * 3, "f", "en")


@pytest.mark.parametrize(
    ("kept", "loras", "told"),
    [
        ({LITTLE: ["paper:0.5"]}, ["drift"], ["paper:0.5"]),
        ({LITTLE: []}, ["paper"], []),
        ({}, ["drift:0.3", "paper:1.5", "/elsewhere/x"], ["paper:1.5", "/elsewhere/x"]),
        (None, None, []),
        ({LITTLE: "paper"}, ["paper"], ["paper"]),
    ],
)
def test_a_model_that_comes_back_brings_its_loras(settings: Settings, kept, loras, told) -> None:
    assert loras_for(kept, LITTLE, loras, settings) == told


def test_a_model_that_takes_none_changes_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS, "wan", replace(SPECS["wan"], lora_names=None))
    assert is_skip(loras_for({}, LITTLE, ["paper"], settings))
    assert is_skip(loras_for({}, "nobody", ["paper"], settings))


def test_a_word_goes_into_the_sentence_once() -> None:
    assert with_word("words", "paper cut", "en", "waves") == "waves, paper cut"
    assert with_word("words", "paper cut", "zh-CN", "海浪") == "海浪，paper cut"
    assert with_word("words", "paper cut", "en", "a Paper Cut sea") == "a Paper Cut sea"
    for act, word in (("choose", "x"), ("words", None), ("words", "x" * 1000), ("words", "")):
        assert is_skip(with_word(act, word, "en", "waves"))


def test_clients_are_told_what_the_page_shows(settings: Settings) -> None:
    model = find_model(LITTLE, replace(settings, offline=True))
    told = {one.file.name: one.to_json("en") for one in list_loras(settings, model)}
    assert told["paper"]["refusal"] is None
    assert (told["paper"]["ranks"], told["paper"]["trigger_words"]) == ([4, 4], ["paper cut"])
    assert "wan" in told["paper"]["families"]
    assert told["drift"]["refusal"].startswith("drift is for another model")
    assert told["broken"]["families"] == []


def test_no_style_asks_for_one_of_several_within_has() -> None:
    """Gradio puts its own selector before what follows a comma, wherever that stands, and then nothing is found."""
    style = (Path(choose_loras.__file__).parents[1] / "style.css").read_text(encoding="utf-8")
    assert re.findall(r":has\([^()]*,[^)]*\)", style) == []
