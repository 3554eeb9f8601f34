"""Requests and plans: what is filled in, what is warned about, and what is refused with which words."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import card, no_card, settings, suppress_user_error
from photos import photograph
from PIL import Image

from i2v.families import SPECS
from i2v.families.spec import Defaults, FamilySpec, InputSlot
from i2v.family_settings import FAMILY_SETTINGS
from i2v.hardware.probe import GIB, Probe
from i2v.jobs.asked.advice import estimated_tokens, last_read
from i2v.jobs.asked.prepare import (
    MAX_SEED,
    REQUEST_KEYS,
    Resolved,
    build_plan,
    build_request,
    cap_frames,
    cap_size,
    resolve,
)
from i2v.jobs.asked.typed_text import cleaned
from i2v.messages import UserError
from i2v.plan import Plan, everywhere
from i2v.request import Finish, GenerationRequest, Input, PlanOptions
from tests.video_support import film

PHOTO = photograph()  # 502 x 343


def request(*, settings_of: Any = None, **values: Any) -> GenerationRequest:
    given = {"model": "i2vgen-xl", "prompt": "a boat drifts", "image": PHOTO, **values}
    return build_request(given, settings_of or settings())


def refusal(**values: Any) -> str:
    with pytest.raises(UserError) as caught:
        request(**values)
    return str(caught.value)


def spec(**changes: Any) -> FamilySpec:
    defaults = Defaults(width=512, height=512, num_frames=16, fps=8, num_inference_steps=25, guidance_scale=7)
    base = FamilySpec("f", "F", "FPipeline", frozenset({"i2v"}), None, {}, defaults)
    return replace(base, **changes)


def plan(made: GenerationRequest, probe: Any, **overrides: Any) -> tuple[Plan, list[str]]:
    made_plan, notes = build_plan(Resolved.of(made, settings(probe, **overrides)), probe)
    return made_plan, [note.message.id for note in notes]


# --- what is filled in ---


def test_what_nobody_says_is_the_familys() -> None:
    made = request()
    # The photograph's shape, 502x343, at no more than the family's 512x512 pixels.
    assert (made.width, made.height, made.num_frames, made.fps) == (616, 416, 16, 16)
    assert (made.num_inference_steps, made.guidance_scale, made.fit, made.task) == (50, 9.0, "crop", "i2v")
    assert made.negative_prompt.startswith("Distorted")
    assert made.options == PlanOptions()
    assert made.image_path == str(PHOTO)


def test_auto_none_and_nothing_mean_the_same() -> None:
    keys = [key for key in REQUEST_KEYS if key not in ("model", "prompt", "image", "negative", "seed")]
    expected = request(seed=1)
    for nothing in (None, "auto", " Auto", ""):
        assert request(seed=1, **dict.fromkeys(keys, nothing)) == expected


def test_numbers_may_be_written_in_any_way() -> None:
    made = request(width="128", height=64.0, frames="8.0", steps=" 12 ", guidance="7.5", fps=8, seed="5")
    assert (made.width, made.height, made.num_frames, made.num_inference_steps) == (128, 64, 8, 12)
    assert (made.guidance_scale, made.fps, made.seed) == (7.5, 8, 5)
    assert isinstance(made.height, int)


def test_a_model_that_reads_no_sentence_needs_none() -> None:
    assert request(model="stable-video-diffusion-img2vid-xt", prompt="").prompt == ""
    assert "The prompt is empty" in refusal(prompt="")


def test_an_empty_negative_prompt_is_empty() -> None:
    assert request(negative="").negative_prompt == ""


@pytest.mark.parametrize("seed", [None, -1, "-1", "auto", "", -(10**30)])
def test_a_seed_is_drawn_where_none_is_given(seed: Any) -> None:
    drawn = {request(seed=seed).seed for _ in range(8)}
    assert len(drawn) > 1
    assert all(0 <= number < 2**32 for number in drawn)


@pytest.mark.parametrize("seed", [0, 1, MAX_SEED, str(MAX_SEED)])
def test_a_seed_is_kept(seed: Any) -> None:
    assert request(seed=seed).seed == int(seed)


def test_one_side_keeps_the_photographs_shape(tmp_path: Path) -> None:
    assert (request(width=256).width, request(width=256).height) == (256, 176)  # 174.9 to the next multiple of 8
    assert (request(height=256).width, request(height=256).height) == (376, 256)  # 374.7
    lying = Image.new("RGB", (400, 200))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    lying.save(tmp_path / "upright.jpg", exif=exif)
    assert request(width=256, image=tmp_path / "upright.jpg").height == 512


def test_caps_bound_what_is_picked(tmp_path: Path) -> None:
    small = settings(max_pixels="256x256", max_frames=7, max_steps=11)
    made = request(settings_of=small)
    assert (made.width, made.height, made.num_frames, made.num_inference_steps) == (304, 208, 7, 11)


def test_caps_do_not_bound_what_is_asked_for() -> None:
    small = settings(max_pixels="256x256", max_frames=7, max_steps=11)
    made = request(settings_of=small, width=512, height=256, frames=12, steps=60)
    assert (made.width, made.height, made.num_frames, made.num_inference_steps) == (512, 256, 12, 60)
    _, notes = build_plan(Resolved.of(made, small), no_card())
    assert [note.message.id for note in notes] == [
        "request.above_cap_size",
        "request.above_cap_frames",
        "request.above_cap_steps",
    ]
    assert {note.level for note in notes} == {"warning"}


def test_the_caps_of_a_requested_preset_count(monkeypatch: pytest.MonkeyPatch) -> None:
    family = SPECS["i2vgen_xl"]
    large = replace(family.defaults, width=1024, height=768, num_frames=32)
    monkeypatch.setitem(SPECS, "i2vgen_xl", replace(family, defaults=large))
    made = request(settings_of=settings(card(100)))
    assert (made.width, made.height, made.num_frames) == (1072, 728, 32)
    made = request(settings_of=settings(card(100)), preset="cpu")
    assert (made.width, made.height, made.num_frames) == (608, 416, 16)


# --- the plan ---


def test_the_plan_is_what_the_settings_say() -> None:
    made_plan, notes = plan(request(), card(5.5), cfg="batch")
    assert made_plan == Plan(
        device="cuda",
        precision="float16",
        chunk_frames=1,
        chunk_pixels=512,
        cfg="batch",
        places=everywhere("staged"),
        decode_frames=1,
        preset="06gb",
    )
    assert notes == []


def test_a_requests_own_choices_win() -> None:
    options = {"chunk_frames": "0", "chunk_pixels": 64, "cfg": "batch", "offload": "resident", "decode_frames": 4}
    made_plan, _ = plan(request(precision="bf16", **options), card(5.5), chunk_frames=9, precision="float16")
    assert (made_plan.precision, made_plan.chunk_frames, made_plan.chunk_pixels) == ("bfloat16", 0, 64)
    assert (made_plan.cfg, made_plan.offload, made_plan.decode_frames) == ("batch", "resident", 4)


def test_another_window_of_the_autoencoder_is_not_lossless_and_no_model_without_one_has_it() -> None:
    video = {"model": "HunyuanVideo", "image": None, "width": 512, "height": 384, "frames": 33}
    for asked, window, lossless in (
        (None, "own", True), ("OWN", "own", True), ("5x32x32", "own", True), (" 17X16x16 ", "17x16x16", False)
    ):  # fmt: skip
        made_plan, notes = plan(request(vae_window=asked, **video), card(11))
        assert (made_plan.vae_window, made_plan.lossless) == (window, lossless)
        assert "request.hint_window" not in notes
    assert plan(request(**video), card(11), vae_window="5x16x16")[0].vae_window == "5x16x16"
    assert "request.hint_window" in plan(request(vae_window="9x48x64", **video), card(11))[1]
    assert "request.hint_window" not in plan(request(vae_window="9x48x63", **video), card(11))[1]
    of_pictures, _ = plan(request(vae_window="5x16x16"), card(11))
    assert (of_pictures.vae_window, of_pictures.lossless) == ("own", True)


def test_steps_are_cut_short_only_where_something_may_be_lost_and_by_models_that_can() -> None:
    video = {"model": "HunyuanVideo", "image": None, "width": 512, "height": 384, "frames": 33}
    for asked, policy, share, lossless in (
        (None, None, 0.0, True), (0, None, 0.0, True), ("0.1", "balanced", 0.1, False), (0.2, "smallest", 0.2, False)
    ):  # fmt: skip
        made_plan, _ = plan(request(step_cache=asked, policy=policy, **video), card(11))
        assert (made_plan.step_cache, made_plan.lossless) == (share, lossless)
    assert plan(request(**video), card(11), step_cache=0.1, policy="balanced")[0].step_cache == 0.1
    for settings_too in ({}, {"step_cache": 0.1}):
        with pytest.raises(UserError) as caught:
            plan(request(**({} if settings_too else {"step_cache": 0.1}), **video), card(11), **settings_too)
        assert caught.value.message.id == "request.step_cache_lossless"
    with pytest.raises(UserError, match=r"HunyuanVideo.*Wan 2\.2"):
        plan(request(step_cache=0.1, policy="balanced"), card(11))
    of_pictures, _ = plan(request(), card(11), step_cache=0.1)  # as is set for all models
    assert (of_pictures.step_cache, of_pictures.lossless) == (0.0, True)
    decoded, _ = build_plan(
        Resolved.of(request(**video), settings(card(11))), card(11), decodes_as=Plan(step_cache=0.3, lossless=False)
    )
    assert (decoded.step_cache, decoded.lossless) == (0.3, False)


def test_the_device_follows_the_machine() -> None:
    assert plan(request(), no_card())[0].device == "cpu"
    assert plan(request(), card(11))[0].device == "cuda"
    assert plan(request(), card(11), preset="cpu")[0].device == "cpu"
    simulated = plan(request(), card(6, simulated=True), simulate_gib=6)[0]
    assert (simulated.device, simulated.memory_cap_bytes) == ("simulated", 6 * GIB)


def test_a_processor_never_gets_float16_from_a_preset() -> None:
    """It gets the same bytes in bfloat16, where it computes them at speed."""
    assert plan(request(), card(6, simulated=True))[0].precision == "bfloat16"
    assert plan(request(), no_card(), preset="12gb")[0].precision == "bfloat16"
    assert plan(request(), card(6))[0].precision == "float16"
    assert plan(request(precision="float16"), card(6, simulated=True))[0].precision == "float16"
    assert plan(request(), card(6, simulated=True), precision="float16")[0].precision == "float16"


def test_a_processor_that_is_slow_at_bfloat16_gets_float32() -> None:
    def on_it(probe: Probe) -> Probe:
        return replace(probe, host=replace(probe.host, bfloat16=False))

    nano = request(model="nano")
    assert plan(nano, on_it(card(6, simulated=True)))[0].precision == "float32"
    assert plan(nano, on_it(no_card()), preset="12gb")[0].precision == "float32"
    assert plan(nano, on_it(card(6)))[0].precision == "float16"
    assert plan(request(model="nano", precision="bf16"), on_it(card(6, simulated=True)))[0].precision == "bfloat16"
    # A model that is planned for a card is shown as on one.
    assert plan(request(), on_it(card(6, simulated=True)))[0].precision == "bfloat16"


def test_short_memory_and_old_cards_are_warned_about() -> None:
    assert plan(request(), card(3))[1] == ["settings.preset_short"]
    assert plan(request(), no_card(), preset="12gb")[1] == ["settings.preset_without_card"]
    assert plan(request(precision="float16"), card(6, simulated=True))[1] == ["request.processor_slow"]
    assert plan(request(), card(6, simulated=True))[1] == []
    assert plan(request(precision="bf16"), card(11, compute_capability=(7, 5)))[1] == ["request.bfloat16_slow"]
    assert plan(request(precision="bf16"), card(11, compute_capability=(8, 0)))[1] == []


def test_values_outside_of_what_suits_the_model_are_warned_about() -> None:
    big = card(100)
    assert plan(request(steps=10, guidance=30), big)[1] == ["request.hint_steps", "request.hint_guidance"]
    assert plan(request(frames=1000), big)[1] == ["request.hint_frames"]
    no_second_pass = {"model": "HunyuanVideo", "image": None, "frames": 13, "width": 960, "height": 544}
    assert plan(request(**no_second_pass, negative="rain"), big)[1] == ["request.hint_negative"]
    assert plan(request(**no_second_pass, negative="rain", true_guidance=3), big)[1] == []
    assert plan(request(**no_second_pass), big)[1] == []
    assert plan(request(**{**no_second_pass, "width": 512, "height": 384}), big)[1] == ["request.hint_small"]
    with pytest.raises(UserError) as refused:
        request(true_guidance=3)
    assert refused.value.message.id == "family.true_guidance_not_taken"


# --- schedulers ---


def test_a_scheduler_is_chosen_by_name_whatever_its_case() -> None:
    made = request(scheduler="DPMpp_2M", betas="cosine", guidance_rescale="0.7", guidance_curve="Falling", steps=30)
    told = made.scheduler, made.betas, made.guidance_rescale, made.guidance_curve
    assert told == ("dpmpp_2m", "cosine", 0.7, "falling")
    plain = request(scheduler="auto", betas="", guidance_rescale=None, guidance_curve="auto")
    assert (plain.scheduler, plain.betas, plain.guidance_rescale, plain.guidance_curve) == (None, None, 0.0, "constant")
    assert GenerationRequest.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("values", "words", "chinese"),
    [
        ({"scheduler": "flow_unipc"}, "offered with: ddim, dpmpp_2m, dpmpp_2m_sde, unipc, euler", "可选：ddim"),
        ({"model": "HunyuanVideo", "image": None, "scheduler": "ddim"}, "flow_dpmpp_2m, flow_unipc", "采样器"),
        ({"betas": "linear"}, "offered with: cosine, cosine_zero_snr", "可选：cosine"),
        ({"model": "nano", "betas": "cosine"}, "trained on alone", "训练时的噪声日程"),
        ({"guidance_rescale": 1.5}, "guidance_rescale cannot be 1.5", "1.5"),
        ({"guidance_curve": "fallin"}, "falling", "falling"),
    ],
)  # fmt: skip
def test_what_a_family_does_not_offer_is_refused_with_what_it_does(
    values: dict[str, Any], words: str, chinese: str
) -> None:
    with pytest.raises(UserError) as caught:
        request(**values)
    assert words in str(caught.value)
    assert chinese in caught.value.message.render("zh-CN")


# --- settings that only some families take ---


def test_a_flow_shift_is_asked_for_or_set_for_every_model_that_has_one(tmp_path: Path) -> None:
    video = {"model": "HunyuanVideo", "image": None}
    assert [request(**video, flow_shift=asked).flow_shift for asked in (None, "auto", "", "6", 0.1)] == [
        *(None, None, None, 6.0, 0.1)
    ]
    for_all = settings(card(11), flow_shift=5)
    values = {"model": "HunyuanVideo", "prompt": "waves"}
    assert [build_request({**values, **more}, for_all).flow_shift for more in ({}, {"flow_shift": 6})] == [5.0, 6.0]
    assert build_request({**values, "model": "nano"}, for_all, to_run=False).flow_shift is None


def test_a_setting_of_other_families_is_refused_with_who_takes_it() -> None:
    with pytest.raises(UserError) as caught:
        request(flow_shift=6)
    assert caught.value.message.id == "family.setting_not_taken"
    takers = [one for one in SPECS.values() if "flow_shift" in one.own_settings]
    for words in (str(caught.value), caught.value.message.render("zh-CN")):
        assert all(one in words for one in ("flow_shift", *(one.title for one in takers)))


def test_every_family_of_a_flow_model_takes_a_shift() -> None:
    """But for one whose schedule is a list of its own."""
    flow = {"FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler", "MiniMaxH3Scheduler"}
    for name, one in SPECS.items():
        assert ("flow_shift" in one.own_settings) == ({*one.schedulers} <= flow and name != "ltx_13b"), name
        assert {*one.own_settings} <= {*FAMILY_SETTINGS}


def test_a_family_without_schedulers_to_choose_from_says_so() -> None:
    with pytest.raises(UserError, match="own scheduler alone"):
        spec().check_scheduler("ddim", None)
    spec().check_scheduler(None, None)


def test_steps_are_advised_by_the_scheduler_and_guidance_that_does_nothing_is_told() -> None:
    big = card(100)
    assert plan(request(steps=20, scheduler="unipc"), big)[1] == []
    assert plan(request(steps=10, scheduler="unipc"), big)[1] == ["request.hint_steps_scheduler"]
    assert plan(request(steps=20, scheduler="ddim"), big)[1] == ["request.hint_steps_scheduler"]
    assert plan(request(steps=20), big)[1] == ["request.hint_steps"]
    assert plan(request(guidance_curve="falling"), big)[1] == []
    assert plan(request(model="nano", guidance=1, guidance_rescale=0.7), big)[1] == ["request.hint_unguided_guidance"]
    alone = {"model": "HunyuanVideo", "image": None, "frames": 13, "width": 960, "height": 544, "guidance_rescale": 0.5}
    assert plan(request(**alone), big)[1] == ["request.hint_unguided_true_guidance"]
    assert plan(request(**alone, true_guidance=3), big)[1] == []


def test_a_precision_the_model_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = request()
    monkeypatch.setitem(SPECS, "i2vgen_xl", replace(SPECS["i2vgen_xl"], precisions=("float32",)))
    with pytest.raises(UserError) as caught:
        plan(made, card(11))
    assert "float16" in str(caught.value)
    assert "float32" in str(caught.value)


# --- prompts ---


def test_long_prompts_are_taken_and_warned_about() -> None:
    made = request(prompt="wind " * 2000)
    assert len(made.prompt) == 10_000
    assert plan(made, card(11))[1] == ["request.hint_tokens"]
    assert last_read("one two three four five six seven", 7) == "two three four five"
    assert last_read("雪山日出", 4) == "雪山"
    assert last_read("", 77) == ""
    assert plan(request(prompt="wind " * 70), card(11))[1] == []


def test_emoji_newlines_and_other_scripts_are_fine() -> None:
    text = "🌊 wave\n 镜头缓缓推近 👩‍👩‍👧 עברית"
    assert request(prompt=text).prompt == text


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("zoom in\vthe\fwater\x85now\u2028slow\u2029\x7fly", "zoom in the water now slow  ly"),
        ("a\u00a0b\u3000c\td\u1680e\u2800f\u3164g", "a b c d e f g"),
        ("one\r\ntwo\rthree\nfour", "one\ntwo\nthree\nfour"),
        ("\ufeffzoom\u200b in\u2060, wa\u00adter \u202eslow\u202c\u200f", "zoom in, water slow"),
        ("slow\u200dzoom \u200c in", "slowzoom  in"),
        ("\uff5a\uff4f\uff4f\uff4d \ufb01sh cafe\u0301 \u2167", "zoom fish caf\u00e9 VIII"),
        ("👩‍👩‍👧 🏳️‍🌈 👩🏽‍🚀 ❤️‍🔥", "👩‍👩‍👧 🏳️‍🌈 👩🏽‍🚀 ❤️‍🔥"),
        ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", None),
        ("می\u200cخواهم क्\u200dष", None),
        ("hid\U000e0068\U000e0069den", "hidden"),
        ("it\x92s \x93slow\x94 \x96 now", "it\u2019s \u201cslow\u201d \u2013 now"),
    ],
    ids=["slides", "spaces", "line ends", "marks", "joiners", "forms", "emoji", "a flag", "scripts", "tags", "Windows"],
)
def test_what_nobody_sees_in_a_prompt_changes_nothing(typed: str, read: str | None) -> None:
    made = request(prompt=typed, negative=typed)
    assert made.prompt == made.negative_prompt == (typed if read is None else read)


@given(st.text())
def test_cleaning_twice_is_cleaning_once(typed: str) -> None:
    assert cleaned(cleaned(typed)) == cleaned(typed)


@pytest.mark.parametrize(
    ("prompt", "note"),
    [
        ("<lora:style:0.8> slow zoom in", "request.hint_lora"),
        ("slow zoom in, embedding:easynegative", "request.hint_lora"),
        ("(slow zoom in:1.3)", "request.hint_weight"),
        ("（slow zoom in：1.3）", "request.hint_weight"),
        ("((slow)) zoom in", "request.hint_weight"),
        ("[day:night:0.5]", "request.hint_weight"),
        ("a {red|blue} boat", "request.hint_weight"),
        ("a boat --ar 16:9", "request.hint_weight"),
        ("a boat (red, at 3:45) drifts: slowly [left] {so} -- and stops", None),
        ("a boat (drifts) <slowly>", None),
    ],
)
def test_words_for_other_programs_are_told(prompt: str, note: str | None) -> None:
    assert plan(request(prompt=prompt, steps=50), card(100))[1] == ([note] if note else [])
    assert plan(request(negative=prompt, steps=50), card(100))[1] == ([note] if note else [])


@pytest.mark.parametrize(
    ("prompt", "fragments"),
    [
        ("", ["prompt is empty"]),
        (" \n ", ["prompt is empty"]),
        ("\u200b\u200d\ufeff", ["prompt is empty"]),
        ("\ufe0f \u3164\u2800\u00ad", ["prompt is empty"]),
        (None, ["prompt is empty"]),
        ("a\0b", ["U+0000", "position 2"]),
        ("\x1b[31m", ["U+001B", "position 1"]),
        ("\udc80", ["U+DC80"]),
        ("x" * 10_001, ["10001", "10000"]),
        ("\ufdfa" * 600, ["10800", "10000"]),
        ("a\x81", ["U+0081", "position 2"]),
        (7, ["must be text", "7"]),
        (["a"], ["must be text"]),
    ],
)
def test_a_prompt_that_cannot_be_is_refused(prompt: Any, fragments: list[str]) -> None:
    text = refusal(prompt=prompt)
    assert [fragment for fragment in fragments if fragment not in text] == []


def test_tokens_are_estimated_as_clip_cuts_text() -> None:
    assert estimated_tokens("a red boat drifts slowly on the lake.") == 8 + 1 + 2  # words, the full stop, two marks
    assert estimated_tokens("year 2026") == 1 + 4 + 2  # digits one by one
    assert estimated_tokens("镜头缓缓推近") == 6 + 2
    assert estimated_tokens("x" * 800) == 100 + 2
    assert estimated_tokens("") == 0


# --- what is refused ---


@pytest.mark.parametrize(
    ("key", "value", "fragments"),
    [
        ("width", 0, ["width", "0", "64 to 2048"]),
        ("width", -8, ["width", "-8"]),
        ("width", 101, ["width", "101", "multiple of 8", "104"]),
        ("height", 10**9, ["height", "1000000000", "2048"]),
        ("height", float("nan"), ["height", "nan"]),
        ("height", float("inf"), ["height", "inf"]),
        ("width", True, ["width", "True"]),
        ("width", "wide", ["width", "wide"]),
        ("width", 64.5, ["width", "64.5"]),
        ("width", [64], ["width", "[64]"]),
        ("frames", 0, ["frames", "0", "1 to 1024"]),
        ("frames", 1025, ["frames", "1025"]),
        ("frames", "many", ["frames", "many"]),
        ("fps", 0, ["fps", "1 to 120"]),
        ("steps", 0, ["steps", "1 to 500"]),
        ("steps", 501, ["steps", "501"]),
        ("steps", "NaN", ["steps", "NaN"]),
        ("guidance", -1, ["guidance", "-1", "0 to 100"]),
        ("guidance", float("nan"), ["guidance", "nan"]),
        ("guidance", 10**400, ["guidance", "1000"]),
        ("guidance", "strong", ["guidance", "strong"]),
        ("seed", MAX_SEED + 1, ["seed", str(MAX_SEED)]),
        ("seed", 1.5, ["seed", "1.5"]),
        ("seed", "lucky", ["seed", "lucky"]),
        ("fit", "stretch", ["fit", "stretch", "crop, ", "crop_left, ", "pad, auto"]),
        ("task", "t2v", ["I2VGen-XL", "t2v", "i2v"]),
        ("task", "x2v", ["task", "x2v", "i2v, t2v, v2v"]),
        ("preset", "06", ["preset", "06gb"]),
        ("precision", "int8", ["precision", "int8", "float16"]),
        ("chunk_frames", -1, ["chunk_frames", "-1", "auto"]),
        ("cfg", 1, ["cfg", "batch, split"]),
        ("offload", "disk", ["offload", "staged"]),
        ("decode_frames", "x", ["decode_frames"]),
        ("vae_window", "x", ["vae_window", "x", "17x16x16", "own", "auto"]),
        ("step_cache", 1.5, ["step_cache", "1.5", "0", "1"]),
        ("motion_bucket_id", 256, ["motion_bucket_id", "256", "0", "255", "auto"]),
        ("motion_bucket_id", 1.5, ["motion_bucket_id", "1.5"]),
        ("noise_aug_strength", -0.1, ["noise_aug_strength", "-0.1", "0", "1"]),
        ("min_guidance_scale", "no", ["min_guidance_scale", "no", "100"]),
        ("flow_shift", 0, ["flow_shift", "0.1", "20", "auto"]),
        ("flow_shift", 20.5, ["flow_shift", "20.5"]),
        ("flow_shift", "much", ["flow_shift", "much"]),
        ("vae_window", 17, ["vae_window", "17", "17x16x16"]),
        ("vae_window", "17x16", ["vae_window", "17x16x16"]),
        ("vae_window", "5x-8x8", ["vae_window", "5x-8x8"]),
        ("vae_window", "5x8x3", ["vae_window", "5x8x3", "overlap", "3x4x4"]),
        ("vae_window", "1x8x8", ["vae_window", "1x8x8", "overlap", "3x4x4"]),
        ("vae_window", "5x8x1025", ["vae_window", "5x8x1025", "1024"]),
        ("model", "nonesuch", ["nonesuch", "i2vgen-xl"]),
        ("model", "~nobody-of-that-name/m", ["model", "path of a folder"]),
        ("model", 5, ["model", "5", "text"]),
        ("image", 5, ["5", "path"]),
        ("image", "a\0b", ["path"]),
        ("image", None, ["no picture"]),
        ("interpolate", 3, ["interpolate", "3", "1, 2, 4"]),
        ("interpolate", True, ["interpolate", "True"]),
        ("upscale", [2], ["upscale", "[2]", "1, 2"]),
        ("deflicker", "maybe", ["deflicker", "maybe"]),
        ("match_colours", 2, ["match_colours", "2"]),
        ("stepz", 5, ["stepz", "steps"]),
        ("volume", 5, ["volume", "guidance"]),
    ],
)
def test_what_cannot_be_is_refused_by_name(key: str, value: Any, fragments: list[str]) -> None:
    text = refusal(**{key: value})
    assert [fragment for fragment in fragments if fragment not in text] == []


def test_a_finish_is_taken_as_typed_and_off_where_nobody_asks() -> None:
    assert request().finish == Finish()
    typed = request(deflicker="yes", match_colours=False, interpolate="2", upscale=2.0)
    assert typed.finish == Finish(deflicker=True, interpolate=2, upscale=2)
    assert (typed.video_fps, typed.video_frames) == (2 * typed.fps, 2 * typed.num_frames - 1)
    assert GenerationRequest.from_json(json.loads(json.dumps(typed.to_json()))) == typed


def test_more_frames_a_second_than_a_video_may_have_are_refused() -> None:
    assert [fragment for fragment in ("40", "4", "120", "30") if fragment not in refusal(fps=40, interpolate=4)] == []
    assert request(fps=30, interpolate=4).video_fps == 120


def test_one_frame_is_a_video() -> None:
    assert request(frames=1).num_frames == 1


def test_a_request_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(UserError):
        build_request(["steps"], settings())  # type: ignore[arg-type]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2), max_leaves=4
)
OFFLINE = settings(offline=True)


@given(st.dictionaries(st.sampled_from(REQUEST_KEYS), ANYTHING), st.booleans())
def test_arbitrary_values_give_a_request_or_words(values: dict[str, Any], with_basics: bool) -> None:
    basics = {"model": "i2vgen-xl", "prompt": "a", "image": PHOTO} if with_basics else {}
    with suppress_user_error() as refusals:
        made = resolve({**values, **basics}, OFFLINE)
        build_plan(made, no_card())
        assert GenerationRequest.from_json(made.request.to_json()) == made.request
    assert all(refusals)


@given(ANYTHING)
def test_an_arbitrary_request_is_refused_in_words(values: Any) -> None:
    with suppress_user_error() as refusals:
        build_request(values, OFFLINE)
    assert all(refusals)


# --- sizes and frame counts ---

MULTIPLES = st.sampled_from([1, 2, 8, 16, 32, 64])


@given(st.floats(-1e6, 1e6), MULTIPLES, st.integers(1, 300), st.integers(0, 4000))
def test_the_nearest_size_is_allowed_and_nearest(value: float, multiple: int, low: int, room: int) -> None:
    family = spec(size_multiple=multiple, min_size=low, max_size=low + room + multiple)
    nearest = family.nearest_size(value)
    allowed = [side for side in range(family.min_size, family.max_size + 1) if side % multiple == 0]
    assert nearest in allowed
    assert abs(nearest - value) == min(abs(side - value) for side in allowed)


@given(st.floats(-1e6, 1e6), st.integers(1, 16), st.integers(0, 3), st.integers(1, 20), st.integers(0, 200))
def test_the_nearest_frame_count_is_allowed_and_nearest(
    value: float, step: int, offset: int, low: int, room: int
) -> None:
    family = spec(frame_step=step, frame_offset=offset, min_frames=low, max_frames=low + room + step)
    nearest = family.nearest_frames(value)
    allowed = [frames for frames in range(low, family.max_frames + 1) if (frames - offset) % step == 0]
    assert nearest in allowed
    assert abs(nearest - value) == min(abs(frames - value) for frames in allowed)
    family.check(task="i2v", width=512, height=512, num_frames=nearest)


@given(st.integers(2, 128), st.integers(2, 128), st.integers(64 * 64, 2048 * 2048), st.sampled_from([8, 16, 32]))
def test_a_capped_size_is_allowed_within_the_cap_and_of_the_same_shape(
    width_units: int, height_units: int, max_pixels: int, multiple: int
) -> None:
    family = spec(size_multiple=multiple)
    wanted = (width_units * 32, height_units * 32)
    width, height = cap_size(*wanted, max_pixels, family)
    family.check(task="i2v", width=width, height=height, num_frames=16)
    smallest = family.nearest_size(0)
    assert width * height <= max_pixels or smallest in (width, height)
    if wanted[0] * wanted[1] <= max_pixels:
        assert (width, height) == wanted
    if smallest not in (width, height):
        scale = min(1.0, math.sqrt(max_pixels / (wanted[0] * wanted[1])))
        assert all(abs(side - whole * scale) <= multiple for side, whole in zip((width, height), wanted, strict=True))


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 16), st.integers(0, 1))
def test_a_capped_frame_count_is_allowed_and_the_largest(wanted: int, cap: int, step: int, offset: int) -> None:
    family = spec(frame_step=step, frame_offset=offset, min_frames=1, max_frames=200)
    frames = cap_frames(wanted, cap, family)
    allowed = [count for count in range(1, 201) if (count - offset) % step == 0]
    below = [count for count in allowed if count <= min(wanted, cap)]
    assert frames == (below[-1] if below else allowed[0])


# --- other tasks than a photograph's ---

STEPPED = {"frame_step": 4, "frame_offset": 1, "min_frames": 5}
ALL_TASKS = {"i2v": (InputSlot("image"),), "t2v": (), "v2v": (InputSlot("video", None),)}


def makes(monkeypatch: pytest.MonkeyPatch, *tasks: str, **more: Any) -> None:
    """Have the family of the model here do these tasks, with the inputs of ALL_TASKS."""
    inputs = {task: ALL_TASKS[task] for task in tasks}
    monkeypatch.setitem(SPECS, "i2vgen_xl", replace(SPECS["i2vgen_xl"], inputs=inputs, **more))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of 192x64, 16 frames each."""
    return film(tmp_path_factory.mktemp("clip") / "clip.mp4", "-c:v", "libx264", "-preset", "ultrafast", size="192x64")


