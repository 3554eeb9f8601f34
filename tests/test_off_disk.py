"""`models remove` and `models import`: nothing outside the models folder is touched, and nothing half is left."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_support import i2v
from machines import settings
from model_folders import make_checkpoint
from safetensors.numpy import save_file
from test_on_disk import digits_of, files_of, flip, with_blobs

from i2v.cli import off_disk
from i2v.families import SPECS
from i2v.messages import LOCALES, UserError
from i2v.models import bring as bring_module
from i2v.models.bring import bring, find_models
from i2v.models.catalogue import find_model
from i2v.models.check import check_files
from i2v.models.fetch.parts import being_fetched
from i2v.models.kinds import kind_of
from i2v.models.removal import linked_into, removal_of, remove
from i2v.settings.settings import Settings
from tests.model_folders import empty_hub_cache

SVD = SPECS["svd"]
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_hub_cache(tmp_path, monkeypatch)


def here(folder: Path, *others: Path) -> Settings:
    return replace(settings(), models_dir=folder / "models", model_folders=others, offline=True)


def refused(call: object, *args: object) -> str:
    with pytest.raises(UserError) as caught:
        call(*args)
    said = caught.value.message
    assert len({said.render(locale) for locale in LOCALES}) == len(LOCALES)
    return said.id


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_of(folder)}


def command(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    places = ("--models", str(folder / "models"), "--out", str(folder / "outputs"), "--cpu")
    return i2v(folder, "models", *words, *places, **environ)


# --- removing ---


def test_a_model_is_removed_whole_and_nothing_else(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "models" / "mine", SVD)
    other = make_checkpoint(tmp_path / "models" / "other", SVD)
    before = contents(other)
    ran = command(tmp_path, "remove", "mine", "--yes", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["removed"] == str(folder)
    assert [one.name for one in (tmp_path / "models").iterdir()] == ["other"]
    assert contents(other) == before


def test_of_a_link_only_the_link_goes_and_of_links_inside_too(tmp_path: Path) -> None:
    true = make_checkpoint(tmp_path / "elsewhere" / "true", SVD)
    before = contents(true)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "linked").symlink_to(true, target_is_directory=True)
    assert command(tmp_path, "remove", "linked", "--yes").returncode == 0
    assert not os.path.lexists(tmp_path / "models" / "linked")
    inside = make_checkpoint(tmp_path / "models" / "inside", SVD)
    shutil.rmtree(inside / "unet")
    (inside / "unet").symlink_to(true / "unet", target_is_directory=True)
    assert command(tmp_path, "remove", "inside", "--yes").returncode == 0
    assert not inside.exists()
    assert contents(true) == before


def test_what_is_outside_of_the_models_folder_is_never_removed(tmp_path: Path, hub: Path) -> None:
    others = make_checkpoint(tmp_path / "others" / "theirs", SVD)
    made = make_checkpoint(tmp_path / "made", SVD)
    snapshot = with_blobs(made)
    hub.mkdir()
    shutil.move(snapshot.parent.parent, hub / "models--a--b")
    loras = tmp_path / "models" / "loras"
    loras.mkdir(parents=True)
    places = here(tmp_path, tmp_path / "others")
    before = contents(tmp_path)
    for name in ("theirs", str(others), "a/b", "nano", "..", ".", str(tmp_path / "models"), str(loras)):
        ran = command(tmp_path, "remove", name, "--yes", I2V_MODEL_FOLDERS=str(tmp_path / "others"))
        assert ran.returncode == 2, name
        assert "{" not in ran.stderr
    for folder in (tmp_path / "models" / ".." / "others" / "theirs", tmp_path / "models" / "..", loras):
        assert refused(removal_of, folder, places) == "models.remove_elsewhere"
    after = contents(tmp_path)
    assert {name: data for name, data in after.items() if "logs" not in name and "outputs" not in name} == before


def test_a_model_may_go_to_the_bin_and_come_back(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "models" / "mine", SVD)
    before = contents(folder)
    for place in ("mine", "mine-2"):
        ran = command(tmp_path, "remove", "mine", "--bin", "--yes", "--json")
        assert json.loads(ran.stdout)["kept_at"] == str(tmp_path / "models" / ".bin" / place)
        assert contents(tmp_path / "models" / ".bin" / place) == before
        assert refused(find_model, "mine", here(tmp_path)) == "models.unknown"
        if place == "mine":
            make_checkpoint(folder, SVD)
    shutil.move(tmp_path / "models" / ".bin" / "mine", folder)
    assert find_model("mine", here(tmp_path)).present


def test_without_a_yes_nothing_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_checkpoint(tmp_path / "models" / "mine", SVD)
    ran = command(tmp_path, "remove", "mine")
    assert (ran.returncode, "--yes" in ran.stderr, folder.exists()) == (2, True, True)
    for answer, goes in (("no\n", False), ("\n", False), ("是\n", True)):
        monkeypatch.setattr(off_disk.sys, "stdin", Typed(answer))
        assert command(tmp_path, "remove", "mine").returncode == (0 if goes else 130)
        assert folder.exists() is not goes


class Typed:
    """A terminal at which somebody types a line."""

    def __init__(self, line: str) -> None:
        self.line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.line


class Listed:
    """Jobs as the command line asks for them."""

    def __init__(self, folder: Path, *rows: tuple[str, str, str]) -> None:
        self._folder = folder
        self._rows = [{"id": job, "state": state, "model": model} for job, state, model in rows]

    def listed(self, _limit: int) -> list[dict[str, str]]:
        return self._rows

    def folder(self, job: str) -> Path:
        return self._folder / job


def test_who_needs_it_is_told_first(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "models" / "mine", SVD)
    removal = removal_of(folder, here(tmp_path))
    assert removal.names >= {"mine", str(folder)}
    (tmp_path / "kept").mkdir()
    save_file({"x": np.zeros(1)}, tmp_path / "kept" / "checkpoint.safetensors", {"progress": '{"step": 3}'})
    rows = [
        ("waits", "queued", "mine"), ("laid down", "paused", str(folder)), ("done", "done", "mine"),
        ("kept", "failed", "mine"), ("nothing kept", "cancelled", "mine"), ("other", "queued", "nano"),
    ]  # fmt: skip
    found = off_disk.jobs_with(removal, Listed(tmp_path, *rows))
    assert found == (["waits", "laid down"], ["kept"])
    needing = {"waiting": found[0], "kept": found[1], "models": ["linked"], "loras": ["style"]}
    lines = off_disk.meaning(removal, needing, keep=False)
    for locale in LOCALES:
        text = "\n".join(line.render(locale) for line in lines)
        assert all(word in text for word in ("waits", "laid down", "kept", "linked", "style", str(folder)))
    at_work = Listed(tmp_path, ("busy", "decoding", "mine"))
    assert refused(off_disk.jobs_with, removal, at_work) == "cli.model_at_work"


def test_loras_that_no_other_model_takes_are_told(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "models" / "mine", SPECS["wan"])
    loras = tmp_path / "models" / "loras"
    loras.mkdir()
    write_wan_lora(loras / "style.safetensors")
    ran = command(tmp_path, "remove", "mine", "--yes", "--json", "--bin")
    assert json.loads(ran.stdout)["loras"] == ["style"]
    shutil.move(tmp_path / "models" / ".bin" / "mine", folder)
    make_checkpoint(tmp_path / "models" / "another", SPECS["wan"])
    ran = command(tmp_path, "remove", "mine", "--yes", "--json")
    assert json.loads(ran.stdout)["loras"] == []


def test_models_that_link_into_it_are_named(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "models" / "mine", SVD)
    make_checkpoint(tmp_path / "models" / "apart", SVD)
    shares = make_checkpoint(tmp_path / "models" / "shares", SVD)
    shutil.rmtree(shares / "vae")
    (shares / "vae").symlink_to(folder / "vae", target_is_directory=True)
    file = make_checkpoint(tmp_path / "models" / "shares a file", SVD) / UNET
    file.unlink()
    file.symlink_to(Path("..", "..", "mine", UNET))
    (tmp_path / "models" / "is it").symlink_to(folder, target_is_directory=True)
    places = here(tmp_path)
    assert linked_into(removal_of(folder, places), places) == ["is it", "shares", "shares a file"]
    for name in ("apart", "is it"):
        assert linked_into(removal_of(tmp_path / "models" / name, places), places) == []
    ran = command(tmp_path, "remove", "mine", "--yes", "--json", "--bin")
    assert json.loads(ran.stdout)["models"] == ["is it", "shares", "shares a file"]


@pytest.mark.parametrize("keep", [False, True])
def test_what_is_coming_is_not_removed(tmp_path: Path, keep: bool) -> None:
    folder = make_checkpoint(tmp_path / "models" / "mine", SVD)
    removal = removal_of(folder, here(tmp_path))
    with being_fetched(folder), being_fetched(folder):  # as two jobs fetch it
        with pytest.raises(UserError) as caught:
            remove(removal, keep=keep)
        assert caught.value.message.id == "models.remove_coming"
        assert kind_of(folder).whole
    remove(removal, keep=keep)
    assert not folder.exists()


def write_wan_lora(file: Path) -> None:
    half = "diffusion_model.blocks.0.self_attn.q.lora_{}.weight"
    save_file({half.format("A"): np.zeros((4, 1536)), half.format("B"): np.zeros((1536, 4))}, file)


def test_what_cannot_be_deleted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_checkpoint(tmp_path / "models" / "mine", SVD)
    removal = removal_of(folder, here(tmp_path))

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", denied)
    assert refused(remove, removal) == "models.not_removed"
    assert kind_of(folder).whole


# --- importing ---


@pytest.mark.parametrize("how", ["copy", "move", "link"])
def test_a_model_is_imported(tmp_path: Path, how: str) -> None:
    source = make_checkpoint(tmp_path / "else where" / "我的 model", SVD)
    before = contents(source)
    ran = command(tmp_path, "import", str(source), f"--{how}", "--json")
    assert ran.returncode == 0, ran.stderr
    target = tmp_path / "models" / "我的 model"
    assert json.loads(ran.stdout) == [{"name": "我的 model", "folder": str(target), "family": "svd"}]
    assert contents(target) == before
    assert (source.exists(), target.is_symlink()) == (how != "move", how == "link")
    assert find_model("我的 model", here(tmp_path)).present


def test_several_at_once_and_what_is_not_whole_is_left(tmp_path: Path) -> None:
    for name in ("one", "two", "broken"):
        make_checkpoint(tmp_path / "theirs" / name, SVD)
    (tmp_path / "theirs" / "broken" / UNET).unlink()
    ran = command(tmp_path, "import", str(tmp_path / "theirs"), "--link", "--json")
    assert [one["name"] for one in json.loads(ran.stdout)] == ["one", "two"]


def test_a_model_of_the_hubs_cache_is_imported_under_its_name_with_its_digests(tmp_path: Path) -> None:
    snapshot = with_blobs(make_checkpoint(tmp_path / "made", SVD))
    top = snapshot.parent.parent.rename(snapshot.parents[2] / f"models--{SVD.hub_id.replace('/', '--')}")
    assert refused(bring, find_models(top, [])[0], tmp_path / "models", "move") == "models.move_links"
    target = tmp_path / "models" / SVD.hub_id.split("/")[1]
    for source in (top / "snapshots" / "0123abcd", top):  # the folder of either kind
        shutil.rmtree(target, ignore_errors=True)
        assert command(tmp_path, "import", str(source)).returncode == 0
        assert target.is_dir()
    assert find_model(SVD.hub_id, here(tmp_path)).folder == target
    assert not any(file.is_symlink() for file in target.rglob("*"))
    found = check_files(kind_of(target))
    assert (found.findings, found.compared, found.unknown) == ((), len(files_of(target)) - 1, ())
    flip(target / UNET)
    assert [one.told.id for one in check_files(kind_of(target)).findings] == ["models.other_contents"]
    assert digits_of(target / UNET) != digits_of(top / "snapshots" / "0123abcd" / UNET)


def test_what_a_killed_import_left_is_in_nobodys_way(tmp_path: Path) -> None:
    left = make_checkpoint(tmp_path / "models" / ".mine.unfinished", SVD)
    (left / "half").touch()
    found = find_models(make_checkpoint(tmp_path / "theirs" / "mine", SVD), [])[0]
    read: list[int] = []
    target = bring(found, tmp_path / "models", "copy", read.append)
    assert contents(target) == contents(tmp_path / "theirs" / "mine")
    assert sum(read) == found.size_bytes
    assert [one.name for one in (tmp_path / "models").iterdir()] == ["mine"]


def test_a_damaged_file_is_not_imported_and_nothing_is_left(tmp_path: Path) -> None:
    snapshot = with_blobs(make_checkpoint(tmp_path / "made", SVD))
    flip(snapshot / UNET)
    found = find_models(snapshot.parent.parent, [])
    assert refused(bring, found[0], tmp_path / "models", "copy") == "models.other_contents"
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder.mkdir(), "models.no_index"),
        (lambda folder: None, "models.no_folder"),
        (lambda folder: (make_checkpoint(folder, SVD) / UNET).unlink(), "models.missing_file"),
        (lambda folder: make_checkpoint(folder, replace(SVD, class_name="X")), "models.unknown_class"),
        (lambda folder: folder.write_bytes(b"x"), "models.single_file"),
    ],
)
def test_what_is_no_whole_model_is_not_imported(tmp_path: Path, make: object, said: str) -> None:
    make(tmp_path / "theirs")
    assert refused(find_models, tmp_path / "theirs", []) == said


def test_a_name_that_is_taken_is_told_and_what_has_it_is_left(tmp_path: Path) -> None:
    own = make_checkpoint(tmp_path / "models" / "mine", SVD)
    (own / "mark").touch()
    found = find_models(make_checkpoint(tmp_path / "theirs" / "mine", SVD), [])[0]
    for how in ("copy", "move", "link"):
        assert refused(bring, found, tmp_path / "models", how) == "models.name_taken"
    assert (own / "mark").exists()
    assert refused(bring, find_models(own, [])[0], tmp_path / "models", "move") == "models.name_taken"


def test_a_link_that_leads_out_is_not_followed_by_an_import(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "theirs" / "mine", SVD)
    (source / UNET).rename(tmp_path / "secret")
    (source / UNET).symlink_to(tmp_path / "secret")
    assert refused(find_models, source, []) == "models.link_outside"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A models folder on a file system of its own, of 1 MB."""
    place = tmp_path / "models"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_move_to_another_disk_is_a_copy_and_leaves_nothing_behind(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bring_module, "_SPARE_BYTES", 0)
    source = make_checkpoint(tmp_path / "theirs" / "mine", SVD)
    before = contents(source)
    assert contents(bring(find_models(source, [])[0], small_disk, "move")) == before
    assert list(source.parent.iterdir()) == []


