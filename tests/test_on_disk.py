"""`models verify` and `models where`: what is wrong with a model is found, and where models are is told."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import i2v
from huggingface_hub import constants
from machines import settings
from model_folders import TENSORS, make_checkpoint
from published_folders import published, tensors_of, write_hollow
from safetensors.numpy import save_file

from i2v.families import SPECS
from i2v.messages import LOCALES, UserError
from i2v.models.catalogue import find_model
from i2v.models.check import Checked, bytes_to_read, check_files
from i2v.models.kinds import kind_of
from i2v.models.parts_digest import model_digest
from i2v.models.single_files import part_in, told

SVD = SPECS["svd"]
WEIGHTS = "diffusion_pytorch_model.safetensors"
UNET = f"unet/{WEIGHTS}"
CONFIG = "vae/config.json"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the hub's own library, empty."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def files_of(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    """As `git hash-object` computes it."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def digits_of(file: Path) -> str:
    """What a hub publishes of a file: of weights a sha256, of small files git's sha1."""
    return (sha256 if file.suffix == ".safetensors" else git_sha1)(file.read_bytes())


def with_record(folder: Path) -> Path:
    """As this app leaves what it has fetched."""
    kinds = {64: "sha256", 40: "git-sha1"}
    files = []
    for name in files_of(folder):
        digits, found = digits_of(folder / name), (folder / name).stat()
        files.append({
            "name": name, "size_bytes": found.st_size, "digest": f"{kinds[len(digits)]}:{digits}",
            "modified_ns": found.st_mtime_ns,
        })  # fmt: skip
    record = {"hub_id": "a/b", "revision": "0" * 40, "route": "plain", "files": files}
    (folder / ".i2v-fetched.json").write_text(json.dumps(record))
    return folder


def with_notes(folder: Path) -> Path:
    """As the hub's library leaves what it has put into a plain folder."""
    for name in files_of(folder):
        note = folder / ".cache" / "huggingface" / "download" / f"{name}.metadata"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{'0' * 40}\n{digits_of(folder / name)}\n1712656091.123\n")
    return folder


def with_blobs(folder: Path) -> Path:
    """As the hub's library keeps it in its cache."""
    repository = folder.parent / "models--a--b"
    for name in files_of(folder):
        blob = repository / "blobs" / digits_of(folder / name)
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, blob)
        link = repository / "snapshots" / "0123abcd" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return repository / "snapshots" / "0123abcd"


KEPT: list[Callable[[Path], Path]] = [with_record, with_notes, with_blobs]
kept = pytest.mark.parametrize("keep", KEPT, ids=[one.__name__ for one in KEPT])


def check(folder: Path, *, read: bool = True) -> tuple[Checked, list[str]]:
    found = check_files(kind_of(folder), read=read)
    for one in found.findings:
        assert len({one.told.render(locale) for locale in LOCALES}) == len(LOCALES)
    return found, [one.told.id for one in found.findings]


def flip(file: Path, *, byte: int = -1) -> None:
    """One bit of it, with everything that a folder's list tells of it as it was."""
    found = file.stat()
    data = bytearray(file.read_bytes())
    data[byte] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


@kept
def test_a_model_as_published_is_well(tmp_path: Path, keep: Callable[[Path], Path]) -> None:
    folder = keep(make_checkpoint(tmp_path / "model", SVD))
    read: list[int] = []
    found = check_files(kind_of(folder), read.append)
    assert (found.findings, found.unknown) == ((), ())
    assert found.compared == len([name for name in files_of(folder) if not name.startswith(".")])
    assert sum(read) == bytes_to_read(kind_of(folder)) > 0


@kept
@pytest.mark.parametrize("name", [UNET, CONFIG, "model_index.json"])
def test_a_flipped_bit_is_found(tmp_path: Path, keep: Callable[[Path], Path], name: str) -> None:
    folder = keep(make_checkpoint(tmp_path / "model", SVD))
    if name == UNET:
        flip(folder / name)
    else:  # a space is JSON as well
        (folder / name).write_text((folder / name).read_text().replace("}", " }"))
    found, ids = check(folder)
    sized = keep is with_record and name != UNET
    assert (set(ids), found.well) == ({"models.other_size" if sized else "models.other_contents"}, False)
    assert str(folder / name) in [one.told.params["file"] for one in found.findings]
    assert name != UNET or check(folder, read=False)[0].well


@kept
def test_a_short_file_is_found_without_reading_it(tmp_path: Path, keep: Callable[[Path], Path]) -> None:
    folder = keep(make_checkpoint(tmp_path / "model", SVD))
    file = (folder / UNET).resolve()
    file.write_bytes(file.read_bytes()[:-1])
    assert set(check(folder, read=False)[1]) == set(check(folder)[1]) == {"models.truncated"}


