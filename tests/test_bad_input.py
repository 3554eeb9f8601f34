"""Bad input from end to end: words a person can act on, an exit code, no traceback, and earlier outputs untouched."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from cli_support import ROOT, generate_words, i2v, i2v_process
from model_folders import make_checkpoint
from photos import photograph
from picture_files import png

from i2v.cli import program
from i2v.cli.exits import Exit
from i2v.families import SPECS
from i2v.settings.settings import settings_and_probe

SPEC = SPECS["i2vgen_xl"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with an earlier result in its outputs, which is still as it was afterwards."""
    earlier = tmp_path / "outputs" / "2026-01-01" / "20260101-000000-abcdef" / "video.mp4"
    earlier.parent.mkdir(parents=True)
    earlier.write_bytes(b"earlier")
    yield tmp_path
    assert earlier.read_bytes() == b"earlier"


def made(place: Path) -> list[Path]:
    """All that stands in the output folder, but for the list of jobs."""
    return sorted(path for path in (place / "outputs").rglob("*") if ".i2v" not in path.parts)


@pytest.fixture
def refused(place: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a generation that has to be refused before it begins, and give what is said."""

    def run(*words: str, code: int = Exit.BAD_INPUT, prompt: str = "it moves") -> str:
        before = made(place)
        told = i2v(place, *generate_words(place, *words, prompt=prompt), I2V_OFFLINE="1")
        assert told.returncode == code
        assert "Traceback" not in told.stderr + told.stdout
        assert told.stdout == ""
        assert len(told.stderr.strip()) > 20
        assert capfd.readouterr() == ("", ""), "a library or a child wrote past Python's streams"
        assert made(place) == before, "a refused job left something behind"
        return told.stderr

    return run


def truncated(path: Path) -> None:
    path.write_bytes(photograph().read_bytes()[:2000])


def bomb(path: Path) -> None:
    path.write_bytes(png(60_000, 60_000, bits=8, colour_type=2, rows=None))


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (truncated, "damaged or incomplete"),
        (lambda path: path.touch(), "empty (0 bytes)"),
        (lambda path: path.write_text("no picture at all"), "not a picture"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: None, "no picture at"),
        (bomb, "megapixels"),
    ],
    ids=["truncated", "zero bytes", "text", "folder", "missing", "bomb"],
)
def test_bad_pictures(
    make: Callable[[Path], object], fragment: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    make(tmp_path / "photo.png")
    told = refused("--image", str(tmp_path / "photo.png"))
    assert fragment in told
    assert "photo.png" in told


@pytest.mark.parametrize(
    ("prompt", "fragment"),
    [("", "prompt is empty"), ("a\0b", "U+0000, at position 2"), ("n" * 10_001, "10001 characters")],
    ids=["empty", "NUL", "too long"],
)
def test_bad_prompts(prompt: str, fragment: str, refused: Callable[..., str]) -> None:
    assert fragment in refused(prompt=prompt)


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--width", "101"], ["101", "multiple of 8", "104"]),
        (["--width", "0"], ["--width cannot be 0", "64 to 4096"]),
        (["--height", "-64"], ["--height cannot be -64"]),
        (["--height", "NaN"], ["--height cannot be NaN"]),
        (["--width", "1e300"], ["--width cannot be 1e300"]),
        (["--width", "9" * 5000], ["--width cannot be 999"]),
        (["--frames", "0"], ["--frames cannot be 0"]),
        (["--frames", "100000"], ["--frames cannot be 100000", "720"]),
        (["--steps", "0"], ["--steps cannot be 0"]),
        (["--guidance", "inf"], ["--guidance cannot be inf"]),
        (["--model", "nonesuch"], ["nonesuch", "nano", "i2vgen-xl"]),
        (["--model", "owner/nonesuch"], ["owner/nonesuch", "offline"]),
        (["--task", "v2v"], ["Nano", "v2v"]),
    ],
)
def test_bad_values(words: list[str], fragments: list[str], refused: Callable[..., str]) -> None:
    told = refused(*words)
    assert [fragment for fragment in fragments if fragment not in told] == []


def test_a_model_folder_with_a_missing_file(refused: Callable[..., str], tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "mine", SPEC)
    (folder / "vae" / "config.json").unlink()
    told = refused("--model", str(folder))
    assert "config.json" in told
    assert "missing" in told


def test_a_model_folder_with_pickles_only(refused: Callable[..., str], tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "mine", SPEC)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    told = refused("--model", str(folder))
    assert "diffusion_pytorch_model.bin" in told
    assert "only safetensors are read" in told


def test_an_outputs_folder_that_cannot_be_written(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = refused("--out", str(tmp_path / "file" / "outputs"))
    assert "cannot be written" in told
    assert "--out" in told


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB, nearly full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder], capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_at_the_start(refused: Callable[..., str], small_disk: Path) -> None:
    (small_disk / "other").write_bytes(b"x" * 250_000)
    told = refused("--out", str(small_disk / "outputs"), code=Exit.NO_ROOM)
    assert "is full" in told
    assert (small_disk / "other").stat().st_size == 250_000


def test_a_disk_without_room_for_the_job(small_disk: Path, tmp_path: Path) -> None:
    tiny = tmp_path / "tiny.png"
    tiny.write_bytes(png(8, 8, bits=8, colour_type=2, rows=(b"\0" + b"\x80" * 24) * 8))
    (small_disk / "other").write_bytes(b"x" * 210_000)
    large = ("--width", "128", "--height", "128", "--frames", "16", "--image", str(tiny))
    words = generate_words(tmp_path, "--out", str(small_disk / "outputs"), *large)
    ended = i2v(tmp_path, *words)
    assert ended.returncode == Exit.NO_ROOM, ended.stderr
    assert re.search(r"needs \d+ MiB on the disk.*--out", ended.stderr)
    assert "Traceback" not in ended.stderr + ended.stdout
    assert not list(small_disk.rglob("*.mp4"))
    assert (small_disk / "other").stat().st_size == 210_000


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        (b"prot: 1\n", ["config.yaml", "prot", "port"]),
        (b"port: 1\nport: 2\n", ["config.yaml, line 2"]),
        (b"\xff\xfe\x00", ["config.yaml", "UTF-8"]),
    ],
)
def test_a_bad_config_stops_before_anything_else(
    content: bytes, fragments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    reading = partial(settings_and_probe, config_path=tmp_path / "config.yaml")
    monkeypatch.setattr(program, "settings_and_probe", reading)
    refuses(i2v(tmp_path, "probe"), fragments)


def test_the_config_is_the_one_beside_the_program(tmp_path: Path) -> None:
    """In a copy of the program, as its owner would have it."""
    copy = tmp_path / "i2v app"
    shutil.copytree(ROOT / "i2v", copy / "i2v", ignore=shutil.ignore_patterns("__pycache__", "assets"))
    shutil.copytree(ROOT / "presets", copy / "presets")
    (copy / "config.yaml").write_bytes(b"prot: 1\n")
    ended = i2v_process(tmp_path, "probe", PYTHONPATH=str(copy), PYTHONSAFEPATH="1")
    refuses(ended, ["config.yaml", "prot", "port"])


def refuses(ended: subprocess.CompletedProcess[str], fragments: list[str]) -> None:
    """It ended as bad input does, with all of `fragments` in what it said."""
    assert ended.returncode == Exit.BAD_INPUT
    assert [fragment for fragment in fragments if fragment not in ended.stderr] == []
    assert "Traceback" not in ended.stderr
