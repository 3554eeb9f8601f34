"""Models come from the hub: only safe files, whole, with progress; and every failure says what to do."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub.constants import HF_HUB_CACHE
from safetensors.numpy import save_file

from i2v.families.i2vgen_xl.spec import SPEC
from i2v.messages import UserError
from i2v.models.catalogue import find_model
from i2v.models.download import choose_files, ensure_present
from i2v.models.verify import find_weights, verify_folder
from i2v.setup.surroundings import SET_ASIDE
from tests.hub_server import Hub, serve_hub
from tests.model_folders import make_checkpoint

REPO = "ali-vilab/i2vgen-xl"
UNET = "unet/diffusion_pytorch_model.safetensors"
UNET_FP16 = "unet/diffusion_pytorch_model.fp16.safetensors"


@dataclass(frozen=True)
class Places:
    models_dir: Path
    hf_endpoint: str | None
    offline: bool = False
    model: str = "auto"
    listed_models_only: bool = False


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with one whole repository, the larger part of it the UNet in half precision."""
    folder = make_checkpoint(tmp_path / "hub" / "i2vgen-xl", SPEC)
    save_file({"weight": np.ones(200_000, dtype=np.float16)}, folder / UNET_FP16)
    for name in ("README.md", "unet/weights.bin", "doc/figure.png", "unet/script.py", "whole.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    with serve_hub({REPO: folder}) as hub:
        yield hub


def fetch(hub_url: str | None, tmp_path: Path, *, model: str = REPO, offline: bool = False) -> tuple[Path, list]:
    places = Places(tmp_path / "models", hub_url, offline)
    progress: list[tuple[int, int]] = []
    folder = ensure_present(
        find_model(model, places),
        models_dir=places.models_dir,
        endpoint=hub_url,
        offline=offline,
        on_progress=lambda done, total: progress.append((done, total)),
    )
    return folder, progress


def complaint(*args: object, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        fetch(*args, **options)
    assert "{" not in caught.value.message.render("en") + caught.value.message.render("zh-CN")
    return caught.value.message.id


def files_in(folder: Path) -> set[str]:
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    return {name for name in names if not name.startswith(".cache/")}


def test_a_model_arrives_whole_and_without_what_could_run(hub: Hub, tmp_path: Path) -> None:
    folder, progress = fetch(hub.url, tmp_path)
    assert folder == tmp_path / "models" / "i2vgen-xl"
    verify_folder(folder, SPEC)
    wanted = {"model_index.json", *(f"{part}/{name}" for part, names in SPEC.components.items() for name in names)}
    assert files_in(folder) == wanted - {UNET} | {UNET_FP16}, "half precision in place of full where there is both"
    assert find_weights(folder / "unet", Path(UNET).name) == (folder / UNET_FP16,)
    total = sum((folder / name).stat().st_size for name in files_in(folder))
    done = [step[0] for step in progress]
    assert done == sorted(done)
    assert progress[-1] == (total, total)
    assert any(0 < step < total for step in done)
    assert {step[1] for step in progress} == {total}


def test_what_is_present_is_not_asked_for(hub: Hub, tmp_path: Path) -> None:
    fetch(hub.url, tmp_path)
    hub.fetched.clear()
    hub.status = 500
    folder, progress = fetch(hub.url, tmp_path)
    assert folder.is_dir()
    assert (hub.fetched, progress) == ([], [])


@pytest.mark.parametrize("damage", ["cut", "gone", "overwritten"])
def test_a_damaged_file_alone_is_fetched_again(hub: Hub, tmp_path: Path, damage: str) -> None:
    folder, _ = fetch(hub.url, tmp_path)
    data = (folder / UNET_FP16).read_bytes()
    if damage == "gone":
        (folder / UNET_FP16).unlink()
    else:
        (folder / UNET_FP16).write_bytes(data[:-9] if damage == "cut" else bytes(len(data)))
    hub.fetched.clear()
    _, progress = fetch(hub.url, tmp_path)
    assert (folder / UNET_FP16).read_bytes() == data
    assert set(hub.fetched) == {UNET_FP16}
    assert all(done >= progress[-1][1] - len(data) for done, _ in progress), "what was there counts as done"
    assert progress[-2] == progress[-1], "and what arrives adds to it"


def test_an_interrupted_download_can_be_finished(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.break_after = 100_000
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # the library waits between its tries
    assert complaint(hub.url, tmp_path) == "models.unreachable"
    with pytest.raises(UserError):
        verify_folder(tmp_path / "models" / "i2vgen-xl", SPEC)
    hub.break_after = None
    folder, _ = fetch(hub.url, tmp_path)
    verify_folder(folder, SPEC)


def test_a_repository_of_a_known_family_is_recognised(hub: Hub, tmp_path: Path) -> None:
    hub.repos["someone/fine-tuned"] = hub.repos[REPO]
    folder, _ = fetch(hub.url, tmp_path, model="someone/fine-tuned")
    assert folder == tmp_path / "models" / "someone--fine-tuned"
    verify_folder(folder, SPEC)


@pytest.mark.parametrize(("layers", "family"), [(40, "wan_14b"), (30, "wan")])
def test_families_of_one_class_are_told_apart_before_anything_large_is_fetched(
    hub: Hub, tmp_path: Path, layers: int, family: str
) -> None:
    folder = hub.repos[REPO]
    (folder / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    (folder / "transformer").mkdir()
    (folder / "transformer" / "config.json").write_text(f'{{"num_layers": {layers}}}')
    hub.repos["someone/wan"] = folder
    assert find_model("someone/wan", Places(tmp_path / "models", hub.url)).family == family
    assert not [name for name in hub.fetched if name.endswith(".safetensors")]


def test_a_repository_of_another_kind_is_refused_before_it_is_fetched(hub: Hub, tmp_path: Path) -> None:
    (hub.repos[REPO] / "model_index.json").write_text('{"_class_name": "MochiPipeline"}')
    hub.repos["someone/wan"] = hub.repos[REPO]
    assert complaint(hub.url, tmp_path, model="someone/wan") == "models.unknown_class"
    assert set(hub.fetched) <= {"model_index.json", "scheduler/scheduler_config.json"}
    (hub.repos[REPO] / "model_index.json").unlink()
    hub.repos["someone/else"] = hub.repos[REPO]
    assert complaint(hub.url, tmp_path, model="someone/else") == "models.no_index"


def test_pickles_alone_are_refused(hub: Hub, tmp_path: Path) -> None:
    (hub.repos[REPO] / UNET).unlink()
    (hub.repos[REPO] / UNET_FP16).unlink()
    assert complaint(hub.url, tmp_path) == "models.missing_file"
    assert not any(name.endswith(".bin") for name in hub.fetched)


def test_no_network(tmp_path: Path) -> None:
    assert complaint("http://127.0.0.1:9", tmp_path) == "models.unreachable"
    assert complaint("http://127.0.0.1:9", tmp_path, model="me/tuned") == "models.unreachable"


def test_a_download_that_fails_names_the_proxy_or_what_was_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert complaint("https://hub.example", tmp_path) == "models.unreachable_proxy"
    monkeypatch.delenv("ALL_PROXY")
    monkeypatch.setenv(SET_ASIDE, "ALL_PROXY=socks4://127.0.0.1:9")
    assert complaint("http://127.0.0.1:9", tmp_path) == "models.unreachable_aside"


def test_offline_means_no_request_at_all(hub: Hub, tmp_path: Path) -> None:
    hub.status = 500
    assert complaint(hub.url, tmp_path, offline=True) == "models.offline"
    assert complaint(hub.url, tmp_path, model="me/tuned", offline=True) == "models.offline"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "RepoNotFound", "models.not_on_hub"),
        (401, "RepoNotFound", "models.not_on_hub"),
        (403, "GatedRepo", "models.gated"),
        (502, "", "models.unreachable"),
    ],
)
def test_what_the_hub_refuses(hub: Hub, tmp_path: Path, status: int, code: str, expected: str) -> None:
    hub.status, hub.error_code = status, code
    assert complaint(hub.url, tmp_path) == expected


def test_a_disk_too_small_is_said_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(2**40, 2**40, 2**28))
    assert complaint(hub.url, tmp_path) == "models.disk_too_small"
    assert hub.fetched == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(2**40, 2**39, 2**30))
    fetch(hub.url, tmp_path)


