"""The catalogue finds what is there; verification finds what is wrong with it, and loads nothing."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from i2v.families import SPECS
from i2v.families.i2vgen_xl.spec import SPEC
from i2v.messages import UserError
from i2v.models import catalogue, hub_cache
from i2v.models.catalogue import ModelEntry, find_model, list_models, unreadable_folders
from i2v.models.config_values import bad_value
from i2v.models.verify import find_weights, verify_folder
from tests.model_folders import TENSORS, make_checkpoint

ROOT = Path(__file__).parents[1]
OF_THE_HUB = {spec.hub_id.split("/")[1] for spec in SPECS.values() if spec.hub_id}
SHIPPED, REAL = ROOT / "i2v/assets/nano", ROOT / "i2v/families/i2vgen_xl/configs"
UNET = Path("unet/diffusion_pytorch_model.safetensors")
NANO = replace(
    SPEC, name="nano", title="Nano", class_name="NanoPipeline", hub_id=None, components={"unet": (UNET.name,)}
)


@dataclass(frozen=True)
class Places:
    """The settings that the catalogue reads."""

    models_dir: Path
    hf_endpoint: str | None = None
    offline: bool = True
    model: str = "auto"
    listed_models_only: bool = False
    model_folders: tuple[Path, ...] = ()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "models" / "mine", SPEC)


def complaint(folder: Path) -> tuple[str, dict]:
    with pytest.raises(UserError) as caught:
        verify_folder(folder, SPEC)
    said = caught.value.message
    assert said.render("en") != said.render("zh-CN")
    assert "{" not in said.render("en") + said.render("zh-CN")
    return said.id, dict(said.params)


# --- verification ---


def test_a_whole_checkpoint_passes(folder: Path) -> None:
    verify_folder(folder, SPEC)


def shard(folder: Path, index: str, names: dict[str, str]) -> None:
    (folder / UNET).unlink()
    for name in set(names.values()):
        save_file(TENSORS, folder / "unet" / name)
    (folder / "unet" / index).write_text(json.dumps({"weight_map": names}))


def test_the_half_precision_variant_passes(folder: Path) -> None:
    half = folder / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    (folder / UNET).rename(half)
    verify_folder(folder, SPEC)
    assert find_weights(folder / "unet", UNET.name) == (half,)


@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_shards_pass_and_each_is_checked(folder: Path, variant: str) -> None:
    names = [f"diffusion_pytorch_model{variant}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    shard(folder, f"{UNET.name}.index{variant}.json", dict(zip(TENSORS, names, strict=True)))
    verify_folder(folder, SPEC)
    assert [file.name for file in find_weights(folder / "unet", UNET.name)] == names
    (folder / "unet" / names[1]).unlink()
    assert complaint(folder) == ("models.missing_file", {"file": str(folder / "unet" / names[1])})


def test_shards_may_not_lie_elsewhere(folder: Path) -> None:
    save_file(TENSORS, folder / "outside.safetensors")
    shard(folder, f"{UNET.name}.index.json", {"weight": "in.safetensors", "bias": "in.safetensors"})
    (folder / "unet" / f"{UNET.name}.index.json").write_text('{"weight_map": {"weight": "../outside.safetensors"}}')
    assert complaint(folder)[0] == "models.bad_json"


def test_a_tokenizer_in_one_file_passes(folder: Path) -> None:
    (folder / "tokenizer" / "vocab.json").unlink()
    (folder / "tokenizer" / "merges.txt").unlink()
    assert complaint(folder)[0] == "models.missing_file"
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    verify_folder(folder, SPEC)


@pytest.mark.parametrize(
    "file", [f"{component}/{name}" for component, names in SPEC.components.items() for name in names]
)
def test_each_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    assert complaint(folder) == ("models.missing_file", {"file": str(folder / file)})


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".ckpt"])
def test_pickles_are_refused_and_never_opened(folder: Path, suffix: str) -> None:
    (folder / UNET).unlink()
    # Unpickling this would create the file `opened`.
    (folder / "unet" / f"weights{suffix}").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    message_id, params = complaint(folder)
    assert message_id == "models.pickle_only"
    assert (params["component"], params["file"], params["wanted"]) == ("unet", f"weights{suffix}", UNET.name)
    assert not Path("opened").exists()


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(len(data) * share)]


def with_header(header: object) -> Callable[[bytes], bytes]:
    text = json.dumps(header).encode()
    return lambda _data: struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: b"", "models.truncated"),
        (cut(0.01), "models.truncated"),
        (cut(0.5), "models.truncated"),
        (lambda data: data[:-1], "models.truncated"),
        (lambda data: data + b"\0", "models.truncated"),
        (lambda data: struct.pack("<Q", 10_000) + data[8:], "models.truncated"),
        (lambda data: struct.pack("<Q", 2**63) + data[8:], "models.not_safetensors"),
        (lambda data: data.replace(b'"dtype"', b'"dtype\0'), "models.not_safetensors"),
        (with_header([1, 2]), "models.not_safetensors"),
        (with_header({"weight": {"data_offsets": "far"}}), "models.not_safetensors"),
        (with_header({"weight": {"data_offsets": [0]}}), "models.not_safetensors"),
        (with_header({"weight": None}), "models.not_safetensors"),
        (lambda _data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "models.lfs_pointer"),
        (lambda _data: b"PK\x03\x04" + bytes(100), "models.truncated"),
    ],
)
def test_damaged_weights(folder: Path, change: Callable[[bytes], bytes], expected: str) -> None:
    (folder / UNET).write_bytes(change((folder / UNET).read_bytes()))
    message_id, params = complaint(folder)
    assert (message_id, params["file"]) == (expected, str(folder / UNET))


def test_a_link_that_leads_nowhere_and_one_that_leads_round(folder: Path) -> None:
    (folder / UNET).unlink()
    (folder / UNET).symlink_to(folder / UNET)
    assert complaint(folder)[0] == "models.missing_file"
    (folder / UNET).unlink()
    (folder / UNET).symlink_to(folder / "gone")
    assert complaint(folder)[0] == "models.missing_file"


def test_links_to_files_pass(folder: Path) -> None:
    """As the hub's own cache lays its files out."""
    (folder / UNET).rename(folder / "blob")
    (folder / UNET).symlink_to(folder / "blob")
    verify_folder(folder, SPEC)


