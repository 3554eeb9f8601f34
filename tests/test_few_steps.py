"""Fast, or full quality: the button, what it puts into the form, and what is told of LoRAs for few steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from jobs_support import settings_in
from machines import settings as plain_settings
from safetensors.torch import save_file

from i2v.families import SPECS
from i2v.jobs.asked.advice import request_notes
from i2v.models.adapters import FOLDER, adapter_numbers
from i2v.models.few_steps import found_for_few_steps, shift_for_few_steps
from i2v.request import Adapter, GenerationRequest
from i2v.ui.create.fast import fast_shown, taken
from tests.lora_files import MUSUBI, named, pairs

WAN = SPECS["wan"]
REQUEST = GenerationRequest(
    model="wan", task="t2v", prompt="waves", width=832, height=480, num_frames=81, fps=16, num_inference_steps=50,
    guidance_scale=5.0, seed=0,
)  # fmt: skip
FORM = {"lora": [], "steps": 50, "guidance": 5.0}


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    settings, _ = settings_in(tmp_path)
    (settings.models_dir / FOLDER).mkdir(parents=True)
    return settings.models_dir


def put(models_dir: Path, name: str, layer: str = "blocks.0.self_attn.q") -> None:
    save_file(named(pairs({layer: (8, 8)}, 2, 0), MUSUBI), models_dir / FOLDER / f"{name}.safetensors")


def label(*loras: str) -> str:
    shown = fast_shown(WAN, {**FORM, "lora": list(loras)}, "en")
    assert shown["visible"]
    return shown["value"]


def test_a_model_without_such_loras_has_no_button(models_dir: Path) -> None:
    assert fast_shown(SPECS["nano"], FORM, "en")["visible"] is False
    for spec in (SPECS["nano"], None):
        assert taken(spec, [], models_dir, "en") == [*[gr.skip()] * 4, ""]


@pytest.mark.parametrize(("locale", "told"), [("en", "needs a LoRA"), ("zh-CN", "需要一个")])
def test_without_a_file_it_says_what_is_needed_and_where_it_belongs(models_dir: Path, locale: str, told: str) -> None:
    put(models_dir, "style")
    put(models_dir, "lightning for another model", "double_blocks.0.img_attn_qkv")
    *fields, said = taken(WAN, None, models_dir, locale)
    assert fields == [gr.skip()] * 4
    assert told in said
    assert str(models_dir / FOLDER) in said
    assert WAN.few_steps.source in said


@pytest.mark.parametrize(
    "name",
    [
        "Wan21_T2V_14B_lightx2v_cfg_step_distill_lora_rank32",
        "Wan21_CausVid_bidirect2_T2V_1_3B_lora_rank32",
        "wan2.1_self_forcing",
        "wan2.2_i2v_lightning_4steps",
        "turbo/wan 8-step",
    ],
)
def test_a_file_for_few_steps_is_known_by_its_name(models_dir: Path, name: str) -> None:
    (models_dir / FOLDER / "turbo").mkdir()
    put(models_dir, "a style of 1848")
    assert found_for_few_steps(WAN, models_dir) == ()
    put(models_dir, name)
    assert found_for_few_steps(WAN, models_dir) == (name,)


def test_it_takes_the_lora_and_gives_it_up_again(models_dir: Path) -> None:
    put(models_dir, "lightx2v")
    assert label("style:0.5") == "Fast: 4 steps"
    assert taken(WAN, ["style:0.5"], models_dir, "en") == [["style:0.5", "lightx2v"], 4, 1.0, "5", ""]
    for written in ("lightx2v", "lightx2v:0.8"):
        assert label("style:0.5", written) == "Full quality: 50 steps"
        assert taken(WAN, ["style:0.5", written], models_dir, "en") == [["style:0.5"], 50, 5.0, "", ""]


def test_of_two_experts_each_has_its_own_file_or_both_have_one(models_dir: Path) -> None:
    experts = SPECS["wan22_i2v"]
    (models_dir / FOLDER / "Wan2.2-Lightning").mkdir()
    put(models_dir, "Wan2.2-Lightning/high_noise_model")
    assert found_for_few_steps(experts, models_dir) == ()  # one expert would have none
    put(models_dir, "Wan2.2-Lightning/low_noise_model")
    pair = ("Wan2.2-Lightning/high_noise_model", "Wan2.2-Lightning/low_noise_model")
    assert found_for_few_steps(experts, models_dir) == pair
    assert taken(experts, [], models_dir, "en")[0] == list(pair)
    put(models_dir, "A lightx2v for both")
    assert found_for_few_steps(experts, models_dir) == ("A lightx2v for both",)
    numbers = adapter_numbers((Adapter(pair[0], 1.0), Adapter(pair[1], 0.5)), models_dir, experts)
    assert numbers == adapter_numbers((Adapter(pair[0], 1.0),), models_dir, experts) == 2 * (8 + 8)


@pytest.mark.parametrize(
    ("name", "on"),
    [
        ("wan2.2_i2v_A14b_high_noise_lora.safetensors", "high"),
        ("Wan22_HighNoise.safetensors", "high"),
        ("walk-LOW-14B.safetensors", "low"),
        ("lownoise.safetensors", "low"),
        ("slow_highway.safetensors", "both"),
        ("high_and_low.safetensors", "both"),
    ],
)
def test_which_expert_a_file_is_for_stands_in_its_name(name: str, on: str) -> None:
    goes = [SPECS["wan22"].lora_goes_on(name, component) for component in ("transformer", "transformer_2")]
    assert goes == {"high": [True, False], "low": [False, True], "both": [True, True]}[on]


@pytest.mark.parametrize(
    ("family", "name", "shift"),
    [
        ("wan", "Wan21_T2V_14B_lightx2v_cfg_step_distill_lora_rank32", 5.0),
        ("wan22_i2v", "Wan2.2-Lightning/high_noise_model", 5.0),
        ("wan", "/home/me/loras/self_forcing.safetensors", 5.0),
        ("wan", "Wan21_CausVid_bidirect2_T2V_1_3B_lora_rank32", None),  # its authors and others say different ones
        ("wan", "a style", None),
        ("minimax_h3", "minimax_h3_turbo_8step_768p", 6.0),
        ("minimax_h3", "minimax_h3_turbo_8step_480p", None),  # the checkpoint's own
        ("nano", "lightning", None),
    ],
)
def test_the_shift_that_a_file_was_distilled_with_stands_in_its_name(family: str, name: str, shift: float) -> None:
    assert shift_for_few_steps(["another style", name], SPECS[family]) == shift


def said_of(request: GenerationRequest) -> list[str]:
    return [note.id for note in request_notes(request, plain_settings(), WAN)]


def test_few_steps_are_right_with_such_a_lora_and_told_of_without() -> None:
    few = replace(REQUEST, num_inference_steps=4, guidance_scale=1.0)
    with_lora = (Adapter("loras/lightx2v", 1.0),)
    assert "request.hint_flow_shift" in said_of(replace(few, adapters=with_lora))
    assert "request.hint_flow_shift" not in said_of(replace(few, adapters=with_lora, flow_shift=3.0))
    assert "request.hint_flow_shift" not in said_of(few)
    assert {"request.hint_steps"} == {one for one in said_of(few) if "steps" in one and "cap" not in one}
    assert not [one for one in said_of(replace(few, adapters=with_lora)) if "steps" in one or "guidance" in one]
    for asked in (replace(few, guidance_scale=5.0), replace(few, num_inference_steps=30)):
        assert "request.hint_few_steps" in said_of(replace(asked, adapters=with_lora))
    assert "request.hint_few_steps" not in said_of(replace(REQUEST, adapters=(Adapter("style", 1.0),)))
