"""LoRAs in the folders of other programs: found where `model_folders` names them, called by their names, used there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from jobs_support import settings_in
from safetensors.torch import save_file

from i2v.families import SPECS
from i2v.jobs.asked.adapters import adapters_of
from i2v.messages import UserError
from i2v.models.adapters import adapters_for, checked_file, list_adapters
from i2v.models.lora_list import list_loras
from i2v.models.lora_pictures import picture_of
from i2v.models.lora_places import FOLDER, MOST_FILES, files_in, is_adapter, lora_folders, name_of
from i2v.request import Adapter
from i2v.settings.settings import Settings
from i2v.wire.worker import Run
from i2v.worker.run import _orders
from tests.lora_files import MUSUBI, named, pairs
from tests.photos import photograph

WAN = SPECS["wan"]


def lora(path: Path, layer: str = "blocks.0.self_attn.q", seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(named(pairs({layer: (16, 16)}, 4, seed), MUSUBI), path)
    return path


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Another program, with LoRAs for all kinds of models."""
    folder = tmp_path / "Comfy 程序"
    lora(folder / "models/loras/rain.safetensors", seed=1)
    lora(folder / "models/loras/wan/snow.safetensors", seed=2)
    lora(folder / "models/loras/style.safetensors", seed=3)
    lora(folder / "models/loras/for a picture model.safetensors", "double_blocks.0.nobody")
    (folder / "models/loras/old.ckpt").write_bytes(b"x")
    (folder / "models/loras/broken.safetensors").write_bytes(b"x" * 40)
    return folder


@pytest.fixture
def settings(tmp_path: Path, theirs: Path) -> Settings:
    """With a LoRA of our own that has the name of one of theirs."""
    settings, _ = settings_in(tmp_path)
    lora(settings.models_dir / FOLDER / "style.safetensors", seed=4)
    return replace(settings, model_folders=(theirs,))


def test_the_folders_of_other_programs_are_known_by_their_names(tmp_path: Path) -> None:
    for name in ("comfy/models/loras", "a1111/models/Lora", "forge/loras", "plain/mine", "hidden/.loras"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "comfy/lora").write_bytes(b"a file")
    named_there = [tmp_path / name for name in ("comfy", "a1111", "forge/loras", "forge", "plain", "hidden", "gone")]
    found = [folder.relative_to(tmp_path).as_posix() for folder in lora_folders(named_there)]
    assert found == ["comfy/models/loras", "a1111/models/Lora", "forge/loras"]


def test_they_are_listed_for_the_families_here_and_called_by_names_that_lead_to_them(
    settings: Settings, theirs: Path
) -> None:
    found = {one.name: one.path for one in adapters_for(settings)}
    taken = theirs / "models/loras/style.safetensors"
    assert list(found) == ["rain", "style", "wan/snow", str(taken)]
    assert found["style"] == settings.models_dir / FOLDER / "style.safetensors"
    places = (settings.models_dir, lora_folders(settings.model_folders))
    for name, path in found.items():
        assert is_adapter(name, *places, listed_only=True) == path
        assert name_of(path, *places) == name
    assert [one.name for one in list_adapters(settings.models_dir)] == ["style"]


def test_only_what_is_listed_may_be_named_where_others_log_in(settings: Settings, theirs: Path, tmp_path: Path) -> None:
    shared = replace(settings, listed_models_only=True)
    elsewhere = lora(tmp_path / "secret/x.safetensors")
    for name in (
        str(elsewhere),
        "../../../secret/x",
        "../style",
        f"{theirs}/models/loras/../../../secret/x.safetensors",
    ):
        with pytest.raises(UserError) as refused:
            adapters_of(name, shared, WAN)
        assert refused.value.message.id == "models.adapter_missing", name
    assert adapters_of(str(elsewhere), settings, WAN)[0].source == str(elsewhere)
    assert [one.source for one in adapters_of(["rain:0.5", "wan/snow"], shared, WAN)] == ["rain", "wan/snow"]


def test_a_worker_finds_by_its_name_what_the_request_names(settings: Settings, theirs: Path) -> None:
    asked = adapters_of(["rain:0.5", str(theirs / "models/loras/style.safetensors")], settings, WAN)
    told = [str(folder) for folder in lora_folders(settings.model_folders)]
    run = Run("id", "f", {}, {}, {}, str(settings.models_dir), "log", lora_folders=told)
    orders = _orders(Run(**json.loads(json.dumps(vars(run)))), lambda: False)
    files = [checked_file(one, orders.models_dir, WAN, orders.lora_folders)[0] for one in asked]
    assert files == [theirs / "models/loras" / name for name in ("rain.safetensors", "style.safetensors")]
    with pytest.raises(UserError):
        checked_file(Adapter("rain"), orders.models_dir, WAN)


def test_two_of_the_same_contents_are_told_and_ours_stays(settings: Settings, theirs: Path) -> None:
    ours = settings.models_dir / FOLDER
    (ours / "copy.safetensors").write_bytes((theirs / "models/loras/rain.safetensors").read_bytes())
    (ours / "zz.safetensors").write_bytes((ours / "style.safetensors").read_bytes())
    told = {one.file.name: one.same_as for one in list_loras(settings, None) if one.same_as}
    assert told == {"rain": "copy", "zz": "style"}
    sizes = {one.file.size_bytes for one in list_loras(settings, None)}
    assert len(sizes) == 1  # those that are not told of have the same size
    lora(ours / "zz.safetensors", seed=9)
    assert {one.file.name for one in list_loras(settings, None) if one.same_as} == {"rain"}


def test_a_picture_beside_one_is_shown_but_none_from_elsewhere(
    settings: Settings, theirs: Path, tmp_path: Path
) -> None:
    file, others = theirs / "models/loras/rain.safetensors", lora_folders(settings.model_folders)
    (tmp_path / "secret.png").write_bytes(photograph().read_bytes())
    file.with_suffix(".png").symlink_to(tmp_path / "secret.png")
    assert picture_of(file, settings.models_dir, others) is None
    file.with_suffix(".png").unlink()
    file.with_suffix(".png").write_bytes(photograph().read_bytes())
    assert picture_of(file, settings.models_dir, others) is not None
    assert picture_of(file, settings.models_dir) is None


def test_a_whole_disk_is_not_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_FILES >= 1000
    monkeypatch.setattr("i2v.models.lora_places.MOST_FILES", 3)
    for number in range(5):
        (tmp_path / f"{number}.safetensors").write_bytes(b"x")
    assert len(list(files_in(tmp_path))) == 3