@pytest.mark.parametrize(
    ("tasks", "image", "video", "task"),
    [
        (("i2v", "t2v", "v2v"), True, False, "i2v"),
        (("i2v", "t2v", "v2v"), False, True, "v2v"),
        (("i2v", "t2v", "v2v"), False, False, "t2v"),
        (("t2v", "v2v"), False, False, "t2v"),
        (("t2v", "v2v"), False, True, "v2v"),
        (("i2v",), True, False, "i2v"),
        (("t2v", "v2v"), True, False, "family.not_taken_image"),
        (("i2v", "t2v"), False, True, "family.not_taken_video"),
        (("i2v", "t2v", "v2v"), True, True, "family.other_task_takes_image"),
        (("i2v", "v2v"), False, False, "request.needed_image"),
        (("v2v",), False, False, "request.needed_video"),
    ],
)  # fmt: skip
def test_what_is_there_says_the_task(monkeypatch, clip, tasks, image, video, task) -> None:
    makes(monkeypatch, *tasks)
    given = {"image": PHOTO if image else None, "video": str(clip) if video else None}
    if "." not in task:
        made = request(**given)
        assert (made.task, made.image_path, made.clip_path) == (task, given["image"] and str(PHOTO), given["video"])
        assert request(**given, task=task, seed=made.seed) == made
        return
    with pytest.raises(UserError) as refused:
        request(**given)
    assert refused.value.message.id == task


