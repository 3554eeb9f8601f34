"""Pictures at frames between the first and the last: how they come in, are checked and kept, and come back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jobs_support import settings_in, small_picture, values
from PIL import Image
from tabs_support import resting_service

from i2v.cli.arguments import parse
from i2v.engine.checkpoint import Identity
from i2v.engine.encoded import EncodedCache
from i2v.families import SPECS
from i2v.families.base import Stage
from i2v.families.spec import IMAGES_BETWEEN, LAST_IMAGE, InputSlot
from i2v.jobs.asked.between import pictures_at
from i2v.jobs.asked.prepare import resolve
from i2v.jobs.service import JobService
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.request import GenerationRequest, Input


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobService]:
    inputs = {"i2v": (InputSlot("image"), IMAGES_BETWEEN, LAST_IMAGE), "t2v": ()}
    monkeypatch.setitem(SPECS, "i2vgen_xl", replace(SPECS["i2vgen_xl"], inputs=inputs))
    with resting_service(tmp_path) as running:
        yield running


@pytest.fixture
def evening(tmp_path: Path) -> Path:
    path = tmp_path / "evening: dusk.png"
    Image.new("RGB", (80, 48), "navy").save(path)
    return path


@given(st.dictionaries(st.integers(1, 10**6), st.text(st.characters(exclude_characters="\0"), min_size=1).map(Path)))
def test_words_say_what_a_mapping_says(files: dict[int, Path]) -> None:
    files = {frame: file for frame, file in files.items() if str(file)}
    assert pictures_at([f"{frame}:{file}" for frame, file in files.items()]) == pictures_at(files) == files
    assert [*pictures_at(files)] == sorted(files)


@pytest.mark.parametrize("wrong", ["b.jpg", "0:a", "-1:a", "3:", ["3:a", "3:b"], [7], {"x": "a"}, {2: None}, "²:a"])
def test_what_says_no_frame_is_refused(wrong: object) -> None:
    with pytest.raises(UserError) as error:
        pictures_at(wrong)
    assert error.value.message.id == "request.bad_image_at"


def test_the_command_line_takes_several() -> None:
    typed = parse(["generate", "--image", "a.png", "--image-at", "3:b.png", "--image-at", "5:c.png"], "en")
    assert pictures_at(typed.values["image_at"]) == {3: Path("b.png"), 5: Path("c.png")}


def test_they_are_in_the_request_in_the_folder_and_in_what_is_done_again(
    tmp_path: Path, service: JobService, evening: Path
) -> None:
    job = service.submit(values(frames=6), small_picture(tmp_path), pictures_at={2: evening})
    folder = service.status(job).folder
    inputs = service.status(job).request.inputs
    assert Input("image", "input-2.png", at=2) in inputs
    with Image.open(folder / "input-2.png") as kept:
        assert kept.getpixel((3, 3)) == (0, 0, 128)
    again = service.retry(job)
    assert service.status(again).request.inputs == inputs
    assert (service.status(again).folder / "input-2.png").read_bytes() == (folder / "input-2.png").read_bytes()


def test_a_frame_that_is_not_between_or_a_model_that_takes_none_is_named(
    tmp_path: Path, service: JobService, evening: Path
) -> None:
    frames = resolve(values(image="a.png"), settings_in(tmp_path)[0], to_run=False).request.num_frames
    for asked, at, wanted in (
        (values(), frames - 1, "request.image_at_range"),
        ({**values(), "model": "nano"}, 2, "family.frame_not_taken"),
    ):
        with pytest.raises(UserError) as error:
            service.submit(asked, small_picture(tmp_path), pictures_at={at: evening})
        assert error.value.message.id == wanted
    assert service.jobs() == []


def test_a_client_names_no_file_of_this_computer(tmp_path: Path, service: JobService, evening: Path) -> None:
    job = service.submit({**values(), "image_at": {"2": str(evening)}}, small_picture(tmp_path))
    assert len(service.status(job).request.inputs) == 1


def test_what_is_encoded_of_a_picture_is_not_that_of_another_frame(tmp_path: Path) -> None:
    stage = Stage("picture", ("vae",), lambda card, conditioning: None, (), sees=("image",))
    identity = Identity("request", ("first", "second"), "model", "float32", "program")

    def cache(at: int) -> EncodedCache:
        inputs = Input("image", "input.png"), Input("image", "input-2.png", at=at)
        request = GenerationRequest(
            model="small", task="i2v", prompt="rain", negative_prompt="", width=64, height=64, num_frames=17, fps=8,
            num_inference_steps=1, guidance_scale=1.0, seed=1, inputs=inputs,
        )  # fmt: skip
        return EncodedCache(tmp_path, request, Plan(), identity)

    cache(2).put(stage, {"picture_2": torch.zeros(1)})
    assert cache(2).has(stage)
    assert not cache(3).has(stage)