def test_a_models_folder_that_may_not_be_written_is_used_and_not_changed(tmp_path: Path, small_disk: Path) -> None:
    folder = make_checkpoint(small_disk / "mine", SVD)
    found = find_models(make_checkpoint(tmp_path / "theirs" / "other", SVD), [])[0]
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert find_model("mine", here(tmp_path)).present
    assert check_files(kind_of(folder)).well
    removal = removal_of(folder, here(tmp_path))
    for keep in (False, True):
        with pytest.raises(UserError) as caught:
            remove(removal, keep=keep)
        assert caught.value.message.id == "models.not_removed"
    for how in ("copy", "move", "link"):
        assert refused(bring, found, small_disk, how) in ("models.not_writable", "models.disk_too_small")
    assert kind_of(folder).whole
    assert found.kind.folder.is_dir()


def test_a_full_disk_is_told_before_and_while_it_fills(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_checkpoint(tmp_path / "theirs" / "mine", SVD)
    found = find_models(source, [])[0]
    for how in ("copy", "move"):
        assert refused(bring, found, small_disk, how) == "models.disk_too_small"
    monkeypatch.setattr(bring_module, "_SPARE_BYTES", -(2**30))
    (source / "large.txt").write_bytes(bytes(2**21))
    for how in ("copy", "move"):
        assert refused(bring, find_models(source, [])[0], small_disk, how) == "models.disk_too_small"
        assert list(small_disk.iterdir()) == []
    assert kind_of(source).whole
