"""`python -m i2v models loras`: every LoRA that is here, what it is for, and why a model does not take it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_support import i2v
from safetensors.torch import save_file

from i2v.models.adapters import FOLDER
from tests.lora_files import MUSUBI, named, pairs

SAID = {"modelspec.trigger_phrase": "paper cut", "modelspec.license": "MIT", "modelspec.title": "Paper"}


def loras(folder: Path, *words: str, **environ: str):
    return i2v(folder, "models", "loras", *words, "--models", str(folder / "models"), **environ)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shelf = tmp_path / "models" / FOLDER
    shelf.mkdir(parents=True)
    save_file(named(pairs({"blocks.0.self_attn.q": (16, 16)}, 4, 0), MUSUBI), shelf / "paper 纸.safetensors", SAID)
    (shelf / "paper copy.safetensors").write_bytes((shelf / "paper 纸.safetensors").read_bytes())
    (shelf / "broken.safetensors").write_bytes(b"x" * 50)
    theirs = tmp_path / "Comfy" / "loras"
    theirs.mkdir(parents=True)
    save_file(named(pairs({"double_blocks.11.img_attn_qkv": (24, 8)}, 2, 0), MUSUBI), theirs / "rain.safetensors")
    return tmp_path


def test_every_one_is_told_in_json(folder: Path) -> None:
    ran = loras(folder, "--json", I2V_MODEL_FOLDERS=str(folder / "Comfy"))
    assert ran.returncode == 0, ran.stderr
    told = {one["name"]: one for one in json.loads(ran.stdout)}
    assert list(told) == ["broken", "paper copy", "paper 纸", "rain"]
    paper = told["paper copy"]
    assert (paper["ranks"], paper["trigger_words"], paper["licence"]) == ([4, 4], ["paper cut"], "MIT")
    assert (paper["refusal"], paper["same_as"], told["paper 纸"]["same_as"]) == (None, None, "paper copy")
    assert "wan" in paper["families"]
    assert "hunyuan_video" in told["rain"]["families"]
    assert told["rain"]["file"] == str(folder / "Comfy/loras/rain.safetensors")
    assert "not a safetensors file" in told["broken"]["refusal"]


def test_a_model_says_which_it_does_not_take_in_both_languages(folder: Path) -> None:
    english = loras(folder, "Wan2.1-T2V-1.3B-Diffusers", "--lang", "en", I2V_MODEL_FOLDERS=str(folder / "Comfy"))
    assert english.returncode == 0, english.stderr
    for said in ("paper copy  1 MiB", "rank 4", "Words that call it: paper cut", "The same file as paper copy"):
        assert said in english.stdout
    assert "rain is for another model than Wan 2.1: it can be used with HunyuanVideo" in english.stdout
    chinese = loras(folder, "--lang", "zh-CN")
    for said in ("适用于：", "触发词：", "与 paper copy 是同一个文件"):
        assert said in chinese.stdout
    assert "rain" not in chinese.stdout


def test_none_or_no_such_model_is_told(tmp_path: Path) -> None:
    none = loras(tmp_path, "--lang", "en")
    assert (none.returncode, str(tmp_path / "models" / FOLDER) in none.stdout) == (0, True)
    assert json.loads(loras(tmp_path, "--json").stdout) == []
    unknown = loras(tmp_path, "nobody", "--lang", "en")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "nobody" in unknown.stderr
