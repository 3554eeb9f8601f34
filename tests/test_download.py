"""Models come from the hub: only safe files, whole, with progress; and every failure says what to do."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from huggingface_hub.constants import HF_HUB_CACHE
from safetensors.numpy import save_file

from i2v.downloads.discard import discard
from i2v.families import SPECS
from i2v.families.i2vgen_xl.spec import SPEC
from i2v.messages import UserError
from i2v.models.catalogue import find_model
from i2v.models.choose_files import choose_files
from i2v.models.download import ensure_present
from i2v.models.fetch import routes
from i2v.models.kinds import kind_of
from i2v.models.verify import find_weights, verify_folder
from i2v.setup.surroundings import SET_ASIDE
from tests.hub_server import Hub, ask_no_other_hub, make_certificate, serve_hub
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
    model_folders: tuple[Path, ...] = ()


@pytest.fixture(autouse=True)
def no_other_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    ask_no_other_hub(monkeypatch)


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
    return {name for name in names if not name.startswith(".")}


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


def test_an_interrupted_download_can_be_finished(hub: Hub, tmp_path: Path) -> None:
    hub.break_after = 0
    assert complaint(hub.url, tmp_path) == "models.no_route"
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
        (401, "", "models.token_refused"),
        (403, "GatedRepo", "models.gated"),
        (403, "", "models.gated"),
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


def test_what_the_mirror_does_not_bring_the_hub_does(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_hub(hub.repos) as mirror:
        monkeypatch.setattr(routes, "HUB", hub.url)
        mirror.file_status = 500
        folder, _ = fetch(mirror.url, tmp_path)
        verify_folder(folder, SPEC)
        assert mirror.fetched == []
        # Next time the hub is asked first, and the mirror for nothing.
        shutil.rmtree(folder)
        mirror.tokens.clear()
        fetch(mirror.url, tmp_path)
        assert mirror.tokens == []


def test_a_mirror_that_tells_no_sizes_is_passed_over(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_hub(hub.repos) as mirror:
        mirror.sizes_untold = True
        assert complaint(mirror.url, tmp_path) == "models.no_route"
        monkeypatch.setattr(routes, "HUB", hub.url)
        verify_folder(fetch(mirror.url, tmp_path)[0], SPEC)


def test_each_way_is_named_where_none_brings_it(hub: Hub, tmp_path: Path) -> None:
    hub.file_status = 500
    with pytest.raises(UserError) as caught:
        fetch(hub.url, tmp_path)
    assert caught.value.message.id == "models.no_route"
    for said in ("The mirror by HTTP", "error 500", "The hub by HTTP", "127.0.0.1:9 could not be reached"):
        assert said in str(caught.value)
    assert "镜像（HTTP）" in caught.value.message.render("zh-CN")


def test_who_asks_for_patience_gets_it(hub: Hub, tmp_path: Path) -> None:
    hub.status, hub.busy, hub.retry_after = 429, 1, "1"
    verify_folder(fetch(hub.url, tmp_path)[0], SPEC)


@pytest.mark.parametrize(("days", "expected"), [(2, "models.untrusted"), (-1, "models.wrong_clock")])
def test_a_certificate_that_is_not_trusted_is_named(
    days: int, expected: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path, days=days)
    if days < 0:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "signed.pem"))
        monkeypatch.setattr("huggingface_hub.utils._http._GLOBAL_CLIENT", None)
    with serve_hub(hub.repos, certificate=certificate) as secure:
        assert complaint(secure.url, tmp_path) == expected


def test_the_page_where_terms_are_accepted_is_named(hub: Hub, tmp_path: Path) -> None:
    hub.status, hub.error_code = 403, "GatedRepo"
    with pytest.raises(UserError) as caught:
        fetch(hub.url, tmp_path)
    assert f"{hub.url}/{REPO}" in str(caught.value)
    assert "hf auth login" in str(caught.value)


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


def test_whoever_waits_for_the_hub_can_leave(hub: Hub, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    asked = []

    def leave() -> None:
        asked.append(None)
        if len(asked) > 2:
            raise Enough

    hub.status, hub.busy, hub.retry_after = 429, 1, "50"
    entry = find_model(REPO, Places(tmp_path / "models", hub.url))
    began = time.monotonic()
    with pytest.raises(Enough):
        ensure_present(
            entry, models_dir=tmp_path / "models", endpoint=hub.url, offline=False, on_progress=lambda *_: None,
            on_wait=leave,
        )  # fmt: skip
    assert time.monotonic() - began < 20


def test_nothing_is_written_by_way_of_a_link_that_leads_out(hub: Hub, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "models" / "i2vgen-xl"
    folder.mkdir(parents=True)
    shutil.copy(hub.repos[REPO] / "model_index.json", folder)
    (folder / "unet").symlink_to(outside, target_is_directory=True)
    assert complaint(hub.url, tmp_path) == "models.link_outside"
    assert list(outside.iterdir()) == []


FRAMEPACKS = ("framepack", "framepack_f1")


@pytest.fixture
def in_parts(tmp_path: Path) -> Iterator[Hub]:
    """A hub with the repositories of which the FramePacks are put together."""
    whole = make_checkpoint(tmp_path / "whole", SPECS["framepack"])
    repos = {}
    for family in FRAMEPACKS:
        top, *others = SPECS[family].in_parts
        repos[top.hub_id] = Path(shutil.copytree(whole / "transformer", tmp_path / "hub" / family))
        (repos[top.hub_id] / "README.md").write_text("x")
    for part in others:
        repos[part.hub_id] = tmp_path / "hub" / part.hub_id
        for component in part.components:
            shutil.copytree(whole / component, repos[part.hub_id] / component)
    # Others that are there, and are not needed.
    shutil.copytree(whole / "transformer", repos[others[0].hub_id] / "transformer")
    shutil.copytree(whole / "transformer", repos[others[1].hub_id] / "text_encoder")
    (repos[others[0].hub_id] / "model_index.json").write_text('{"_class_name": "HunyuanVideoPipeline"}')
    with serve_hub(repos) as hub:
        yield hub


@pytest.mark.parametrize("family", FRAMEPACKS)
def test_a_model_comes_from_several_repositories(family: str, in_parts: Hub, tmp_path: Path) -> None:
    spec = SPECS[family]
    folder, progress = fetch(in_parts.url, tmp_path, model=spec.hub_id)
    assert folder == tmp_path / "models" / spec.hub_id.split("/")[1]
    wanted = {f"{part}/{name}" for part, names in spec.components.items() for name in names}
    assert files_in(folder) == wanted | {"model_index.json"}
    assert len(in_parts.fetched) == len(wanted)
    assert kind_of(folder).family == family
    assert find_model(spec.hub_id, Places(tmp_path / "models", None)).present
    assert {step[1] for step in progress} == {progress[-1][1]}
    in_parts.fetched.clear()
    (folder / "vae" / "config.json").unlink()
    fetch(in_parts.url, tmp_path, model=spec.hub_id)
    assert in_parts.fetched == ["vae/config.json"]


def test_a_repository_of_parts_that_is_not_there_is_named(in_parts: Hub, tmp_path: Path) -> None:
    del in_parts.repos[SPECS["framepack"].in_parts[2].hub_id]
    assert complaint(in_parts.url, tmp_path, model=SPECS["framepack"].hub_id) == "models.not_on_hub"
    assert in_parts.fetched == []


def test_what_the_hubs_library_has_fetched_already_is_linked_to(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    blobs = tmp_path / "cache" / f"models--{REPO.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    data = (hub.repos[REPO] / UNET_FP16).read_bytes()
    whole = blobs / hashlib.sha256(data).hexdigest()
    whole.write_bytes(data)
    config = hub.repos[REPO] / "vae" / "config.json"
    damaged = blobs / hashlib.sha1(b"blob %d\0" % config.stat().st_size + config.read_bytes()).hexdigest()
    damaged.write_bytes(bytes(config.stat().st_size))
    folder, _ = fetch(hub.url, tmp_path)
    assert (folder / UNET_FP16).readlink() == whole
    assert UNET_FP16 not in hub.fetched
    assert "vae/config.json" in hub.fetched, "what is there under a name that it does not deserve is not taken"
    assert not (folder / "vae" / "config.json").is_symlink()
    assert damaged.read_bytes() == bytes(config.stat().st_size), "and not written to"
    assert find_model(REPO, Places(tmp_path / "models", None)).present
    whole.unlink()
    hub.fetched.clear()
    fetch(hub.url, tmp_path)
    assert hub.fetched == [UNET_FP16]
    assert (folder / UNET_FP16).read_bytes() == data


def test_a_download_that_is_given_up_takes_its_links_along(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    data = (hub.repos[REPO] / UNET_FP16).read_bytes()
    blob = tmp_path / "cache" / f"models--{REPO.replace('/', '--')}" / "blobs" / hashlib.sha256(data).hexdigest()
    blob.parent.mkdir(parents=True)
    blob.write_bytes(data)
    began = time.time()
    hub.file_status = 500
    assert complaint(hub.url, tmp_path) == "models.no_route"
    assert (tmp_path / "models" / "i2vgen-xl" / UNET_FP16).is_symlink()
    discard(tmp_path / "models" / "i2vgen-xl", "i2vgen_xl", began - 1)
    assert not (tmp_path / "models" / "i2vgen-xl").exists()
    assert blob.read_bytes() == data
