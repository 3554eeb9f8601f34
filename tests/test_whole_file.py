"""Files and folders appear whole or not at all: the one way to write them, and everybody who does."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from i2v.cli import export
from i2v.jobs.job import again, predicted
from i2v.jobs.job.folder import PICTURE, create_job_folder
from i2v.messages import UserError
from i2v.plan import PhasePrediction, Plan, Prediction
from i2v.planning.measured import Measurement, Measurements
from i2v.request import GenerationRequest
from i2v.setup.environment import Environment, Proof, Stamp
from i2v.setup.torch_build import TorchBuild
from i2v.ui.gate.secret import browser_secret
from i2v.video.stills import small_picture
from i2v.whole_file import copy_whole, whole_file, whole_folder, write_whole

ERRORS = (KeyboardInterrupt, OSError, MemoryError, RuntimeError)


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


# --- a file ---


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_there_when_it_is_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "f"
    with whole_file(path, durable=durable) as part:
        part.write_text("new")
        assert not path.exists()
        assert part.name.startswith(".f.")
        assert part.match(".*.part*")  # the name that tidying knows
    assert (path.read_text(), names(tmp_path)) == ("new", ["f"])
    write_whole(path, "小", durable=durable)
    assert path.read_bytes() == "小".encode()
    copy_whole(path, tmp_path / "g")
    assert (tmp_path / "g").read_text(encoding="utf-8") == "小"


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("there", [True, False])
def test_what_ends_the_writing_leaves_what_was_there(tmp_path: Path, error: type[BaseException], there: bool) -> None:
    path = tmp_path / "f"
    if there:
        path.write_text("old")

    def write() -> None:
        with whole_file(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path) == (["f"] if there else [])
    assert not there or path.read_text() == "old"


def test_two_who_write_the_same_each_write_a_whole_one(tmp_path: Path) -> None:
    path, together = tmp_path / "f", threading.Barrier(2)

    def write(letter: str) -> None:
        with whole_file(path) as part:
            part.write_text(letter * 1000)
            together.wait()

    with ThreadPoolExecutor(2) as writers:
        assert list(writers.map(write, "ab")) == [None, None]
    assert path.read_text() in ("a" * 1000, "b" * 1000)
    assert names(tmp_path) == ["f"]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done on the disk, in its order."""
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def sync(handle: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        fsync(handle)

    def name(of: Any, to: Any) -> None:
        done.append(f"name {Path(to).name}")
        rename(of, to)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", name)
    monkeypatch.setattr(os, "rename", name)
    return done


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_after_it(tmp_path: Path, told: list[str]) -> None:
    write_whole(tmp_path / "f", "new")
    part, *rest = told
    assert part.startswith("sync .f.")
    assert rest == ["name f", f"sync {tmp_path.name}"]
    told.clear()
    write_whole(tmp_path / "f", "new", durable=False)
    assert told == ["name f"]


def test_a_file_system_that_cannot_be_asked_for_its_names_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def only_files(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(code, os.strerror(code))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", only_files)
    code = errno.EINVAL
    write_whole(tmp_path / "f", "new")
    code = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_whole(tmp_path / "f", "newer")


# --- a folder ---


def test_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, told: list[str]) -> None:
    with whole_folder(tmp_path / "day" / "job") as folder:
        (folder / "a").write_text("a")
        (folder / "in").mkdir()
        (folder / "in" / "b").write_text("b")
        assert not (tmp_path / "day" / "job").exists()
    at = told.index("name job")
    assert sorted(told[:at]) == ["sync .job.unfinished", "sync a", "sync b", "sync in"]
    assert told[at + 1 :] == ["sync day", f"sync {tmp_path.name}"]  # the day was new as well
    assert names(tmp_path) == ["a", "b", "day", "in", "job"]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("moment", ["within", "fsync", "rename"])
def test_of_a_folder_that_is_not_finished_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, error: type[BaseException]
) -> None:
    def write() -> None:
        with whole_folder(tmp_path / "job") as folder:
            (folder / "a").write_text("a")
            if moment == "within":
                raise error

    if moment != "within":
        monkeypatch.setattr(os, moment, failing(error()))
    with pytest.raises(error):
        write()
    assert names(tmp_path) == []