@pytest.mark.parametrize("text", ["", "{", "[]", "\0", "\xff"])
def test_broken_json(folder: Path, text: str) -> None:
    (folder / "unet" / "config.json").write_bytes(text.encode("latin-1"))
    assert complaint(folder) == ("models.bad_json", {"file": str(folder / "unet" / "config.json")})
    (folder / "model_index.json").write_bytes(text.encode("latin-1"))
    assert complaint(folder) == ("models.bad_json", {"file": str(folder / "model_index.json")})


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscreteScheduler", "LMSDiscreteScheduler", "NoSuchScheduler", None])
def test_a_scheduler_that_does_not_work_here_is_named_with_those_that_do(folder: Path, name: str | None) -> None:
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({"_class_name": name}))
    message_id, params = complaint(folder)
    assert (message_id, params["found"], params["file"]) == ("models.wrong_scheduler", str(name), str(config))
    assert "EulerDiscreteScheduler" in params["known"]
    config.write_text(json.dumps({"_class_name": "EulerDiscreteScheduler"}))
    verify_folder(folder, SPEC)


def test_a_scheduler_that_expects_another_prediction_is_refused(folder: Path) -> None:
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({"_class_name": "DDIMScheduler", "prediction_type": "flow_prediction"}))
    assert complaint(folder)[0] == "models.wrong_prediction"


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """`locked(path)`: from now on the system gives nothing of `path`, whoever runs the tests; root may read all."""
    refused: list[Path] = []

    def guard(own: Callable, path: object, *args: object, **options: object) -> object:
        inside = isinstance(path, str | Path) and any(Path(path).is_relative_to(one) for one in refused)
        if inside and not (own is os.stat and Path(path) in refused):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return own(path, *args, **options)

    for module, name in ((os, "stat"), (os, "scandir"), (os, "listdir"), (io, "open")):
        monkeypatch.setattr(module, name, partial(guard, getattr(module, name)))
    return refused.append


@pytest.mark.parametrize("file", ["model_index.json", str(UNET), "unet/config.json", "unet"])
def test_what_may_not_be_read_is_not_called_damaged(folder: Path, locked: Callable, file: str) -> None:
    locked(folder / file)
    message_id, params = complaint(folder)
    assert (message_id, params["reason"]) == ("models.unreadable", "Permission denied")
    assert Path(params["file"]).is_relative_to(folder / file)