def test_nothing_is_needed_to_plan(monkeypatch) -> None:
    for tasks in (("i2v",), ("t2v",), ("v2v",), ("i2v", "t2v", "v2v")):
        makes(monkeypatch, *tasks)
        for task in tasks:
            made = build_request({"model": "i2vgen-xl", "task": task}, settings(), to_run=False)
            assert (made.task, made.inputs) == (task, ())


def test_a_task_that_only_others_do_names_them(monkeypatch) -> None:
    assert "“v2v”" in refusal(task="v2v")
    makes(monkeypatch, "t2v", "v2v")
    with pytest.raises(UserError) as refused:
        request(model="nano", task="v2v")
    assert refused.value.message.id == "request.task_of_others"
    assert "i2vgen-xl" in str(refused.value)
    assert refusal(task="s2v").startswith("task")


def test_the_strength_goes_with_the_clip(monkeypatch, clip) -> None:
    makes(monkeypatch, "i2v", "v2v")
    assert request(image=None, video=clip).inputs == (Input("video", str(clip), at=None, strength=0.8),)
    assert request(image=None, video=clip, strength="0.25").inputs[0].strength == 0.25
    assert "leave strength out" in refusal(strength=0.25)
    for wrong in (-0.1, 1.1, "much", float("nan")):
        assert "strength" in refusal(image=None, video=clip, strength=wrong)


