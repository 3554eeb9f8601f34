"""A checkpoint that does not hold what its configurations describe is refused before anything is computed."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from i2v.engine.engine import Engine
from i2v.engine.weights import find_tensors
from i2v.families import SPECS
from i2v.families.skeletons import read_configs
from i2v.messages import UserError
from i2v.models.catalogue import ModelEntry
from i2v.plan import Plan
from i2v.request import GenerationRequest

SPEC = SPECS["i2vgen_xl"]
UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
FIRST = "conv_in.weight"

Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@pytest.fixture
def folder(light_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to be harmed."""
    return shutil.copytree(light_checkpoint, tmp_path / "model")


@pytest.fixture
def refused(folder: Path, photo, request_: GenerationRequest, tmp_path: Path) -> Callable[..., tuple[str, dict]]:
    """What the engine says of the folder, in both languages without a gap."""

    def refused(precision: str = "float32") -> tuple[str, dict]:
        photo.save(tmp_path / "input.png")
        entry = ModelEntry("own", SPEC.name, "own", folder, None, True, 0, None)
        events: list = []
        with pytest.raises(UserError) as caught:
            Engine().run(
                request_, Plan(precision=precision), entry=entry, job_folder=tmp_path, emit=events.append,
                cancelled=lambda: False,
            )  # fmt: skip
        assert [event.phase for event in events if hasattr(event, "phase")] == ["load"]
        said = caught.value.message
        assert said.render("en") != said.render("zh-CN")
        return said.id, dict(said.params)

    return refused


def rewrite(file: Path, change: Change) -> str:
    save_file(change(load_file(file)), file)
    return str(file)


def without(*names: str) -> Change:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names}


def with_value(tensor: str, value: float) -> Change:
    def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors[tensor].view(-1)[3] = value
        return tensors

    return change


def test_a_missing_tensor_is_named(folder: Path, refused) -> None:
    file = rewrite(folder / UNET, without(FIRST))
    said, params = refused()
    assert (said, params["file"], params["tensor"], params["missing"]) == ("models.tensor_missing", file, FIRST, 1)


def test_another_shape_is_named_with_the_one_that_is_wanted(folder: Path, refused) -> None:
    file = rewrite(folder / UNET, lambda tensors: tensors | {FIRST: tensors[FIRST][:, :4].contiguous()})
    said, params = refused()
    assert (said, params["file"], params["tensor"]) == ("models.tensor_shape", file, FIRST)
    assert (params["found"], params["wanted"]) == ("16x4x3x3", "16x8x3x3")


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "module."])
def test_a_prefix_of_another_program_is_named(folder: Path, refused, prefix: str) -> None:
    rewrite(folder / UNET, lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()})
    said, params = refused()
    assert (said, params["prefix"], params["tensor"]) == ("models.tensor_prefix", prefix, FIRST)


def test_weights_of_another_model_are_counted(folder: Path, refused) -> None:
    shutil.copy(folder / VAE, folder / UNET)
    said, params = refused()
    assert said == "models.tensor_missing"
    assert params["missing"] > params["count"] / 2


def test_quantized_weights_are_not_taken_for_whole_ones(folder: Path, refused) -> None:
    rewrite(folder / UNET, lambda tensors: tensors | {FIRST: tensors[FIRST].to(torch.int8)})
    said, params = refused()
    assert (said, params["kind"]) == ("models.tensor_kind", "I8")


@pytest.mark.parametrize(("file", "value"), [(UNET, float("nan")), (TEXT, float("-inf"))])
def test_weights_that_are_no_numbers_are_the_files_fault(folder: Path, refused, file: str, value: float) -> None:
    tensor = FIRST if file == UNET else "text_model.final_layer_norm.weight"
    names = load_file(folder / file)
    tensor = tensor if tensor in names else tensor.removeprefix("text_model.")
    rewrite(folder / file, with_value(tensor, value))
    assert refused() == ("models.tensor_not_finite", {"file": str(folder / file), "tensor": tensor})


def test_weights_too_large_for_a_precision_are_not_damaged(folder: Path, refused) -> None:
    rewrite(folder / UNET, with_value(FIRST, 1e6))
    said, params = refused("float16")
    assert (said, params["precision"]) == ("models.tensor_too_large", "float16")


def test_a_configuration_that_makes_no_model(folder: Path, refused) -> None:
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"norm_num_groups": 5}))
    assert refused()[0] == "models.bad_config"


def test_a_tokenizer_that_makes_no_sense_is_no_fault_of_the_app(folder: Path, refused) -> None:
    (folder / "tokenizer" / "vocab.json").write_text('{"a": "b"}')
    assert refused()[0] == "models.cannot_load"


def test_the_names_of_older_checkpoints_are_known(folder: Path) -> None:
    """As transformers wrote text encoders before 5.6, and diffusers attention before 0.13."""
    whole = find_tensors(folder, SPEC, "float32")
    rewrite(
        folder / TEXT,
        lambda tensors: {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in tensors.items()},
    )
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(name: str) -> str:
        for new, old in older.items():
            name = name.replace(f".{new}.", f".{old}.")
        return name

    file = rewrite(folder / VAE, lambda tensors: {renamed(name): tensor for name, tensor in tensors.items()})
    assert any("query" in name for name in load_file(file))
    assert find_tensors(folder, SPEC, "float32").keys() == whole.keys()


def test_what_is_more_than_wanted_does_no_harm(folder: Path) -> None:
    rewrite(folder / UNET, lambda tensors: tensors | {"ema.decay": torch.zeros(1)})
    assert find_tensors(folder, SPEC, "float32")


@pytest.mark.parametrize("family", SPECS)
def test_every_familys_configurations_make_its_model_without_weights(family: str) -> None:
    """As they do when a checkpoint is opened: new tensors are on no device then, and the scheduler looks at its own."""
    skeleton = importlib.import_module(f"i2v.families.{family}.skeleton")
    with torch.device("meta"):
        configs = read_configs(skeleton.CONFIGS, skeleton.CONFIGURED)
        model = skeleton.skeleton(configs, torch.float32, SPECS[family].max_prompt_tokens)
    assert {one.device.type for module in model.modules.values() for one in module.parameters()} == {"meta"}
    sigmas = getattr(model.scheduler, "sigmas", None)
    assert sigmas is None or sigmas.device.type == "cpu"
