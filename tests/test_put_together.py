"""`models import FILE`: of one file of weights and of what a model on this computer has, a model is made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli_support import i2v
from diffusers import WanTransformer3DModel
from gguf_checkpoints import redrawn, wan_name
from machines import settings
from safetensors.torch import load_file, save_file
from wan_checkpoints import build_wan

from i2v.engine import converted
from i2v.families import SPECS
from i2v.messages import LOCALES, UserError
from i2v.models.catalogue import find_model
from i2v.models.kinds import kind_of
from i2v.models.put_together import making_of, put_together
from i2v.models.removal import linked_into, removal_of
from i2v.models.single_files import part_in
from i2v.settings.settings import Settings
from tests.model_folders import empty_hub_cache

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty_hub_cache(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wan(tmp_path_factory.mktemp("wan") / "small")


@pytest.fixture(scope="module")
def other(wan: Path) -> WanTransformer3DModel:
    """A transformer like that of `wan`, with numbers of its own."""
    torch.manual_seed(11)
    network = WanTransformer3DModel.from_config(WanTransformer3DModel.load_config(wan / "transformer"))
    return redrawn(network.to(torch.bfloat16))


def here(folder: Path) -> Settings:
    return replace(settings(), models_dir=folder / "models", offline=True)


def write_single(file: Path, network: WanTransformer3DModel, *, prefix: str = "") -> Path:
    """As its authors, or with `prefix` ComfyUI, keep it."""
    tensors = {prefix + wan_name(name): tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, file)
    return file


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return i2v(folder, "models", "import", *words, "--models", str(folder / "models"), "--json")


def with_base(folder: Path, wan: Path, name: str = "base") -> Path:
    return Path(shutil.copytree(wan, folder / "models" / name))


def in_process(file: Path, places: Settings, base: Path | None = None) -> Path:
    part = part_in(file)
    assert part is not None
    return put_together(making_of(file, part, places, named=base), places, converted.convert)[0]


def refused(call: object, *args: object) -> str:
    with pytest.raises(UserError) as caught:
        call(*args)
    assert all("{" not in caught.value.message.render(locale) for locale in LOCALES)
    return caught.value.message.id


def test_a_file_becomes_a_model_with_the_rest_of_another(
    tmp_path: Path, wan: Path, other: WanTransformer3DModel
) -> None:
    base = with_base(tmp_path, wan)
    file = write_single(tmp_path / "我的 tune.safetensors", other)
    ran = command(tmp_path, str(file))
    assert ran.returncode == 0, ran.stderr
    target = tmp_path / "models" / "我的 tune"
    assert json.loads(ran.stdout) == [
        {
            "name": "我的 tune",
            "folder": str(target),
            "family": kind_of(base).family,
            "base": "base",
            "files": [str(file)],
        }
    ]
    entry = find_model("我的 tune", here(tmp_path))
    assert entry.present
    assert kind_of(target, [tmp_path / "models"]).whole
    # What diffusers itself makes of the file is the oracle.
    read = WanTransformer3DModel.from_single_file(str(file), config=str(wan / "transformer"), local_files_only=True)
    written = load_file(target / WEIGHTS)
    assert written.keys() == read.state_dict().keys()
    assert all(torch.equal(written[name].float(), tensor.float()) for name, tensor in other.state_dict().items())
    assert all(torch.equal(written[name].float(), tensor.float()) for name, tensor in read.state_dict().items())
    # The rest takes no room, and removing what it comes from says who needs it.
    assert (target / "vae").readlink() == base / "vae"
    assert linked_into(removal_of(base, here(tmp_path)), here(tmp_path)) == ["我的 tune"]
    assert file.exists()


def test_in_parts_it_is_the_same_and_no_part_is_large(
    tmp_path: Path, wan: Path, other: WanTransformer3DModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converted, "_PART_BYTES", 200_000)
    with_base(tmp_path, wan)
    file = write_single(tmp_path / "tune.safetensors", other, prefix="model.diffusion_model.")
    target = in_process(file, here(tmp_path))
    parts = sorted(target.glob("transformer/*.safetensors"))
    assert len(parts) > 2
    assert all(part.stat().st_size < 400_000 for part in parts)
    read = WanTransformer3DModel.from_pretrained(target / "transformer", torch_dtype=torch.bfloat16)
    assert all(torch.equal(read.state_dict()[name], tensor) for name, tensor in other.state_dict().items())


def test_the_model_that_fits_is_taken_and_one_without_its_own_weights_will_do(
    tmp_path: Path, wan: Path, other: WanTransformer3DModel
) -> None:
    wider = with_base(tmp_path, wan, "a wider")
    config = json.loads((wider / "transformer" / "config.json").read_text())
    config["num_layers"] += 1
    (wider / "transformer" / "config.json").write_text(json.dumps(config))
    (wider / WEIGHTS).unlink()
    file = write_single(tmp_path / "tune.safetensors", other)
    assert refused(in_process, file, here(tmp_path)) == "models.single_differs"
    assert not (tmp_path / "models" / "tune").exists()
    assert [one.name for one in (tmp_path / "models").iterdir()] == ["a wider"], "nothing half is left"
    base = with_base(tmp_path, wan, "b fits")
    (base / WEIGHTS).unlink()
    target = in_process(file, here(tmp_path))
    assert (target / "vae").readlink() == base / "vae"


def test_what_a_named_folder_elsewhere_lends_is_copied(tmp_path: Path, wan: Path, other: WanTransformer3DModel) -> None:
    file = write_single(tmp_path / "tune.safetensors", other)
    ran = command(tmp_path, str(file), "--base", str(wan), "--move")
    assert ran.returncode == 0, ran.stderr
    target = tmp_path / "models" / "tune"
    assert not any(path.is_symlink() for path in target.rglob("*"))
    assert find_model("tune", here(tmp_path)).present
    assert not file.exists(), "it was to be moved"


def test_without_the_rest_it_is_said_what_is_missing_and_how_much_that_is(
    tmp_path: Path, other: WanTransformer3DModel
) -> None:
    file = write_single(tmp_path / "tune.safetensors", other)
    assert refused(in_process, file, here(tmp_path)) == "models.single_no_base"
    ran = command(tmp_path, str(file))
    assert ran.returncode == 2
    spec = SPECS[part_in(file).family]
    assert all(word in ran.stderr for word in ("vae", "text_encoder", spec.hub_id, str(round(spec.download_gib, 1))))


def test_what_is_quantised_or_cut_or_has_a_name_that_is_taken_is_refused(
    tmp_path: Path, wan: Path, other: WanTransformer3DModel
) -> None:
    with_base(tmp_path, wan)
    file = write_single(tmp_path / "base.safetensors", other)
    assert refused(in_process, file, here(tmp_path)) == "models.name_taken"
    tensors = {wan_name(name): tensor for name, tensor in other.state_dict().items()}
    first = next(name for name in tensors if name.endswith("q.weight"))
    save_file(tensors | {first: tensors[first].to(torch.float8_e4m3fn)}, tmp_path / "eight.safetensors")
    assert refused(in_process, tmp_path / "eight.safetensors", here(tmp_path)) == "models.tensor_kind"
    del tensors[first]
    save_file(tensors, tmp_path / "less.safetensors")
    assert refused(in_process, tmp_path / "less.safetensors", here(tmp_path)) in (
        "models.single_differs",
        "models.single_names",
    )
    save_file(tensors | {first: other.state_dict()["proj_out.weight"].clone()}, tmp_path / "odd.safetensors")
    assert refused(in_process, tmp_path / "odd.safetensors", here(tmp_path)) == "models.single_differs"
    whole = {wan_name(name): tensor.contiguous() for name, tensor in other.state_dict().items()}
    save_file(whole | {"blocks.99.self_attn.q.weight": whole[first].clone()}, tmp_path / "more.safetensors")
    assert refused(in_process, tmp_path / "more.safetensors", here(tmp_path)) == "models.single_differs"
    assert os.listdir(tmp_path / "models") == ["base"]