def test_the_size_is_of_the_clips_shape(monkeypatch, clip) -> None:
    makes(monkeypatch, "v2v")
    made = request(image=None, video=clip)
    assert abs(made.width / made.height - 3) < 0.1
    assert (request(image=None, video=clip, height=128).width, request(image=None, video=clip, width=96).height) == (
        384,
        64,
    )


@pytest.mark.parametrize(
    ("rules", "fps", "wanted", "made"),
    [
        ({}, 16, None, 16),  # the family's own, fewer than the clip has
        ({}, 4, None, 8),
        ({}, 16, 32, 32),
        ({}, 16, 33, 32),
        (STEPPED, 4, None, 5),
        (STEPPED, 16, 33, 29),
        (STEPPED, 16, 29, 29),
    ],
)
def test_a_clip_has_so_many_frames(monkeypatch, clip, rules, fps, wanted, made) -> None:
    """The default comes down to them; more is refused with the most that fits."""
    makes(monkeypatch, "v2v", **rules)
    if wanted is None or wanted == made:
        assert request(image=None, video=clip, fps=fps, frames=wanted).num_frames == made
        return
    with pytest.raises(UserError) as refused:
        request(image=None, video=clip, fps=fps, frames=wanted)
    assert refused.value.message.id == "clip.too_short"
    assert refused.value.message.params["most"] == made
    values = {"model": "i2vgen-xl", "prompt": "a", "video": clip, "fps": fps, "frames": wanted}
    assert resolve(values, settings(), only_decodes=True).request.num_frames == wanted


def test_a_clip_that_is_shorter_than_anything_the_model_makes(monkeypatch, clip) -> None:
    makes(monkeypatch, "v2v", **STEPPED)
    with pytest.raises(UserError) as refused:
        request(image=None, video=clip, fps=2)
    assert refused.value.message.id == "request.clip_too_short"
    assert "at least 5 frames" in str(refused.value)


def test_a_clip_that_is_none_is_told_before_anything_is_made(monkeypatch, tmp_path) -> None:
    makes(monkeypatch, "v2v")
    (tmp_path / "text.mp4").write_text("no film")
    assert "not a video" in refusal(image=None, video=tmp_path / "text.mp4")
    assert "not the path of a video" in refusal(image=None, video=7)
    assert "no video at" in refusal(image=None, video=tmp_path / "none.mp4")
