"""A LoRA for a model of another size is told by headers alone, and told of the very files that loading would refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from jobs_support import settings_in
from safetensors.torch import save_file

from i2v.families import SPECS
from i2v.families.adapters import check_fit, read_lora
from i2v.families.lora_names import WAN
from i2v.messages import LOCALES, Message, UserError
from i2v.models.entry import ModelEntry
from i2v.models.few_steps import found_for_few_steps
from i2v.models.lora_fit import misfit, refusal_for
from i2v.models.lora_list import list_loras
from i2v.models.lora_places import FOLDER
from tests.lora_files import DIFFUSERS, MUSUBI, kohya, named, pairs

WIDTH, FFN, TEXT = 24, 40, 20
SPEC = SPECS["wan"]
MANNERS = {
    "authors": lambda layer, shape: named(pairs({layer: shape}, 2, 0), MUSUBI),
    "kohya": lambda layer, shape: kohya(pairs({layer: shape}, 2, 0), 1.0),
    "diffusers": lambda layer, shape: named(pairs({_diffusers(layer): shape}, 2, 0), DIFFUSERS),
}
LAYERS = {
    "blocks.1.self_attn.q": (WIDTH, WIDTH), "blocks.0.cross_attn.k": (WIDTH, WIDTH), "blocks.2.ffn.0": (FFN, WIDTH),
    "blocks.2.ffn.2": (WIDTH, FFN),
}  # fmt: skip


def _diffusers(layer: str) -> str:
    return WAN.diffusers_layer(layer)


@pytest.fixture(scope="module")
def network() -> WanTransformer3DModel:
    torch.manual_seed(0)
    return WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=TEXT, freq_dim=8,
        ffn_dim=FFN, num_layers=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(network: WanTransformer3DModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder, as far as it is looked at."""
    folder = tmp_path_factory.mktemp("model")
    network.save_pretrained(folder / "transformer", max_shard_size="60KB")
    assert len(list((folder / "transformer").glob("*-of-*.safetensors"))) > 1
    return folder


def told_by_loading(file: Path, network: WanTransformer3DModel) -> str | None:
    try:
        check_fit(network, read_lora(file, WAN), file)
    except UserError as error:
        return error.message.id
    return None


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("change", [(0, 0), (0, 8), (8, 0), (-8, -8)])
def test_what_the_headers_tell_is_what_loading_tells(
    tmp_path: Path, network: WanTransformer3DModel, folder: Path, manner: str, layer: str, change: tuple[int, int]
) -> None:
    shape = tuple(side + more for side, more in zip(LAYERS[layer], change, strict=True))
    file = tmp_path / "a.safetensors"
    save_file(MANNERS[manner](layer, shape), file)
    told = misfit(file, SPEC, folder)
    assert (
        (told and told.id) == told_by_loading(file, network) == (None if change == (0, 0) else "models.adapter_shape")
    )
    if told is not None:
        assert all("x" in str(told.params[name]) for name in ("found", "wanted"))
        assert len({told.render(locale) for locale in LOCALES}) == len(LOCALES)


def test_where_nobody_can_tell_nothing_is_refused(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file(MANNERS["authors"]("blocks.0.self_attn.q", (8, 8)), file)
    assert misfit(file, SPEC, None) is None
    assert misfit(file, SPEC, tmp_path / "nowhere") is None
    (tmp_path / "broken/transformer").mkdir(parents=True)
    (tmp_path / "broken/transformer/diffusion_pytorch_model.safetensors").write_bytes(b"x" * 40)
    assert misfit(file, SPEC, tmp_path / "broken") is None
    assert misfit(tmp_path / "gone.safetensors", SPEC, folder) is None
    absent = ModelEntry("big", "wan", "Big", folder, "a/b", present=False, size_bytes=0, problem=None)
    assert refusal_for(file, SPEC, absent) is None
    assert refusal_for(file, SPEC, replace(absent, present=True)) == misfit(file, SPEC, folder)


def test_a_model_of_another_size_shows_it_greyed_and_is_not_given_it_for_few_steps(
    tmp_path: Path, folder: Path
) -> None:
    settings, _ = settings_in(tmp_path)
    loras = settings.models_dir / FOLDER
    loras.mkdir(parents=True)
    save_file(MANNERS["authors"]("blocks.0.self_attn.q", (8, 8)), loras / "a 14B lightx2v.safetensors")
    save_file(
        MANNERS["authors"]("blocks.0.self_attn.q", LAYERS["blocks.1.self_attn.q"]), loras / "b lightx2v.safetensors"
    )
    entry = ModelEntry("little", "wan", "Little", folder, None, present=True, size_bytes=0, problem=None)
    wide, own = list_loras(settings, entry)
    assert isinstance(wide.refusal, Message)
    assert (wide.refusal.id, wide.refusal.params["file"]) == ("models.adapter_shape", "a 14B lightx2v")
    assert own.refusal is None
    assert found_for_few_steps(SPEC, settings.models_dir) == ("a 14B lightx2v",)
    assert found_for_few_steps(SPEC, settings.models_dir, folder=folder) == ("b lightx2v",)
