"""What a sentence asks for: its clauses, what is told of them, and how well sentences never trained on are judged."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet3DConditionModel
from PIL import Image
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from i2v.families.base import Inputs
from i2v.families.nano.clauses import MOST_CLAUSES, clauses
from i2v.families.nano.life import LIVING, PLACED
from i2v.families.nano.model import Nano
from i2v.families.nano.reader import CAMERA, Reader
from i2v.families.nano.reading import PARTS, rows
from i2v.families.nano.said import LONGEST_QUOTE, Understood, said, shown
from i2v.families.nano.telling import load
from i2v.memory.card import HostCard
from i2v.messages import LOCALES, catalogue
from i2v.models.entry import ASSETS
from i2v.plan import Plan
from i2v.request import GenerationRequest
from tools.train_nano.beyond import (
    LANGUAGES,
    beyond,
    continuous,
    fine,
    held_out_beyond,
    held_out_fine,
    held_out_verbs,
    phrases,
    third_person,
)
from tools.train_nano.understood import Asking, recorded_head

RECORDED = json.loads((Path(__file__).parents[2] / "bench/results/nano_understood.json").read_text(encoding="utf-8"))
FOLDER = ASSETS / "nano"
ASKED_FOR = ("acts", "runs", "happens", "events", "orders", "nonsense")
REQUEST = GenerationRequest(
    model="nano", prompt="", width=64, height=64, num_frames=4, fps=24, num_inference_steps=2, guidance_scale=1.0,
    seed=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def teller():
    return load(FOLDER)


def told(teller, prompt, locale="en", **changes):
    """All that is said of a prompt, as one text."""
    return " ".join(text.render(locale) for text in teller.said(replace(REQUEST, prompt=prompt, **changes)))


# --- clauses ---


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        (" ,. ", ()),
        ("zoom in", ("zoom in",)),
        ("zoom in while the dog wags its tail", ("zoom in", "the dog wags its tail")),
        ("A lake. Waves, and wind!", ("A lake", "Waves", "wind")),
        ("at 3.5 times, sand", ("at 3.5 times", "sand")),
        ("水面荡漾的同时镜头放大，然后狗叫。", ("水面荡漾", "镜头放大", "狗叫")),
    ],
)
def test_a_sentence_is_taken_apart(text, parts):
    assert clauses(text) == parts


def test_of_very_many_clauses_the_last_holds_the_rest_and_every_sentence_has_as_many_rows():
    many = clauses(",".join("abcdefghij"))
    assert len(many) == MOST_CLAUSES
    assert many[-1] == "g,h,i,j"
    assert {len(rows(text)) for text in ("", "a", "a, b", "a," * 30)} == {MOST_CLAUSES + 1}


# --- what is told ---


def read_as(camera=None, living=None, strengths=(1.0, 1.0), beyond=()):
    """What the reader would make of a sentence."""
    row = torch.full((MOST_CLAUSES + 1, sum(PARTS)), -8.0)
    row[:, CAMERA.index(camera) if camera else len(CAMERA)] = 8
    row[:, PARTS[0] + (LIVING.index(living) if living else len(LIVING))] = 8
    row[:, -3:-1] = torch.tensor(strengths)
    for index in beyond:
        row[index + 1, -1] = 2
    return row


@pytest.mark.parametrize(
    ("read", "brushed", "english"),
    [
        ({}, False, ["Motion: slow move in."]),
        ({"camera": "zoom_in", "strengths": (0.5, 1.0)}, True, ["Motion: slow zoom in."]),
        ({"camera": "still", "strengths": (1.8, 1.0)}, False, ["Motion: the camera stands still."]),
        ({"living": "water", "strengths": (1.0, 1.8)}, True, ["Motion: water flows strongly where you brushed."]),
        ({"living": "night"}, True, ["Motion: night falls."]),
        (
            {"camera": "pan_left", "living": "clouds", "beyond": (1,)},
            False,
            ["Motion: pan left; clouds drift.", "Not understood: “second”. This model can not do that."],
        ),
    ],
)
def test_what_is_told_follows_from_what_was_read(read, brushed, english):
    understood = Understood.of("first, second", read_as(**read))
    assert [text.render() for text in said(understood, brushed=brushed)] == english


@pytest.mark.parametrize(
    ("living", "lost", "view", "english"),
    [
        ("water", True, 1.0, ["It is not clear where the water is in this photograph: brush over it. "
                              "Meanwhile the camera slowly moves in."]),
        ("water", False, 1.0, []),
        ("night", True, 1.0, []),
        (None, True, 0.86, ["The camera uses 86 % of the photograph, so that nothing beyond its border has to be "
                            "invented."]),
        (None, False, 0.98, []),
    ],
)  # fmt: skip
def test_what_is_told_follows_from_where_it_is_and_what_is_seen(living, lost, view, english):
    understood = Understood.of("go", read_as(living=living))
    assert [text.render() for text in shown(understood, lost=lost, view=view)] == english


def test_a_long_clause_is_quoted_by_its_beginning():
    quoted = said(Understood.of("x" * 200, read_as(beyond=(0,))), brushed=False)[1]
    assert len(quoted.params["clauses"]) == LONGEST_QUOTE + 2


def test_every_motion_has_a_name_in_every_language():
    names = [f"nano.camera_{name}" for name in CAMERA] + [f"nano.living_{name}" for name in LIVING]
    names += [f"nano.place_{name}" for name in PLACED]
    for locale in LOCALES:
        assert [name for name in names if name not in catalogue(locale)] == []


# --- the sentences ---


def test_words_take_their_forms():
    assert [third_person(verb) for verb in ("wag its tail", "cry", "play", "pass by", "摇尾巴")] == [
        "wags its tail", "cries", "plays", "passes by", "摇尾巴",
    ]  # fmt: skip
    assert [continuous(verb) for verb in ("wag its tail", "smile", "see", "lie down", "open")] == [
        "wagging its tail", "smiling", "seeing", "lying down", "opening",
    ]  # fmt: skip


def test_there_are_as_many_sentences_as_are_measured():
    assert sum(len(phrases()[language][part]) for language in LANGUAGES for part in ASKED_FOR) >= 600
    assert [len(set(held_out_beyond(language))) for language in LANGUAGES] == [100, 100]
    assert [len(held_out_fine(language)) for language in LANGUAGES] == [200, 200]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_verb_that_is_held_out_is_trained_on(language):
    """English by its stem at a word's beginning, Chinese by the word."""
    trained = [phrase for part in ASKED_FOR for phrase in phrases()[language][part]]
    verbs = held_out_verbs(language)
    assert len(verbs) >= 100
    for verb in verbs:
        stem = re.sub("(ing|ies|es|s|e|ed)$", "", verb.lower())
        word = re.compile(re.escape(verb) if language == "zh" else rf"\b{re.escape(stem)}(ing|ies|es|s|e|ed|ping)?\b")
        assert [phrase for phrase in trained if word.search(phrase)] == [], verb


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_that_is_held_out_is_trained_on(language):
    trained = {text.lower() for part in phrases()[language].values() for text in part}
    held_out = {*held_out_beyond(language), *phrases()["held_out_can"][language]}
    assert trained.isdisjoint(text.lower() for text in held_out)


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_are_made_whole(language):
    rng = random.Random(0)
    made = [make(language, rng, apart=apart) for make in (beyond, fine) for apart in (False, True) for _ in range(200)]
    assert [text for text in made if not text or "{" in text] == []