def test_another_folder_of_that_name_is_left_alone(tmp_path: Path) -> None:
    write_whole_folder = tmp_path / "job"
    write_whole_folder.mkdir()
    (write_whole_folder / "mine").touch()
    with pytest.raises(OSError), whole_folder(tmp_path / "job") as folder:  # noqa: PT011 - as the system puts it
        (folder / "a").touch()
    assert names(tmp_path) == ["job", "mine"]


# --- everybody who writes one ---

REQUEST = GenerationRequest("nano", "rain", 64, 64, 2, 8, 4, 1.0, 7)
CARD = Measurement("card", "2.13", 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1, True)
PREDICTION = Prediction((PhasePrediction("decode", 1, 2, 3, 6, 0.5),), 1, 2, 3, 4, 5, 6, 7)


def keep_card(folder: Path, number: int) -> None:
    Measurements(folder / "cards.json").put("GPU-1", replace(CARD, link=float(number)))


def keep_prediction(folder: Path, number: int) -> None:
    predicted.keep_prediction(folder, replace(PREDICTION, context_bytes=number))


def keep_stamp(folder: Path, number: int) -> None:
    environment = Environment(folder)
    environment.folder.mkdir(exist_ok=True)
    environment._python_version = lambda: "3.11"
    environment._install = lambda *_: f"{number}"
    environment._prove = lambda *_: Proof(torch="2.13.0")
    for name in ("requirements.txt", "requirements-dev.txt"):
        (folder / name).write_text(f"{number}")
    stamp = environment.read_stamp()
    assert stamp is None or isinstance(stamp, Stamp)
    environment.ensure(TorchBuild("cpu", None, "launcher.torch_no_card"), None)


def copy_picture(folder: Path, number: int) -> None:
    source = folder.parent / f"source {number}"
    source.mkdir(exist_ok=True)
    for name in (PICTURE, again.LATENTS):
        (source / name).write_bytes(bytes([number]) * 5000)
    again.carry_over(source, folder, "generate")


def copy_export(folder: Path, number: int) -> None:
    made = folder.parent / "made.gif"
    made.write_bytes(bytes([number]) * 5000)
    export._copied(made, folder / "out.gif")


def draw_small(folder: Path, number: int) -> None:
    Image.new("RGB", (20, 20), (number, 0, 0)).save(folder.parent / "picture.png")
    small_picture(folder.parent / "picture.png", folder / "small.webp")


def make_folder(folder: Path, number: int) -> None:
    create_job_folder(folder, f"job-{number}", datetime(2026, 1, number), REQUEST, Plan(), None)


WRITERS = (keep_card, keep_prediction, keep_stamp, copy_picture, copy_export, draw_small, make_folder)


def contents(folder: Path) -> dict[str, bytes]:
    kept = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: read for name, read in kept.items() if not name.startswith(("logs/", "requirements"))}


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), RuntimeError("broken")], ids=repr
)
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_whoever_writes_a_file_keeps_the_old_one_until_the_new_is_whole(
    tmp_path: Path, write: Callable[[Path, int], None], error: BaseException, moment: str
) -> None:
    if write is make_folder and moment == "replace":
        moment = "rename"
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder, 1)
    before = contents(folder)
    assert before
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, moment, failing(error))
        if write is copy_picture:
            patched.setattr(os, "link", failing(OSError(errno.EXDEV, "another disk")))
        try:
            write(folder, 2)
        except (type(error), UserError):
            pass
        else:
            assert isinstance(error, OSError), "only the disk's refusals are done without"
    after = contents(folder)
    if write is keep_stamp:  # its set-up takes the old stamp away first, as what it says is true no more
        assert after == {}
    else:
        assert after == before


def test_a_key_that_was_never_written_is_made_anew(tmp_path: Path) -> None:
    """As a start that was killed between making the file and writing it left it."""
    (tmp_path / "browser_secret").touch()
    made = browser_secret(tmp_path)
    assert len(made) == 32
    assert browser_secret(tmp_path) == made
