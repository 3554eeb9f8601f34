"""LoRA files as a person names them: found, told by their headers, refused with the reason; and in the request."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jobs_support import settings_in
from safetensors.torch import save_file

from i2v.families import SPECS
from i2v.families.lora_names import HUNYUAN_VIDEO
from i2v.jobs.asked.adapters import MAX_ADAPTERS, parted, with_absolute_paths
from i2v.jobs.asked.prepare import build_request
from i2v.jobs.job.again import same_latents, values_of
from i2v.messages import LOCALES, UserError
from i2v.models import adapters
from i2v.models.adapters import FOLDER, check_adapter, list_adapters
from i2v.request import Adapter, GenerationRequest
from tests.lora_files import MUSUBI, kohya, named, pairs

SPEC = replace(SPECS["nano"], title="HunyuanVideo", lora_names=HUNYUAN_VIDEO)
OURS = {"transformer_blocks.0.attn.to_q": (8, 8), "single_transformer_blocks.3.proj_mlp": (32, 8)}
THEIRS = {"double_blocks.11.img_attn_qkv": (24, 8), "single_blocks.0.linear2": (8, 40)}
GOOD = {
    "diffusers": named(pairs(OURS, 2, 0)),
    "diffusers, no prefix": named(pairs(OURS, 2, 0), "{layer}.lora_{part}.weight"),
    "peft": named(pairs(OURS, 2, 0), "base_model.model.{layer}.lora_{part}.default.weight"),
    "musubi": named(pairs(THEIRS, 2, 0), MUSUBI),
    "authors": named(pairs(THEIRS, 2, 0), "{layer}.lora_{part}.weight"),
    "kohya": kohya(pairs(THEIRS, 2, 0), alpha=1.0),
}


@pytest.fixture(autouse=True)
def _family(monkeypatch: pytest.MonkeyPatch) -> None:
    """nano says that it takes HunyuanVideo's LoRAs: nothing is loaded here."""
    monkeypatch.setitem(SPECS, "nano", SPEC)


@pytest.fixture
def loras(tmp_path: Path) -> Path:
    """The folder of LoRAs of `settings_in(tmp_path)`."""
    settings, _ = settings_in(tmp_path)
    folder = settings.models_dir / FOLDER
    (folder / "people").mkdir(parents=True)
    return folder


def write(path: Path, tensors=GOOD["diffusers"], **metadata: str) -> Path:
    save_file(tensors, path, metadata or None)
    return path


def request(tmp_path: Path, lora, **changes) -> GenerationRequest:
    settings, _ = settings_in(tmp_path)
    values = {"model": "nano", "prompt": "waves", "seed": 1, "lora": lora}
    return build_request(values, replace(settings, **changes), to_run=False)


def refusal(action) -> str:
    """The id of the message, which has a text in every language."""
    with pytest.raises(UserError) as refused:
        action()
    assert all(refused.value.message.render(locale) for locale in LOCALES)
    return refused.value.message.id


@pytest.mark.parametrize("form", GOOD)
def test_every_format_is_known_by_its_names(tmp_path: Path, form: str) -> None:
    check_adapter(write(tmp_path / "one.safetensors", GOOD[form]), SPEC)


def other(layer: str, names: str = MUSUBI) -> dict[str, torch.Tensor]:
    return named(pairs({layer: (8, 8)}, 2, 0), names)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        (other("blocks.0.self_attn.q"), "models.adapter_layer"),  # Wan
        (other("double_blocks.0.img_attn.qkv"), "models.adapter_layer"),  # Flux
        (other("transformer_blocks.0.attn1.to_q", "transformer.{layer}.lora_{part}.weight"), "models.adapter_layer"),
        (other("down_blocks.0.attentions.0.proj_in", "unet.{layer}.lora_{part}.weight"), "models.adapter_layer"),
        (kohya(pairs({"down_blocks.0.attentions.0.proj_in": (8, 8)}, 2, 0), 1.0), "models.adapter_layer"),
        ({"transformer_blocks.0.attn.to_q.weight": torch.zeros(8, 8)}, "models.adapter_no_lora"),
        ({}, "models.adapter_no_lora"),
        ({**GOOD["diffusers"], "transformer_blocks.0.attn.to_q.hada_w1_a": torch.zeros(2)}, "models.adapter_key"),
        ({name: one.to(torch.float8_e4m3fn) for name, one in GOOD["diffusers"].items()}, "models.tensor_kind"),
    ],
)
def test_what_is_no_lora_for_this_model_is_told(tmp_path: Path, tensors, told: str) -> None:
    file = write(tmp_path / "one.safetensors", tensors)
    assert refusal(lambda: check_adapter(file, SPEC)) == told