# --- the reader that ships ---


@pytest.mark.parametrize(
    ("prompt", "quoted"),
    [
        ("the dog wags its tail", ["the dog wags its tail"]),
        ("a dragon appears", ["a dragon appears"]),
        ("make it a cartoon", ["make it a cartoon"]),
        ("zoom in while she turns her head", ["she turns her head"]),
        ("小狗摇尾巴，水面荡漾", ["小狗摇尾巴"]),
        ("a red rose", []),
        ("", []),
        ("slow zoom in, the water ripples", []),
        ("镜头缓慢推近，云飘动", []),
    ],
)
def test_what_it_can_not_do_is_quoted_and_nothing_else(teller, prompt, quoted):
    assert re.findall("“(.+?)”", told(teller, prompt)) == quoted


def test_it_says_how_it_moves_in_the_readers_language(teller):
    assert told(teller, "slow zoom in, the water flows") == "Motion: slow zoom in; water flows."
    assert told(teller, "slow zoom in, the water flows", "zh-CN") == "运动：缓慢放大；水流动。"


def test_of_held_out_sentences_enough_are_judged_rightly():
    cannot, told_so, can, falsely = (
        sum(RECORDED[language][name] for language in LANGUAGES) for name in ("cannot", "told_so", "can", "falsely_told")
    )
    assert (cannot, can) == (200, 400)
    assert told_so >= 0.9 * cannot
    assert falsely <= 0.05 * can


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_recorded_is_of_this_reader(language):
    asking = Asking(FOLDER)
    asking.head.load_state_dict(recorded_head(FOLDER))
    sentences = held_out_beyond(language)
    missed = [sentence for sentence, parts in zip(sentences, asking.told(sentences), strict=True) if not parts]
    assert missed == RECORDED[language]["missed"]


def test_what_is_judged_beyond_changes_nothing_of_a_video_and_is_told_the_same_before_and_after(teller):
    """All that the text gives to a video is the same with a head that finds nothing beyond."""

    with torch.device("meta"):  # it is not called
        unet = UNet3DConditionModel.from_config(UNet3DConditionModel.load_config(FOLDER / "unet"))

    def text_of(change):
        tokenizer = CLIPTokenizer.from_pretrained(FOLDER / "tokenizer")
        encoder = CLIPTextModel.from_pretrained(FOLDER / "text_encoder", dtype=torch.float32)
        reader = Reader.load(FOLDER / "reader", torch.float32)
        change(reader.beyond.logit.bias.data)
        model = Nano(
            tokenizer=tokenizer,
            text_encoder=encoder,
            reader=reader,
            finder=nn.Identity(),
            unet=unet,
            scheduler=None,
        )
        request, made = replace(REQUEST, prompt="the dog wags its tail, zoom in"), {}
        stage, _ = model.encode_stages(request, Inputs({0: Image.new("RGB", (64, 64))}), Plan())
        with torch.inference_mode():
            stage.run(HostCard(), made)
        assert made["read"].shape == (MOST_CLAUSES + 1, sum(PARTS))
        return made, model.said(request, made)

    plain, told_plain = text_of(lambda bias: bias)
    others, told_others = text_of(lambda bias: bias.fill_(-99))
    assert told_plain[:1] == told_others
    assert list(told_plain) == list(teller.said(replace(REQUEST, prompt="the dog wags its tail, zoom in")))
    assert all(torch.equal(plain[name], others[name]) for name in plain if name != "read")
