"""Where models are found without a copy: other programs' folders, the hub's cache, odd names; where links lead."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from machines import settings
from model_folders import make_checkpoint

from i2v.families import SPECS
from i2v.messages import LOCALES, UserError
from i2v.models.catalogue import find_model, list_models
from i2v.models.places import places_of
from i2v.settings.settings import Settings
from tests.model_folders import empty_hub_cache

SVD, WAN = SPECS["svd"], SPECS["wan"]
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_hub_cache(tmp_path, monkeypatch)


def here(folder: Path, *others: Path) -> Settings:
    return replace(settings(), models_dir=folder / "models", model_folders=others, offline=True)


def cache(hub: Path, name: str, made: Path) -> Path:
    """`made` moved into a cache as the hub's library lays it out; the snapshot."""
    repository = hub / f"models--{name.replace('/', '--')}"
    snapshot, blobs = repository / "snapshots" / "0123abcd", repository / "blobs"
    blobs.mkdir(parents=True)
    for number, file in enumerate(sorted(path for path in made.rglob("*") if path.is_file())):
        link = snapshot / file.relative_to(made)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, blobs / f"{number:040x}")
        link.symlink_to(os.path.relpath(blobs / f"{number:040x}", link.parent))
    return snapshot


def named(places: Settings, name: str) -> Path:
    entry = find_model(name, places)
    assert entry.present
    assert entry in list_models(places)
    return entry.folder


def test_folders_of_other_programs_are_looked_into(tmp_path: Path) -> None:
    others = tmp_path / "Comfy UI 模型"
    deep = make_checkpoint(others / "diffusers" / "my 视频 model", SVD)
    make_checkpoint(others / ".trash" / "gone", SVD)
    make_checkpoint(others / "a" / "b" / "c" / "too deep", SVD)
    snapshot = cache(others / "hub", "someone/tuned", make_checkpoint(tmp_path / "made", SVD))
    itself = make_checkpoint(tmp_path / "svd at large", SVD)
    places = here(tmp_path, others, itself, tmp_path / "not there")
    assert named(places, "my 视频 model") == deep
    assert named(places, "models--someone--tuned") == snapshot
    assert named(places, "svd at large") == itself
    assert not {"gone", "too deep"} & {entry.name for entry in list_models(places)}
    assert [place.kind for place in places_of(places)] == ["app", "models", "folder", "folder", "folder", "hub"]


def test_a_model_of_the_hub_that_another_program_has_is_not_fetched_again(tmp_path: Path) -> None:
    others = tmp_path / "others"
    for name in ("stable-video-diffusion-img2vid-xt", "stabilityai--stable-video-diffusion-img2vid-xt"):
        folder = make_checkpoint(others / name, SVD)
        assert named(here(tmp_path, others), "stable-video-diffusion-img2vid-xt") == folder
        assert named(here(tmp_path, others), SVD.hub_id) == folder
        shutil.rmtree(folder)
    in_modelscope = make_checkpoint(others / "models" / "Wan-AI" / "Wan2___1-T2V-1___3B-Diffusers", WAN)
    assert named(here(tmp_path, others), WAN.hub_id) == in_modelscope
    snapshot = cache(others, SVD.hub_id, make_checkpoint(tmp_path / "made", SVD))
    assert named(here(tmp_path, others), SVD.hub_id) == snapshot


def test_of_two_with_one_name_the_models_folder_has_it_and_the_other_goes_by_its_path(tmp_path: Path) -> None:
    own = make_checkpoint(tmp_path / "models" / "mine", SVD)
    other = make_checkpoint(tmp_path / "others" / "mine", WAN)
    auto = make_checkpoint(tmp_path / "others" / "auto", WAN)
    places = here(tmp_path, tmp_path / "others")
    assert (named(places, "mine"), named(places, str(other))) == (own, other)
    assert named(places, str(auto)) == auto
    assert find_model("auto", places).name == "nano"
    assert named(replace(places, listed_models_only=True), str(other)) == other