def test_a_header_that_names_another_model_is_believed(tmp_path: Path) -> None:
    """Flux and HunyuanVideo have layers of the same names and shapes."""
    key = "modelspec.architecture"
    check_adapter(write(tmp_path / "right.safetensors", **{key: "Hunyuan-Video/lora"}), SPEC)
    file = write(tmp_path / "wrong.safetensors", **{key: "flux-1-dev/lora"})
    assert refusal(lambda: check_adapter(file, SPEC)) == "models.adapter_stated"


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"lora": 1}))


def _torch_saved(path: Path) -> None:
    torch.save(GOOD["diffusers"], path)


def _cut(path: Path) -> None:
    whole = write(path).read_bytes()
    path.write_bytes(whole[: len(whole) - 10])


@pytest.mark.parametrize(
    ("name", "make", "told"),
    [
        ("one.safetensors", _pickled, "models.adapter_pickle"),
        ("one.safetensors", _torch_saved, "models.adapter_pickle"),
        ("one.pt", _torch_saved, "models.adapter_pickle"),
        ("one.ckpt", write, "models.adapter_pickle"),  # whoever calls it so does not know what it is
        ("one.safetensors", _cut, "models.truncated"),
        ("one.safetensors", Path.touch, "models.truncated"),
        ("one.safetensors", lambda path: path.write_bytes(b"x" * 100), "models.not_safetensors"),
        ("one.safetensors", lambda path: path.write_bytes((2).to_bytes(8, "little") + b"[]"), "models.not_safetensors"),
        ("one.safetensors", lambda path: None, "models.adapter_missing"),
        ("one.safetensors", Path.mkdir, "models.adapter_missing"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, loras: Path, name: str, make, told: str) -> None:
    make(loras / name)
    assert refusal(lambda: request(tmp_path, name)) == told
    listed = {one.name: one for one in list_adapters(loras.parent)}
    assert all(one.problem is not None and one.problem.id == told for one in listed.values())
    assert len(listed) == (told != "models.adapter_missing")


def test_files_are_listed_by_name_with_size_and_family(loras: Path) -> None:
    one, two = write(loras / "style v1.2.safetensors"), write(loras / "people/old.safetensors", GOOD["kohya"])
    bad = write(loras / "x flux.safetensors", other("double_blocks.0.img_attn.qkv"))
    (loras / "notes.txt").write_text("mine")
    (loras / ".fetching").mkdir()
    write(loras / ".fetching/half.safetensors")
    write(loras / ".hidden.safetensors")
    found = list_adapters(loras.parent)
    alike = tuple(name for name, spec in SPECS.items() if spec.lora_names == SPECS["nano"].lora_names)
    assert [(one.name, one.path) for one in found] == [("people/old", two), ("style v1.2", one), ("x flux", bad)]
    assert [one.size_bytes for one in found] == [path.stat().st_size for path in (two, one, bad)]
    assert [one.families for one in found] == [alike, alike, ()]
    assert [one.problem and one.problem.id for one in found] == [None, None, "models.adapter_layer"]
    assert list_adapters(loras.parent / "nowhere") == []


@pytest.mark.parametrize(
    ("typed", "source", "weight"),
    [
        ("style", "style", 1.0), ("style:0.5", "style", 0.5), ("style.safetensors:-1", "style", -1.0),
        ("people/old: 1e-1", "people/old", 0.1), ("a:b", "a:b", 1.0), ("a:b:2", "a:b", 2.0), ("3:4", "3:4", 1.0),
        ("3:4:0.25", "3:4", 0.25), (r"C:\loras\x", r"C:\loras\x", 1.0), (r"C:\loras\x:0.5", r"C:\loras\x", 0.5),
        ("style:+4", "style", 4.0),
    ],
)  # fmt: skip
def test_a_name_may_hold_colons(tmp_path: Path, loras: Path, typed: str, source: str, weight: float) -> None:
    for name in ("style", "people/old", "a:b", "3:4", r"C:\loras\x"):
        write(loras / f"{name}.safetensors")
    made = request(tmp_path, typed)
    assert [(one.source, one.weight) for one in made.adapters] == [(source, weight)]
    again = request(tmp_path, values_of(made)["lora"])
    assert again == made


@given(st.text(), st.floats(-4, 4))
def test_what_a_retry_writes_is_read_as_it_was(name: str, weight: float) -> None:
    assert parted(f"{name}:{weight!r}", lambda one: one == name) == (name, repr(weight))


def test_one_empty_text_is_no_lora(tmp_path: Path, loras: Path) -> None:
    assert request(tmp_path, [""]).adapters == ()


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("style:4.1", "request.lora_weight"), ("style:-5", "request.lora_weight"), ("style:nan", "request.lora_weight"),
        ("style:inf", "request.lora_weight"), ("style:much", "request.lora_weight"), ("style:", "request.lora_weight"),
        ("gone:0.5", "models.adapter_missing"), ("gone", "models.adapter_missing"), (":0.5", "request.lora_text"),
        ("../secret", "models.adapter_missing"), ("\0", "models.adapter_missing"),
        ("x" * 5000, "models.adapter_missing"),
        (["style", 3], "request.lora_text"), ({"style": 1}, "request.lora_text"), (0.5, "request.lora_text"),
        (["style", ""], "request.lora_text"), (["style"] * (MAX_ADAPTERS + 1), "request.lora_many"),
        ("~nobody-here/style", "models.adapter_missing"),
    ],
)  # fmt: skip
def test_what_is_not_meant_so_is_told(tmp_path: Path, loras: Path, typed, told: str) -> None:
    write(loras / "style.safetensors")
    assert refusal(lambda: request(tmp_path, typed)) == told