def test_a_place_that_cannot_be_written(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    assert complaint(hub.url, tmp_path) == "models.not_writable"


def test_the_choice_of_files() -> None:
    stem = "unet/diffusion_pytorch_model"
    shards = [f"{stem}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    half_shards = [f"{stem}.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)]

    def chosen(*names: str) -> list[str]:
        return [name for name in choose_files(names, SPEC) if name.endswith(".safetensors")]

    assert chosen(f"{stem}.safetensors", f"{stem}.bin") == [f"{stem}.safetensors"]
    assert chosen(f"{stem}.safetensors", f"{stem}.fp16.safetensors") == [f"{stem}.fp16.safetensors"]
    assert chosen(*shards, f"{stem}.non_ema.safetensors", "model.safetensors") == shards
    assert chosen(*shards, *half_shards) == half_shards
    assert chosen("safety_checker/model.safetensors", "unet/lora/model.safetensors") == []


def test_nothing_is_left_in_the_library_s_own_cache(hub: Hub, tmp_path: Path) -> None:
    hub.repos["nobody/such-a-model"] = hub.repos[REPO]
    fetch(hub.url, tmp_path, model="nobody/such-a-model")
    assert not (Path(HF_HUB_CACHE) / "models--nobody--such-a-model").exists()


def test_whoever_listens_to_the_progress_can_end_it(hub: Hub, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stop(_done: int, _total: int) -> None:
        raise Enough

    places = Places(tmp_path / "models", hub.url)
    entry = find_model(REPO, places)
    with pytest.raises(Enough):
        ensure_present(entry, models_dir=places.models_dir, endpoint=hub.url, offline=False, on_progress=stop)
    folder, _ = fetch(hub.url, tmp_path)
    verify_folder(folder, SPEC)
