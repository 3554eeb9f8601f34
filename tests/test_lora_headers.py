"""What LoRA files say of themselves, as each trainer writes it; and their pictures."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from i2v.models.adapters import FOLDER, list_adapters
from i2v.models.lora_about import LONGEST_TEXT, LONGEST_WORD, MOST_WORDS, about_lora, trigger_words
from i2v.models.lora_pictures import SIDE, picture_of
from tests.lora_files import DIFFUSERS, MUSUBI, kohya, named, pairs

WAN = {f"blocks.{number}.self_attn.q": (16, 16) for number in range(2)}
MANNERS = {
    "kohya": (
        kohya(pairs(WAN, 8, 0), alpha=4.0),
        {
            "ss_network_dim": "8", "ss_base_model_version": "wan2.1_t2v", "ss_output_name": "paper_cut",
            "ss_tag_frequency": json.dumps({"10_papercut": {"papercut": 40, "waves": 22, "tree": 3}}),
            "modelspec.architecture": "Wan-2.1/lora", "modelspec.license": "MIT",
        },
        ((8, 8), "paper_cut", "Wan-2.1/lora", ("papercut", "waves"), "MIT"),
    ),
    "musubi": (
        named(pairs(WAN, 16, 0), MUSUBI),
        {
            "ss_network_module": "networks.lora_wan", "ss_base_model_version": "wan2.1", "ss_output_name": "snow",
            "modelspec.sai_model_spec": "1.0.1", "modelspec.title": "Snow",
            "modelspec.trigger_phrase": "snowfall style",
        },
        ((16, 16), "Snow", "wan2.1", ("snowfall style",), ""),
    ),
    "ai-toolkit": (
        named(pairs(WAN, 4, 0), MUSUBI),
        {
            "software": json.dumps({"name": "ai-toolkit"}), "version": "1.0", "name": "my_lora",
            "training_info": json.dumps({"step": 100, "epoch": 2}), "ss_base_model_version": "wan21",
            "ss_output_name": "my_lora", "ss_tag_frequency": json.dumps({"1_p3r5on": {"p3r5on": 1}}),
        },
        ((4, 4), "my_lora", "wan21", ("p3r5on",), ""),
    ),
    "diffusers": (
        named({**pairs(dict([*WAN.items()][:1]), 4, 0), **pairs(dict([*WAN.items()][1:]), 32, 0)}, DIFFUSERS),
        {"format": "pt", "lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 4})},
        ((4, 32), "", "", (), ""),
    ),
}  # fmt: skip


@pytest.fixture
def loras(tmp_path: Path) -> Path:
    folder = tmp_path / FOLDER
    folder.mkdir()
    return folder


@pytest.mark.parametrize("manner", MANNERS)
def test_a_header_is_read_as_its_trainer_writes_it(loras: Path, manner: str) -> None:
    tensors, metadata, told = MANNERS[manner]
    save_file(tensors, loras / "one.safetensors", metadata)
    (found,) = list_adapters(loras.parent)
    about = found.about
    assert (about.ranks, about.title, about.base, about.trigger_words, about.licence) == told


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"modelspec.trigger_phrase": " ohwx  man, Waves;海浪，waves "}, ("ohwx man", "Waves", "海浪")),
        ({"ss_trigger_words": '["one", 2, "two\\u0000three"]'}, ("one", "two three")),
        ({"trainedWords": "[broken"}, ("[broken",)),
        ({"trigger_words": "", "instance_prompt": "a photo of sks dog"}, ("a photo of sks dog",)),
        ({"ss_tag_frequency": json.dumps({"a": {"x": 3}, "b": {"x": 4, "y": 6, "z": 1}})}, ("x", "y")),
        ({"ss_tag_frequency": json.dumps({"a": {"a whole caption that " * 5: 9}})}, ()),
        ({"ss_tag_frequency": '{"a": [1, 2], "b": {"x": "much", "y": true, "z": -1}}'}, ("y",)),
        ({"ss_tag_frequency": "[" * 100_000}, ()),
        ({}, ()),
    ],
)
def test_words_that_call_it(metadata: dict[str, str], words: tuple[str, ...]) -> None:
    assert trigger_words(metadata) == words


@given(st.dictionaries(st.sampled_from(["ss_tag_frequency", "modelspec.title", "ss_trigger_words"]), st.text()))
def test_whatever_stands_there_only_what_can_be_shown_comes_of_it(metadata: dict[str, str]) -> None:
    about = about_lora({}, metadata)
    assert len(about.title) <= LONGEST_TEXT
    assert len(about.trigger_words) <= MOST_WORDS
    assert all(0 < len(one) <= LONGEST_WORD for one in about.trigger_words)
    assert all(text.isprintable() for text in (about.title, *about.trigger_words))


def picture(size: tuple[int, int], colour: str, kind: str = "PNG") -> bytes:
    written = io.BytesIO()
    Image.new("RGB", size, colour).save(written, kind)
    return written.getvalue()


def as_uri(content: bytes) -> dict[str, str]:
    return {"modelspec.thumbnail": f"data:image/png;base64,{base64.b64encode(content).decode()}"}


def shown(loras: Path, metadata: dict[str, str] | None = None) -> Image.Image | None:
    """The small picture of the one LoRA there."""
    file = loras / "one.safetensors"
    save_file({"x.lora_A.weight": torch.zeros(2, 2)}, file, metadata)
    made = picture_of(file, loras.parent)
    return None if made is None else Image.open(io.BytesIO(made))


def is_red(image: Image.Image | None) -> bool:
    assert image is not None
    red, green, blue = image.convert("RGB").getpixel((5, 5))
    return red > 200 > 60 > max(green, blue)


def test_its_picture_is_made_small(loras: Path) -> None:
    made = shown(loras, as_uri(picture((600, 300), "red")))
    assert is_red(made)
    assert (made.format, made.size) == ("WEBP", (SIDE, SIDE // 2))
    assert len(picture_of(loras / "one.safetensors", loras.parent)) < 2000


@pytest.mark.parametrize("name", ["one.png", "one.jpg", "one.webp", "one.preview.png"])
def test_a_picture_of_the_same_name_beside_it_is_its_own(loras: Path, name: str) -> None:
    assert shown(loras) is None
    kind = {"jpg": "JPEG", "webp": "WEBP"}.get(name.rpartition(".")[2], "PNG")
    (loras / name).write_bytes(picture((50, 50), "red", kind))
    assert is_red(shown(loras))
    assert is_red(shown(loras, as_uri(b"no picture")))


def test_a_picture_elsewhere_or_of_another_kind_is_not_read(loras: Path) -> None:
    outside = loras.parent / "private.png"
    outside.write_bytes(picture((50, 50), "red"))
    (loras / "one.png").symlink_to(outside)
    assert shown(loras) is None
    (loras / "one.png").unlink()
    for content in (picture((50, 50), "red", "TIFF"), b"", picture((9000, 9000), "red"), picture((50, 50), "red")[:60]):
        (loras / "one.png").write_bytes(content)
        assert shown(loras) is None


def test_a_picture_that_changes_is_read_again(loras: Path) -> None:
    (loras / "one.png").write_bytes(picture((50, 50), "blue"))
    assert not is_red(shown(loras))
    (loras / "one.png").write_bytes(picture((60, 50), "red"))
    assert is_red(shown(loras))