def test_a_foreign_file_is_told_and_is_no_fault(tmp_path: Path) -> None:
    folder = with_record(make_checkpoint(tmp_path / "model", SVD))
    save_file(TENSORS, folder / "unet" / "other.safetensors")
    (folder / "safety_checker").mkdir()
    for name in ("svd.safetensors", "unet/weights.bin", "run.py", "safety_checker/model.safetensors"):
        save_file(TENSORS, folder / name)
    (folder / "README.md").write_text("of the hub")
    found, ids = check(folder)
    assert (ids, found.well) == (["models.foreign_file"] * 5, True)
    told_of = {Path(one.told.params["file"]).relative_to(folder).as_posix() for one in found.findings}
    assert told_of == {
        "svd.safetensors", "unet/other.safetensors", "unet/weights.bin", "run.py", "safety_checker/model.safetensors",
    }  # fmt: skip


def test_both_forms_of_weights_are_the_models_own(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", SVD)
    save_file(TENSORS, folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    found, ids = check(folder)
    assert ids == []
    assert len(found.unknown) == 4  # nobody wrote down what they should be


def test_another_models_file_under_the_right_name_is_found(tmp_path: Path) -> None:
    folder = with_record(make_checkpoint(tmp_path / "model", SVD))
    save_file({name: array + 1 for name, array in TENSORS.items()}, folder / UNET)
    assert check(folder)[1] == ["models.other_contents"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 3}', '{"files": [{"name": 1}]}', "\0"])
def test_a_broken_record_is_none(tmp_path: Path, text: str) -> None:
    folder = with_record(make_checkpoint(tmp_path / "model", SVD))
    (folder / ".i2v-fetched.json").write_text(text)
    found, ids = check(folder)
    assert (ids, found.compared, len(found.unknown)) == ([], 0, 3)


# --- on the command line ---


def command(folder: Path, *words: str) -> tuple[int, list, str]:
    ran = i2v(folder, "models", *words, "--json", "--models", str(folder / "models"))
    return ran.returncode, json.loads(ran.stdout), ran.stderr


def test_where_tells_every_place_and_what_is_in_it(tmp_path: Path) -> None:
    published(tmp_path / "models" / "mine", SVD)
    published(tmp_path / "models" / "broken 模型", SVD)
    (tmp_path / "models" / "broken 模型" / UNET).unlink()
    (tmp_path / "models" / "loras").mkdir()
    others = tmp_path / "others"
    (others / "vae").mkdir(parents=True)
    write_hollow(others / "vae" / "wan_2.1_vae.safetensors", {"decoder.middle.0.residual.0.gamma": (384, 1, 1, 1)})
    ran = i2v(
        tmp_path, "models", "where", "--json", "--models", str(tmp_path / "models"), I2V_MODEL_FOLDERS=str(others)
    )
    places = {one["place"]: one for one in json.loads(ran.stdout)}
    assert list(places) == ["app", "models", "folder", "hub"]
    assert [(one["name"], one["family"], one["whole"]) for one in places["models"]["models"]] == [
        ("broken 模型", "svd", False), ("mine", "svd", True),
    ]  # fmt: skip
    assert places["models"]["models"][1]["gib"] == pytest.approx(4.2, abs=0.3)
    assert places["models"]["free_gib"] > 0
    assert places["app"]["models"][0]["name"] == "nano"
    assert "vae of Wan 2.1" in places["folder"]["files"][0]["told"]
    assert places["hub"]["there"] is False
    for locale in LOCALES:
        ran = i2v(tmp_path, "models", "where", "--lang", locale, "--models", str(tmp_path / "models"))
        assert ran.returncode == 0
        assert "broken 模型" in ran.stdout
        assert "{" not in ran.stdout


def test_verify_says_what_is_wrong_and_ends_so(tmp_path: Path) -> None:
    folder = with_record(make_checkpoint(tmp_path / "models" / "mine", SVD))
    code, (one,), _ = command(tmp_path, "verify", "mine", "--quick")
    assert (code, one["well"], one["family"], one["findings"]) == (0, True, "svd", [])
    flip(folder / UNET)
    code, (one,), _ = command(tmp_path, "verify", "mine")
    assert (code, one["well"]) == (1, False)
    assert [(found["id"], found["fault"]) for found in one["findings"]] == [("models.other_contents", True)]
    code, all_of_them, _ = command(tmp_path, "verify", "--quick")
    assert (code, {each["name"] for each in all_of_them}) == (0, {"nano", "mine"})
    shutil.rmtree(folder / "unet")
    for locale in LOCALES:
        ran = i2v(tmp_path, "models", "verify", "mine", "--lang", locale, "--models", str(tmp_path / "models"))
        assert ran.returncode == 1
        assert str(folder / UNET) in ran.stdout


def test_verify_finds_a_configuration_that_headers_alone_do_not_betray(tmp_path: Path) -> None:
    """Of a published model, with one of 1,000 tensors missing."""
    folder = published(tmp_path / "models" / "mine", SVD)
    shapes = dict(tensors_of("svd")["unet"])
    del shapes["conv_out.bias"]
    write_hollow(folder / UNET, shapes)
    code, (one,), _ = command(tmp_path, "verify", "mine")
    assert (code, [found["id"] for found in one["findings"]]) == (1, ["models.tensor_missing"])
    assert "conv_out.bias" in one["findings"][0]["text"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("vrify",), "verify"),
        (("dance",), "list, download"),
        (("verify", "nobody"), "nobody"),
        (("verify", "i2vgen-xl"), "not on this computer"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    ran = i2v(tmp_path, "models", *words, "--models", str(tmp_path / "models"))
    assert ran.returncode == 2
    assert said in ran.stderr


def test_what_is_noted_beside_a_model_is_no_part_of_its_digest(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "mine", SVD)
    digest = model_digest(folder)
    (with_notes(with_record(folder)) / ".cache" / "i2v").mkdir()
    (folder / ".cache" / "i2v" / "x.json").write_text("{}")
    assert model_digest(folder) == digest
    flip(folder / UNET)
    assert model_digest(folder) != digest


# --- single files ---

FILES = {
    "wan transformer": ({"blocks.0.self_attn.q.weight": (1536, 1536)}, "wan", "transformer"),
    "wan of ComfyUI": ({"model.diffusion_model.head.modulation": (1, 2, 5120)}, "wan_14b", "transformer"),
    "wan of diffusers": ({"blocks.0.attn1.to_q.weight": (8, 8)}, "wan", "transformer"),
    "wan vae": ({"decoder.middle.0.residual.0.gamma": (384, 1, 1, 1)}, "wan", "vae"),
    "ltx checkpoint": ({"model.diffusion_model.patchify_proj.weight": (8, 8)}, "ltx", "transformer"),
    "hunyuan": (
        {"txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias": (8,)}, "hunyuan_video", "transformer",
    ),
    "svd": ({"model.diffusion_model.input_blocks.1.0.time_stack.in_layers.0.weight": (8,)}, "svd", "unet"),
    "t5": ({"encoder.block.0.layer.0.SelfAttention.q.weight": (8, 8)}, "wan", "text_encoder"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_one_file_of_another_program_is_told_for_what_it_is_and_what_it_lacks(tmp_path: Path, name: str) -> None:
    tensors, family, component = FILES[name]
    write_hollow(tmp_path / "file.safetensors", tensors)
    part = part_in(tmp_path / "file.safetensors")
    assert part is not None
    assert (part.family, part.component) == (family, component)
    assert component not in part.missing
    assert set(part.missing) < set(SPECS[family].components)
    for locale in LOCALES:
        said = told(tmp_path / "file.safetensors", part).render(locale)
        with pytest.raises(UserError) as caught:  # where somebody chooses it as a model
            find_model(str(tmp_path / "file.safetensors"), settings())
        assert caught.value.message.render(locale) == said
        assert SPECS[family].title in said
        assert all(one in said for one in part.missing)


def test_what_no_table_knows_is_not_guessed(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "file.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"x")
    (tmp_path / "file.ckpt").write_bytes(b"PK")
    assert [part_in(file) for file in tmp_path.iterdir()] == [None] * 3


@pytest.mark.parametrize("family", [name for name in SPECS if name != "nano"])
def test_networks_in_diffusers_names_are_told_by_real_ones(tmp_path: Path, family: str) -> None:
    """No network of a family is taken for another architecture's."""
    for component, shapes in tensors_of(family).items():
        write_hollow(tmp_path / "file.safetensors", shapes)
        part = part_in(tmp_path / "file.safetensors")
        if part is not None and component.startswith("transformer"):
            assert (part.component, part.here) == ("transformer", True)
            assert (part.family, family) not in (("wan", "wan_14b"), ("wan_14b", "wan"), ("wan", "wan22_5b"))
            assert part.family.split("_")[0].rstrip("2") == family.split("_")[0].rstrip("2") or family.startswith(
                "framepack"
            )