def test_a_path_leads_to_a_file_anywhere_but_not_for_guests(
    tmp_path: Path, loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = write(loras / "style.safetensors"), write(tmp_path / "outside.safetensors")
    monkeypatch.chdir(tmp_path)
    for typed in (str(outside), "outside.safetensors"):
        assert request(tmp_path, typed).adapters[0].source == str(outside)
        assert (
            refusal(lambda typed=typed: request(tmp_path, typed, listed_models_only=True)) == "models.adapter_missing"
        )
    back = os.path.relpath(outside, loras)
    assert refusal(lambda: request(tmp_path, back, listed_models_only=True)) == "models.adapter_missing"
    assert request(tmp_path, str(inside), listed_models_only=True).adapters[0].source == "style"
    assert with_absolute_paths(["outside.safetensors:0.5", "style:2"]) == [f"{outside}:0.5", "style:2"]


def test_a_model_that_takes_none_says_so(tmp_path: Path, loras: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS, "nano", replace(SPEC, lora_names=None))
    assert refusal(lambda: request(tmp_path, "style")) == "family.adapters_not_taken"


def test_the_request_has_the_contents(tmp_path: Path, loras: Path) -> None:
    write(loras / "style.safetensors")
    one, two = request(tmp_path, ["style:0.5", "style"]), request(tmp_path, ["style:0.5"])
    assert GenerationRequest.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert not same_latents(one, two)
    (loras / "style.safetensors").rename(loras / "renamed.safetensors")
    assert same_latents(request(tmp_path, ["renamed:0.5"]), two)
    write(loras / "style.safetensors", named(pairs(OURS, 2, seed=1)))
    assert not same_latents(request(tmp_path, ["style:0.5"]), two)
    assert request(tmp_path, None).adapters == ()


def test_its_numbers_are_counted_for_the_prediction(tmp_path: Path, loras: Path) -> None:
    """Two of rank 2 for (8, 8) and (32, 8); of those that are one layer with their authors, A counts for each part."""
    write(loras / "ours.safetensors")
    write(loras / "theirs.safetensors", GOOD["kohya"])
    count = adapters.adapter_numbers
    ours, theirs = Adapter("ours"), Adapter("theirs")
    assert count((ours,), loras.parent, SPEC) == 2 * (8 + 8) + 2 * (32 + 8)
    assert count((theirs,), loras.parent, SPEC) == 2 * (24 + 3 * 8) + 2 * (8 + 40)
    assert count((ours, theirs), loras.parent, SPEC) == sum(count((one,), loras.parent, SPEC) for one in (ours, theirs))
    assert count((), loras.parent, SPEC) == 0
