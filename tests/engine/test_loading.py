"""Checkpoint folders as they are published: half-precision variants, shards, both beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import I2VGenXLPipeline

from i2v.families import SPECS
from i2v.families.i2vgen_xl.model import load
from i2v.models.verify import verify_folder


@pytest.fixture
def saved(checkpoint: Path, tmp_path: Path):
    """`saved(variant, shard)` writes the checkpoint again in that form and returns its folder."""

    def saved(folder: str, *, variant: str | None = None, shard: str = "10GB") -> Path:
        dtype = torch.float16 if variant else torch.float32
        pipeline = I2VGenXLPipeline.from_pretrained(checkpoint, dtype=dtype, local_files_only=True)
        pipeline.save_pretrained(tmp_path / folder, variant=variant, max_shard_size=shard, safe_serialization=True)
        return tmp_path / folder

    return saved


@pytest.mark.parametrize("shard", ["10GB", "1MB"], ids=["one file", "shards"])
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_every_published_form_gives_the_same_model(saved, family, variant, shard):
    folder = saved("model", variant=variant, shard=shard)
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1 or shard == "10GB"
    verify_folder(folder, SPECS["i2vgen_xl"])
    loaded = load(folder, torch.float16)
    for name, module in family.modules.items():
        theirs = dict(module.named_parameters())
        for key, parameter in loaded.modules[name].named_parameters():
            assert parameter.dtype == torch.float16
            assert torch.equal(parameter, theirs[key].half()), (name, key)


def test_float32_takes_the_full_weights_where_both_are_there(saved, family):
    saved("model", variant="fp16")
    folder = saved("model")
    ours, half = load(folder, torch.float32).unet, load(folder, torch.float16).unet
    for key, parameter in family.unet.named_parameters():
        assert torch.equal(ours.get_parameter(key), parameter)
        assert torch.equal(half.get_parameter(key), parameter.half())


def test_a_loaded_model_neither_trains_nor_drops(family):
    for module in family.modules.values():
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