def test_whole_models_of_the_hubs_cache_are_listed_and_parts_are_not(tmp_path: Path, hub: Path) -> None:
    whole = cache(hub, "someone/tuned", make_checkpoint(tmp_path / "made", SVD))
    part = cache(hub, "someone/part", make_checkpoint(tmp_path / "made2", SVD))
    (part / "unet" / WEIGHTS).unlink()
    assert named(here(tmp_path), "someone/tuned") == whole
    assert "someone/part" not in {entry.name for entry in list_models(here(tmp_path))}


def test_a_models_folder_that_is_a_link_has_odd_letters_and_may_not_be_written(tmp_path: Path) -> None:
    true = tmp_path / "big disk" / "模型 与 视频"
    folder = make_checkpoint(true / "我的 model", SVD)
    (tmp_path / "models").symlink_to(true, target_is_directory=True)
    for path in [*folder.rglob("*"), folder, true]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert named(here(tmp_path), "我的 model") == tmp_path / "models" / "我的 model"
    finally:
        for path in [true, folder, *folder.rglob("*")]:
            path.chmod(0o755)


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own, which holds little."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_models_on_another_file_system(tmp_path: Path, other_disk: Path) -> None:
    folder = make_checkpoint(other_disk / "mine", SVD)
    assert named(replace(here(tmp_path), models_dir=other_disk), "mine") == folder
    assert named(here(tmp_path, other_disk), "mine") == folder
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "linked").symlink_to(folder, target_is_directory=True)
    assert named(here(tmp_path), "linked") == tmp_path / "models" / "linked"


# --- links inside a model's folder ---


def complaint(places: Settings, name: str) -> str:
    with pytest.raises(UserError) as caught:
        find_model(name, places)
    said = caught.value.message
    assert len({said.render(locale) for locale in LOCALES}) == len(LOCALES)
    return said.id


def moved(folder: Path, part: str, to: Path) -> None:
    """`part` of the model lies at `to`, and a link in its place leads there."""
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder / part, to)
    (folder / part).symlink_to(to)


@pytest.mark.parametrize("part", [f"unet/{WEIGHTS}", "unet", "model_index.json"])
def test_links_lead_only_into_the_model_or_a_place_of_models(tmp_path: Path, hub: Path, part: str) -> None:
    for number, (to, well) in enumerate(
        (
            (tmp_path / "elsewhere" / "x", False),
            (tmp_path / "models" / "shared" / "x", True),
            (tmp_path / "others" / "x", True),
            (hub / "models--a--b" / "blobs" / "x", True),
        )
    ):
        folder = make_checkpoint(tmp_path / "models" / f"mine{number}", SVD)
        moved(folder, part, to)
        places = here(tmp_path, tmp_path / "others")
        for name in (folder.name, str(folder)):
            if well:
                assert find_model(name, places).folder == folder
            else:
                assert complaint(places, name) == "models.link_outside"
        shutil.rmtree(to) if to.is_dir() else to.unlink()


def test_a_link_by_way_of_a_linked_component_is_seen(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "models" / "mine", SVD)
    moved(folder, "unet", tmp_path / "models" / "shared" / "unet")
    assert named(here(tmp_path), "mine") == folder
    moved(tmp_path / "models" / "shared" / "unet", WEIGHTS, tmp_path / "elsewhere" / "x")
    assert complaint(here(tmp_path), "mine") == "models.link_outside"


def test_a_cache_of_the_hub_may_be_named_by_its_path_wherever_it_is(tmp_path: Path) -> None:
    snapshot = cache(tmp_path / "anywhere", "someone/tuned", make_checkpoint(tmp_path / "made", SVD))
    for path in (snapshot, snapshot.parent.parent):
        assert find_model(str(path), here(tmp_path)).folder == snapshot
    (snapshot / "unet" / WEIGHTS).unlink()
    (snapshot / "unet" / WEIGHTS).symlink_to(tmp_path / "anywhere" / "secret")
    assert complaint(here(tmp_path), str(snapshot)) == "models.link_outside"