def test_another_model(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    message_id, params = complaint(folder)
    assert message_id == "models.wrong_class"
    assert (params["found"], params["wanted"]) == ("StableDiffusionPipeline", "I2VGenXLPipeline")


def test_no_model_at_all(tmp_path: Path) -> None:
    assert complaint(tmp_path)[0] == "models.no_index"
    assert complaint(tmp_path / "nowhere")[0] == "models.no_folder"


# --- the catalogue ---


def by_name(places: Places) -> dict[str, ModelEntry]:
    return {entry.name: entry for entry in list_models(places)}


def test_an_empty_machine_has_the_bundled_model_and_what_can_be_fetched(tmp_path: Path) -> None:
    entries = by_name(Places(tmp_path / "none"))
    assert entries.keys() == {"nano", *OF_THE_HUB}
    assert entries["nano"].present
    assert find_model("auto", Places(tmp_path / "none")) == entries["nano"]
    hub = entries["i2vgen-xl"]
    assert (hub.present, hub.hub_id, hub.folder) == (False, "ali-vilab/i2vgen-xl", tmp_path / "none" / "i2vgen-xl")
    assert "4.7" in hub.label.render()


def test_folders_of_known_families_are_listed(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "mine", SPEC)
    make_checkpoint(tmp_path / "i2vgen-xl", SPEC)
    make_checkpoint(tmp_path / "other", replace(SPEC, class_name="MochiPipeline"))
    make_checkpoint(tmp_path / "broken", SPEC)
    (tmp_path / "broken" / UNET).unlink()
    (tmp_path / "no model").mkdir()
    (tmp_path / "file").touch()
    entries = by_name(Places(tmp_path))
    assert len(entries) == len(list_models(Places(tmp_path)))
    assert entries.keys() == {"nano", *OF_THE_HUB, "mine", "broken"}
    assert entries["mine"].present
    assert entries["mine"].size_bytes == sum(f.stat().st_size for f in (tmp_path / "mine").rglob("*") if f.is_file())
    assert entries["i2vgen-xl"].present
    assert not entries["broken"].present
    assert entries["broken"].problem.id == "models.missing_file"


def test_a_half_finished_download_can_still_be_chosen(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "i2vgen-xl", SPEC)
    (tmp_path / "i2vgen-xl" / UNET).write_bytes(b"half")
    entry = find_model("i2vgen-xl", Places(tmp_path))
    assert not entry.present
    assert entry.hub_id == "ali-vilab/i2vgen-xl"


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the bundled model belongs; it is not there yet."""
    monkeypatch.setattr(catalogue, "ASSETS", tmp_path / "the app" / "i2v" / "assets")
    monkeypatch.setitem(SPECS, "nano", NANO)
    return tmp_path / "the app" / "i2v" / "assets"


def test_a_bundled_model_is_the_default(tmp_path: Path, assets: Path) -> None:
    make_checkpoint(assets / "nano", NANO)
    entry = find_model("auto", Places(tmp_path))
    assert (entry.name, entry.family, entry.present) == ("nano", "nano", True)
    assert find_model("nano", Places(tmp_path)) == entry


@pytest.mark.parametrize("lost", [UNET, Path("model_index.json"), Path()])
def test_of_a_damaged_bundled_model_it_is_said_how_to_get_it_back(tmp_path: Path, assets: Path, lost: Path) -> None:
    """No other model is made or downloaded in its place."""
    make_checkpoint(assets / "nano", NANO)
    gone = assets / "nano" / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    for name in ("nano", "auto"):
        with pytest.raises(UserError) as caught:
            find_model(name, Places(tmp_path))
        for locale in ("en", "zh-CN"):
            said = caught.value.message.render(locale)
            assert f"git -C '{tmp_path}/the app' checkout -- i2v/assets" in said
            assert str(assets / "nano") in said
            assert lost.name in said
    entry = by_name(Places(tmp_path))["nano"]
    assert (entry.present, entry.problem) == (False, caught.value.message)
    assert "damaged" in entry.label.render()
    make_checkpoint(tmp_path / "mine", SPEC)
    assert find_model("auto", Places(tmp_path)).name == "mine"


def test_models_are_found_by_name_hub_id_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(tmp_path / "models")
    folder = make_checkpoint(tmp_path / "else where" / "tuned", SPEC)
    assert find_model("ali-vilab/i2vgen-xl", places).name == "i2vgen-xl"
    entry = find_model(str(folder), places)
    assert (entry.family, entry.folder, entry.present, entry.hub_id) == ("i2vgen_xl", folder, True, None)
    monkeypatch.chdir(tmp_path)
    assert find_model("else where/tuned", places).present
    make_checkpoint(places.models_dir / "me--tuned", SPEC)
    tuned = find_model("me/tuned", places)
    assert (tuned.present, tuned.folder, tuned.hub_id) == (True, places.models_dir / "me--tuned", "me/tuned")


def in_hub_cache(cache: Path, hub_id: str, *, revisions: tuple[str, ...] = ("0123abcd",), main: str = "") -> Path:
    """`models--owner--name` as the hub's library lays it out, links into blobs; returns the last revision's folder."""
    top = cache / f"models--{hub_id.replace('/', '--')}"
    (top / "blobs").mkdir(parents=True)
    (top / "refs").mkdir()
    for number, revision in enumerate(revisions):
        snapshot = make_checkpoint(top / "snapshots" / revision, SPEC)
        for file in [path for path in snapshot.rglob("*") if path.is_file()]:
            blob = top / "blobs" / f"{revision}-{file.parent.name}-{file.name}"
            file.rename(blob)
            file.symlink_to(os.path.relpath(blob, file.parent))
        os.utime(snapshot, (number, number))
    if main:
        (top / "refs" / "main").write_text(main)
    return snapshot


def test_the_top_folder_of_a_model_in_a_hub_cache_is_its_newest_snapshot(tmp_path: Path) -> None:
    newest = in_hub_cache(tmp_path, "me/tuned", revisions=("ffff", "0000"))
    top = newest.parents[1]
    assert find_model(str(top), Places(tmp_path)).folder == newest
    assert find_model(top.name, Places(tmp_path)).folder == newest  # as one of the models folder
    (top / "refs" / "main").write_text("ffff")
    assert find_model(str(top), Places(tmp_path)).folder == newest.with_name("ffff")
    shutil.rmtree(top / "snapshots")
    with pytest.raises(UserError) as caught:
        find_model(str(top), Places(tmp_path))
    assert caught.value.message.id == "models.no_index"


def test_what_the_hubs_own_cache_holds_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_cache.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    places = Places(tmp_path / "models")
    kept = in_hub_cache(tmp_path / "hub", "ali-vilab/i2vgen-xl", main="0123abcd")
    tuned = in_hub_cache(tmp_path / "hub", "me/tuned", main="0123abcd")
    for name in ("i2vgen-xl", "ali-vilab/i2vgen-xl"):
        entry = find_model(name, places)
        assert (entry.present, entry.folder) == (True, kept)
    assert find_model("me/tuned", places).folder == tuned
    (kept / UNET).unlink()
    entry = find_model("i2vgen-xl", places)  # fetched whole, into the models folder
    assert (entry.present, entry.folder) == (False, places.models_dir / "i2vgen-xl")
    own = make_checkpoint(places.models_dir / "me--tuned", SPEC)
    assert find_model("me/tuned", places).folder == own


def test_a_folder_that_may_not_be_read_is_passed_over(tmp_path: Path, locked: Callable) -> None:
    """lost+found, on a disk of its own."""
    make_checkpoint(tmp_path / "mine", SPEC)
    (tmp_path / "lost+found").mkdir()
    locked(tmp_path / "lost+found")
    assert {"nano", "mine"} <= by_name(Places(tmp_path)).keys()
    with pytest.raises(UserError) as caught:
        find_model(str(tmp_path / "lost+found" / "model"), Places(tmp_path))
    assert caught.value.message.id == "models.unreadable"
    locked(tmp_path)
    assert {"nano"} <= by_name(Places(tmp_path)).keys()
    assert find_model("auto", Places(tmp_path)).name == "nano"


def test_what_is_passed_over_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "lost+found")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "mine").mkdir()
    assert unreadable_folders(tmp_path) == [tmp_path / "lost+found"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nope", "models.unknown"),
        ("a b/c", "models.unknown"),
        ("\0", "models.unknown"),
        ("x" * 9999, "models.unknown"),
        ("me/tuned", "models.offline"),
        ("/no/where", "models.no_folder"),
        ("./nowhere", "models.no_folder"),
        (".", "models.no_index"),
        ("me/..", "models.unknown"),
    ],
)
def test_unknown_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        find_model(name, Places(tmp_path))
    assert caught.value.message.id == expected
    if expected == "models.unknown":
        assert "nano" in str(caught.value)
        assert "i2vgen-xl" in str(caught.value)


@pytest.mark.parametrize("name", ["hunyuan_video", "Hunyuan-Video", "I2VGEN_XL"])
def test_a_name_is_found_whatever_its_capitals_and_marks(tmp_path: Path, name: str) -> None:
    plain = name.lower().replace("-", "").replace("_", "")
    assert find_model(name, Places(tmp_path)).name.lower().replace("-", "") == plain
    for folder in ("My-Model", "my_model"):  # alike, so that neither may be meant
        make_checkpoint(tmp_path / folder, SPECS["i2vgen_xl"])
    with pytest.raises(UserError) as caught:
        find_model("mymodel", Places(tmp_path))
    assert caught.value.message.id == "models.unknown"
    assert find_model("my_model", Places(tmp_path)).folder == tmp_path / "my_model"


def test_who_comes_over_the_network_names_no_folder_and_learns_of_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = make_checkpoint(tmp_path / "mine", SPEC)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").mkdir()
    listed = Places(tmp_path / "models", listed_models_only=True)
    make_checkpoint(listed.models_dir / "tuned", SPEC)
    assert find_model("tuned", listed).present
    for name in (
        str(mine),
        "mine",
        "./mine",
        "~",
        "~root",
        "~nobody-of-that-name",
        "/",
        "/no/where",
        "../mine",
        str(listed.models_dir / "tuned"),
    ):
        with pytest.raises(UserError) as caught:
            find_model(name, listed)
        assert caught.value.message.id == "models.unknown", name
    with pytest.raises(UserError) as caught:
        find_model("a/b", listed)  # a folder too, but read as the hub's
    assert caught.value.message.id == "models.offline"
    assert find_model(str(mine), replace(listed, model=str(mine))).present  # whoever set this one may


def test_a_single_file_and_another_kind_of_model(folder: Path) -> None:
    places = Places(folder.parent)
    with pytest.raises(UserError, match=r"single file, as LoRAs"):
        find_model(str(folder / UNET), places)
    (folder / "model_index.json").write_text('{"_class_name": "MochiPipeline"}')
    with pytest.raises(UserError, match=r"MochiPipeline.*I2VGen-XL"):
        find_model(str(folder), places)


@pytest.mark.parametrize(
    "tensor",
    [
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
        "unet.down_blocks.0.attn.to_q.lora_A.weight",
        "diffusion_model.blocks.0.attn.lora_B.default.weight",
        "lora_te1_text_model.hada_w1_a",
        "lycoris_blocks_0.lokr_w1",
    ],
)
@pytest.mark.parametrize("place", ["style.safetensors", "loras/style.safetensors"])
def test_a_lora_is_told_as_one_by_its_name(folder: Path, tensor: str, place: str) -> None:
    models = folder.parent
    (models / place).parent.mkdir(exist_ok=True)
    save_file({tensor: TENSORS["weight"]}, models / place)
    for name in ("style", "style.safetensors", str(models / place)):
        with pytest.raises(UserError) as caught:
            find_model(name, Places(models))
        assert (caught.value.message.id, caught.value.message.params["file"]) == ("models.lora", str(models / place))


def test_what_else_lies_among_the_models_is_told_by_its_name(folder: Path) -> None:
    models = folder.parent
    (models / "peft").mkdir()
    (models / "peft" / "adapter_config.json").write_text("{}")
    (models / "empty").mkdir()
    (models / "dreams.ckpt").write_bytes(b"PK")
    save_file(TENSORS, models / "dreams2.safetensors")
    for name, said in (
        ("peft", "lora"), ("empty", "no_index"), ("dreams", "single_file"), ("dreams2", "single_file"),
        ("nowhere", "unknown"), ("../mine", "no_folder"), ("a\0b", "unknown"), ("x" * 5000, "unknown"), ("", "unknown"),
    ):  # fmt: skip
        with pytest.raises(UserError) as caught:
            find_model(name, Places(models, listed_models_only=name == ""))
        assert caught.value.message.id == f"models.{said}", name


def test_entries_survive_a_pipe(folder: Path) -> None:
    (folder / UNET).unlink()
    for entry in list_models(Places(folder.parent)):
        assert ModelEntry.from_json(json.loads(json.dumps(entry.to_json()))) == entry


def test_weights_are_not_read(folder: Path) -> None:
    """A file of a terabyte, sparse: verification must look at its header only."""
    size = 2**40
    header = json.dumps({"weight": {"dtype": "F16", "shape": [size // 2], "data_offsets": [0, size]}}).encode()
    with (folder / UNET).open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    verify_folder(folder, SPEC)


# --- numbers in configurations ---

NAN = float("nan")
BAD_VALUES = [
    *[("vae", "scaling_factor", value, "above_zero") for value in (0, -1, NAN, float("inf"), "0.18215", None, True)],
    *[("vae", "block_out_channels", value, "counts") for value in ([], [0, 0], [8.5], "x", None)],
    *[(network, "layers_per_block", value, "counts") for network in ("vae", "unet") for value in (0, -1)],
    ("vae", "norm_num_groups", 0, "count"),
    ("vae", "latent_channels", 0, "count"),
    ("unet", "norm_eps", -1e-5, "above_zero"),
    ("text_encoder", "layer_norm_eps", NAN, "above_zero"),
    ("text_encoder", "num_hidden_layers", 0, "count"),
    ("image_encoder", "layer_norm_eps", 0, "above_zero"),
    ("image_encoder", "patch_size", 0, "count"),
    *[("feature_extractor", "image_std", value, "three_above_zero") for value in (0, [0, 0, 0], [1, 1], None)],
    *[("feature_extractor", "image_mean", value, "three") for value in ([NAN] * 3, [0.5], "x")],
    *[("feature_extractor", "crop_size", value, "sides") for value in (0, None, {}, {"height": 0, "width": 224})],
    *[("scheduler", "num_train_timesteps", value, "count") for value in (0, -5, "1000", 1000.5, None)],
    *[("scheduler", "beta_start", value, "share") for value in (0, -1, NAN, None, "x")],
    *[("scheduler", "beta_end", value, "share") for value in (1, 2)],
    *[("scheduler", "trained_betas", value, "shares") for value in ([], [2.0], [0.1, -0.1])],
    *[("scheduler", "steps_offset", value, "offset") for value in (-3, 0.5, None, False)],
    ("scheduler", "timestep_spacing", "bogus", "spacing"),
    ("scheduler", "clip_sample_range", 0, "above_zero"),
]  # fmt: skip


@pytest.mark.parametrize(("component", "key", "value", "needed"), BAD_VALUES)
def test_a_number_that_no_model_works_with_is_named(component: str, key: str, value: object, needed: str) -> None:
    found = bad_value(component, {key: value})
    assert found is not None
    assert (found.key, found.needed) == (key, needed)


def test_betas_that_fall_are_named() -> None:
    assert bad_value("scheduler", {"beta_start": 0.5, "beta_end": 0.012}).needed == "order"


def test_the_numbers_of_real_checkpoints_are_all_right() -> None:
    for folder in (SHIPPED, REAL):
        for file in folder.glob("*/*.json"):
            assert bad_value(file.parent.name, json.loads(file.read_text("utf-8"))) is None, file
    assert bad_value("scheduler", {"trained_betas": None, "steps_offset": 0, "timestep_spacing": "linspace"}) is None
    assert bad_value("feature_extractor", {"crop_size": 224, "image_std": [0.27, 0.26, 0.28]}) is None


def test_a_folder_with_such_a_number_is_refused_before_anything_is_computed(folder: Path) -> None:
    for component, names in SPEC.components.items():
        wrong = next(((key, value, needed) for where, key, value, needed in BAD_VALUES if where == component), None)
        if wrong is None:
            continue
        key, value, needed = wrong
        file = folder / component / next(name for name in names if name.endswith(".json"))
        before = file.read_text("utf-8")
        file.write_text(json.dumps({**json.loads(before), key: value}))
        said, known = complaint(folder)
        assert (said, known["file"], known["key"]) == (f"models.config_{needed}", str(file), key)
        file.write_text(before)
