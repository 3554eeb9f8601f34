"""Which files weights are loaded from, what of them is in RAM, and what is known of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from i2v.families import SPECS
from i2v.hardware.disk import cold_bytes
from i2v.models.fetch.record import Fetched, found_right, read_record, write_record
from i2v.models.weight_files import as_published, heaviest, readings, weight_files

SPEC = SPECS["wan"]
PLAIN, HALF = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"
INDEX = f"{PLAIN}.index.json"
TEXT = "model.safetensors"


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, size: int = 10) -> Path:
        file = tmp_path / "model" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(size))
        return file

    return write


def test_each_precision_has_its_files(put, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    plain, half, text = put(f"transformer/{PLAIN}"), put(f"transformer/{HALF}"), put(f"text_encoder/{TEXT}")
    assert weight_files(folder, SPEC, "float32")["transformer"] == (plain,)
    assert weight_files(folder, SPEC, "bfloat16")["transformer"] == (half,)
    assert weight_files(folder, SPEC, "bfloat16")["text_encoder"] == (text,)  # there is no other
    assert weight_files(folder, SPEC, "bfloat16")["vae"] == ()


def test_shards_and_other_kinds_of_files_are_found(put, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    places = {"a": "part-1.safetensors", "b": "part-2.safetensors"}
    put(f"vae/{INDEX}").write_text(json.dumps({"weight_map": places}))
    put(f"text_encoder/{TEXT}.index.json").write_text("no JSON")
    gguf = put("transformer/small-Q.gguf")
    found = weight_files(folder, SPEC, "float32")
    assert found["vae"] == tuple(folder / "vae" / name for name in places.values())
    assert found["transformer"] == (gguf,)
    assert found["text_encoder"] == ()
    put("transformer/another-Q.gguf")  # of which nobody knows which one is meant
    assert weight_files(folder, SPEC, "float32")["transformer"] == ()


def test_the_heaviest_part_is_the_one_with_most_bytes(put, tmp_path: Path) -> None:
    vae = put(f"vae/{PLAIN}", 50)
    small, large, gone = put("transformer/1", 30), put("transformer/2", 40), tmp_path / "gone"
    assert heaviest({"vae": (vae,), "transformer": (small, large, gone)}) == (large, small)
    assert heaviest({"vae": (vae,), "transformer": (gone,)}) == (vae,)
    assert heaviest({"transformer": (gone,), "text_encoder": ()}) == heaviest({}) == ()


def test_only_what_was_fetched_and_not_touched_is_as_published(put, tmp_path: Path) -> None:
    folder, file, other = tmp_path / "model", put(f"transformer/{PLAIN}"), put(f"vae/{PLAIN}")
    known = found_right(folder, f"transformer/{PLAIN}", "sha256:0")
    fetched = Fetched("owner/model", "1", "hub", (known,))
    assert as_published(file, folder, fetched)
    assert not as_published(other, folder, fetched)  # nobody wrote down what it is
    assert not as_published(tmp_path / "elsewhere", folder, fetched)
    assert not as_published(file, folder, None)
    assert not as_published(file, folder, Fetched("", "", "import", (known,)))  # as somebody had it
    write_record(folder, fetched)
    assert readings(folder, SPEC, "float32")["transformer"].as_published
    assert not readings(folder, SPEC, "float32")["vae"].as_published
    assert not readings(folder, SPEC, "float32")["text_encoder"].as_published
    file.write_bytes(b"0123456789")  # as large as before
    os.utime(file, ns=(0, known.modified_ns + 1))
    assert not as_published(file, folder, read_record(folder))


def test_what_the_system_has_in_ram_does_not_come_from_the_disk(put, tmp_path: Path) -> None:
    size = 32 * 2**20
    file = put(f"transformer/{PLAIN}", size)
    assert cold_bytes(file) == 0
    with file.open("rb") as opened:
        os.fsync(opened.fileno())  # only what is on the disk can be forgotten
        os.posix_fadvise(opened.fileno(), size // 2, 0, os.POSIX_FADV_DONTNEED)
    half = cold_bytes(file)
    if half == 0:
        pytest.skip("this system keeps its files in RAM")
    assert half == pytest.approx(size / 2, rel=0.1)
    assert cold_bytes(file) == half  # looking has read nothing
    assert readings(tmp_path / "model", SPEC, "float32")["transformer"].cold_bytes == half
    file.read_bytes()
    assert cold_bytes(file) == 0


def test_of_no_file_nothing_is_read(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "small").write_bytes(b"1")
    assert [cold_bytes(tmp_path / name) for name in ("gone", "empty", "small", ".")] == [0, 0, 0, 0]
