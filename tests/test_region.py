"""What a person painted over the photograph: what is taken, what is refused, and how it travels with the request."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs_support import settings_in, values
from page_support import scripted_service
from PIL import Image

from i2v.cli.painted import with_region
from i2v.families import SPECS
from i2v.jobs.asked.advice import request_notes
from i2v.jobs.asked.prepare import build_request
from i2v.jobs.job.again import same_latents, values_of
from i2v.messages import UserError
from i2v.request import GenerationRequest
from i2v.video import region


def painted(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    """A region of this size that lives within `box`."""
    mask = Image.new("L", (width, height))
    mask.paste(255, box)
    return mask


def in_base64(picture: Image.Image, kind: str = "PNG") -> str:
    file = io.BytesIO()
    picture.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


HALF = region.written(painted(96, 64, (0, 0, 48, 64)))


def test_a_region_is_read_as_it_was_written() -> None:
    large = painted(1200, 800, (0, 0, 600, 800))
    small = region.read(region.written(large))
    assert (small.size, small.mode) == ((256, 171), "L")
    assert np.asarray(small).mean() == pytest.approx(127.5, abs=1)
    assert region.written(small) == region.written(large)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("", "region.unreadable"),
        ("no base64!", "region.unreadable"),
        (7, "region.unreadable"),
        (["x"], "region.unreadable"),
        (base64.b64encode(b"no picture").decode(), "region.unreadable"),
        (in_base64(painted(96, 64, (0, 0, 48, 64)), "BMP"), "region.unreadable"),
        (in_base64(painted(300, 64, (0, 0, 48, 64))), "region.unreadable"),
        (HALF[: len(HALF) // 2 // 4 * 4], "region.unreadable"),
        ("A" * (region.MAX_CHARACTERS + 4), "region.unreadable"),
        (in_base64(painted(96, 64, (0, 0, 1, 1))), "region.empty"),
    ],
)
def test_anything_else_is_refused_in_words(sent: Any, told: str) -> None:
    with pytest.raises(UserError) as refused:
        region.read(sent)
    assert refused.value.message.id == told


@pytest.mark.parametrize("way", ["3,4", " 3 , 4 ", (3, 4), [0.3, "0.4"], "3e200,4e200"])
def test_a_direction_has_length_one(way: Any) -> None:
    assert region.read_way(way) == pytest.approx((0.6, 0.8))


@pytest.mark.parametrize(
    "way", ["", "1", "1,2,3", "0,0", "nan,1", "inf,0", "a,b", None, 5, {}, (10**400, 1), "1.7e308,1.7e308"]
)
def test_what_is_no_direction_is_refused_in_words(way: Any) -> None:
    with pytest.raises(UserError) as refused:
        region.read_way(way)
    assert refused.value.message.id == "region.way"


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_a_direction_read_again_is_the_same_to_the_bit(x: float, y: float) -> None:
    if math.hypot(x, y) > 1e-3:
        way = region.read_way((x, y))
        assert region.read_way(way) == way
        assert math.hypot(*way) == pytest.approx(1)


def test_a_region_has_the_shape_of_its_photograph() -> None:
    for photograph, small in (((4000, 3000), (256, 192)), ((3000, 4001), (192, 256)), ((5000, 40), (256, 2))):
        region.check_shape(small, photograph)
    for photograph, small in (((4000, 3000), (256, 180)), ((4000, 3000), (192, 256)), ((100, 100), (100, 96))):
        with pytest.raises(UserError) as refused:
            region.check_shape(small, photograph)
        assert refused.value.message.id == "region.shape"


def test_a_region_is_cut_as_its_photograph_is() -> None:
    left = painted(200, 100, (0, 0, 100, 100))
    for fit, share in (("crop", 0.5), ("crop_left", 1.0), ("crop_right", 0.0), ("pad", 0.25)):
        assert np.asarray(region.fit_region(left, 50, 50, fit)).mean() / 255 == pytest.approx(share, abs=0.02), fit


# --- with the request ---


def asked(tmp_path: Path, **more: Any) -> GenerationRequest:
    return build_request(values(**{"model": "nano", **more}), settings_in(tmp_path)[0], to_run=False)


def test_region_and_direction_stay_with_the_request(tmp_path: Path) -> None:
    request = asked(tmp_path, region=HALF, way="0,-2")
    assert (request.region, request.way) == (HALF, (0, -1))
    assert GenerationRequest.from_json(request.to_json()) == request
    again = build_request(values_of(request), settings_in(tmp_path)[0], to_run=False)
    assert again == request
    assert same_latents(again, request)
    assert not same_latents(asked(tmp_path, seed=request.seed, way="0,-2"), request)
    assert not same_latents(asked(tmp_path, seed=request.seed, region=HALF), request)


def test_a_request_from_before_there_were_regions_is_read(tmp_path: Path) -> None:
    older = asked(tmp_path).to_json()
    del older["region"], older["way"]
    assert GenerationRequest.from_json(older) == asked(tmp_path, seed=older["seed"])
    for way in ([], [1], "abc", 5):
        with pytest.raises((TypeError, ValueError)):
            GenerationRequest.from_json({**older, "way": way})


def test_a_model_that_takes_no_region_is_told_of_and_goes_on(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)

    def told(**more: Any) -> list[str]:
        spec = next(spec for spec in SPECS.values() if not spec.takes_region)
        return [note.id for note in request_notes(asked(tmp_path, **more), settings, spec)]

    assert "request.hint_region" in told(region=HALF)
    assert "request.hint_region" in told(way="1,0")
    assert "request.hint_region" not in told()
    taking = next(spec for spec in SPECS.values() if spec.takes_region)
    notes = request_notes(asked(tmp_path, region=HALF), settings, taking)
    assert "request.hint_region" not in [note.id for note in notes]


def test_a_region_of_another_shape_is_no_job(tmp_path: Path) -> None:
    with scripted_service(tmp_path) as service:
        picture = tmp_path / "wide.png"
        Image.new("RGB", (300, 200)).save(picture)
        square = region.written(painted(64, 64, (0, 0, 32, 64)))
        with pytest.raises(UserError) as refused:
            service.submit(values(region=square), picture)
        assert refused.value.message.id == "region.shape"
        kept = service.status(service.submit(values(region=HALF, way="1,0"), picture))
        assert (kept.request.region, kept.request.way) == (HALF, (1, 0))


# --- from the command line ---


def test_any_picture_of_the_photographs_shape_is_a_region(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    photograph, mask = tmp_path / "photo.png", tmp_path / "mask.jpg"
    Image.new("RGB", (900, 600)).save(photograph)
    painted(303, 200, (0, 0, 151, 200)).convert("RGB").save(mask, quality=95)
    found = with_region({"prompt": "x", "region": str(mask)}, photograph, settings)
    assert found["prompt"] == "x"
    small = region.read(found["region"])
    assert small.size == (256, 171)
    assert np.asarray(small)[:, :120].min() > 250
    assert np.asarray(small)[:, 136:].max() < 5
    assert "region" not in with_region({"prompt": "x"}, photograph, settings)
    assert with_region({"region": "auto"}, None, settings) == {"region": "auto"}


def test_what_was_left_transparent_in_a_region_file_stands_still(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    Image.new("RGB", (300, 200)).save(tmp_path / "photo.png")
    layer = Image.new("RGBA", (300, 200))
    layer.paste((255, 255, 255, 255), (0, 0, 150, 200))
    layer.save(tmp_path / "layer.png")
    found = with_region({"region": str(tmp_path / "layer.png")}, tmp_path / "photo.png", settings)
    half = np.asarray(region.read(found["region"]))
    assert (half[:, :120].min(), half[:, 136:].max()) == (255, 0)


@pytest.mark.parametrize(
    ("size", "box", "told"),
    [((300, 300), (0, 0, 150, 300), "region.shape"), ((300, 200), (0, 0, 0, 0), "region.empty")],
)
def test_a_region_file_that_cannot_be_is_refused(
    size: tuple[int, int], box: tuple[int, int, int, int], told: str, tmp_path: Path
) -> None:
    settings, _ = settings_in(tmp_path)
    Image.new("RGB", (900, 600)).save(tmp_path / "photo.png")
    painted(*size, box).save(tmp_path / "mask.png")
    with pytest.raises(UserError) as refused:
        with_region({"region": str(tmp_path / "mask.png")}, tmp_path / "photo.png", settings)
    assert refused.value.message.id == told
