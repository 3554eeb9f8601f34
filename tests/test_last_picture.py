"""A video that ends with a picture of its own: how that comes in, is checked and kept, and comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from jobs_support import settings_in, small_picture, values
from PIL import Image
from tabs_support import finish, resting_service

from i2v.families import SPECS
from i2v.families.spec import InputSlot
from i2v.jobs.asked.prepare import resolve
from i2v.jobs.job.folder import LAST_PICTURE, PICTURE
from i2v.jobs.service import JobService
from i2v.messages import UserError
from i2v.request import GenerationRequest, Input
from i2v.ui.gate.own import OwnJobs

FIRST_SLOT = InputSlot("image")


def takes_last(monkeypatch: pytest.MonkeyPatch, *, needed: bool = False) -> None:
    """From now on the small model's family takes a last picture, or needs one."""
    inputs = {"i2v": (FIRST_SLOT, InputSlot("image", -1, needed=needed)), "t2v": ()}
    monkeypatch.setitem(SPECS, "i2vgen_xl", replace(SPECS["i2vgen_xl"], inputs=inputs))


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobService]:
    takes_last(monkeypatch)
    with resting_service(tmp_path) as running:
        yield running


@pytest.fixture
def last(tmp_path: Path) -> Path:
    path = tmp_path / "evening.png"
    Image.new("RGB", (80, 48), "navy").save(path)
    return path


def refused(service: JobService, *args: object, **more: object) -> str:
    with pytest.raises(UserError) as error:
        service.submit(*args, **more)
    assert error.value.message.render("zh-CN") != error.value.message.render("en")
    return error.value.message.id


def test_the_keys_of_both_pictures_become_the_first_and_the_last_frame(
    tmp_path: Path, service: JobService, last: Path
) -> None:
    settings, first = settings_in(tmp_path)[0], small_picture(tmp_path)
    asked = values(image=str(first), last_image=str(last), width=None, height=None)
    request = resolve(asked, settings).request
    assert request.inputs == (Input("image", str(first), 0), Input("image", str(last), -1))
    assert (request.image_path, request.last_image_path, request.task) == (str(first), str(last), "i2v")
    # The shape is the first one's.
    alone = resolve({**asked, "last_image": None}, settings).request
    assert (request.width, request.height) == (alone.width, alone.height)
    assert (alone.last_image_path, alone.height > alone.width) == (None, True)


@pytest.mark.parametrize("wrong", [7, "a\0b", ["x"]])
def test_what_is_no_path_is_refused(tmp_path: Path, service: JobService, wrong: object) -> None:
    with pytest.raises(UserError) as error:
        resolve(values(last_image=wrong), settings_in(tmp_path)[0])
    assert error.value.message.id == "request.bad_image"


def test_what_is_missing_or_has_no_place_is_named(
    service: JobService, last: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = small_picture(tmp_path)
    assert refused(service, values(), None, last_picture=last) == "request.needed_image"
    assert refused(service, {**values(), "model": "nano"}, first, last_picture=last) == "family.not_taken_last_image"
    asked_alone = {**values(), "task": "t2v"}
    assert refused(service, asked_alone, None, last_picture=last) == "family.other_task_takes_image"
    takes_last(monkeypatch, needed=True)
    assert refused(service, values(), first) == "request.needed_last_image"
    text = tmp_path / "words.txt"
    text.write_text("no picture")
    assert refused(service, values(), first, last_picture=text).startswith("picture.")
    assert service.jobs() == []
    assert list((tmp_path / "outputs").glob("20*/*")) == []


def test_its_pixels_are_held_to_the_same_limit(tmp_path: Path, last: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    takes_last(monkeypatch)
    big = tmp_path / "big.png"
    Image.new("RGB", (1200, 1000)).save(big)
    with resting_service(tmp_path, max_picture_megapixels=1) as service:
        assert refused(service, values(), small_picture(tmp_path), last_picture=big) == "picture.too_large"
        assert service.jobs() == []


def test_a_clients_words_name_no_file_of_this_computer(service: JobService, last: Path, tmp_path: Path) -> None:
    job = service.submit({**values(), "last_image": str(last)}, small_picture(tmp_path), "ann")
    assert service.status(job).request.last_image_path is None
    again = service.retry(job, {"last_image": str(last)})
    assert service.status(again).request.last_image_path is None


def folder_of(service: JobService, job_id: str) -> Path:
    folder = service.status(job_id).folder
    request = GenerationRequest.from_json(json.loads((folder / "request.json").read_text()))
    assert request.inputs == (Input("image", PICTURE), Input("image", LAST_PICTURE, -1))
    return folder


def test_both_pictures_are_kept_and_come_with_what_is_done_again(
    service: JobService, last: Path, tmp_path: Path
) -> None:
    job_id = finish(service, tmp_path, last_picture=last)
    folder = folder_of(service, job_id)
    with Image.open(folder / LAST_PICTURE) as kept:
        assert (kept.size, kept.getpixel((0, 0))) == ((80, 48), (0, 0, 128))
    (folder / "latents.safetensors").write_bytes(b"latents")
    # Written otherwise than it would be written anew: what was made of it is valid with this very file alone.
    Image.new("RGB", (80, 48), "navy").save(folder / LAST_PICTURE, compress_level=9)
    as_kept = (folder / LAST_PICTURE).read_bytes()
    own = OwnJobs(service, "local")
    for again in (own.retry(job_id), own.redecode(job_id)):
        assert (folder_of(service, again) / LAST_PICTURE).read_bytes() == as_kept
    changed = folder_of(service, own.retry(job_id, {"seed": 99}))
    with Image.open(changed / LAST_PICTURE) as kept:
        assert kept.size == (80, 48)
    # What goes on from a video has no end yet.
    longer = service.status(own.extend(job_id))
    assert (longer.request.image_path, longer.request.last_image_path) == (PICTURE, None)


def test_where_the_last_picture_is_needed_a_video_is_not_extended_without(
    service: JobService, last: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes_last(monkeypatch, needed=True)
    job_id = finish(service, tmp_path, last_picture=last)
    with pytest.raises(UserError) as error:
        service.extend(job_id)
    assert error.value.message.id == "request.needed_last_image"
