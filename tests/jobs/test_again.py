"""Doing a job again: the same values, and what is finished carried over without taking room."""

from __future__ import annotations

import json
import os
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2v.family_settings import FAMILY_SETTINGS
from i2v.jobs.asked.prepare import REQUEST_KEYS, build_request
from i2v.jobs.job.again import (
    CHECKPOINT,
    LATENTS,
    carry_over,
    kept_step,
    same_latents,
    shows_alike,
    to_decode,
    values_of,
)
from i2v.request import Adapter, Finish, GenerationRequest, Input, PlanOptions, first_image
from tests.jobs_support import settings_in, small_picture

REQUEST = GenerationRequest(
    model="nano", prompt="zoom in", negative_prompt="static", width=128, height=96, num_frames=8, fps=7,
    num_inference_steps=5, guidance_scale=1.5, seed=9, inputs=first_image("input.png"), fit="pad",
    finish=Finish(deflicker=True, interpolate=4),
    options=PlanOptions(cfg="split", chunk_frames=2),
)  # fmt: skip


def test_the_values_make_the_same_request_again(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    values = values_of(REQUEST)
    assert set(values) <= set(REQUEST_KEYS)
    again = build_request({**values, "image": str(small_picture(tmp_path))}, settings)
    assert replace(again, inputs=first_image("input.png")) == REQUEST


def test_the_values_have_what_only_some_models_take() -> None:
    assert not set(FAMILY_SETTINGS) & set(values_of(REQUEST))
    given = {name: one.low for name, one in FAMILY_SETTINGS.items()}
    assert given.items() <= values_of(replace(REQUEST, **given)).items()


def test_the_values_of_a_video_from_a_clip_have_its_strength() -> None:
    clip = Input("video", "input_clip.mp4", at=None, strength=0.3)
    assert values_of(replace(REQUEST, inputs=(clip,)))["strength"] == 0.3
    assert "strength" not in values_of(REQUEST)


@given(st.sampled_from([field.name for field in fields(GenerationRequest)]))
def test_anything_but_how_it_is_run_changes_the_latents(name: str) -> None:
    value = getattr(REQUEST, name)
    others = {
        "options": PlanOptions(), "inputs": first_image("other.png"), "adapters": (Adapter("style.safetensors"),),
        "fit": "crop", "task": "t2v", "finish": Finish(deflicker=True),
    }  # fmt: skip
    other = others.get(name, value + 1 if isinstance(value, int | float) else f"{value}x")
    assert same_latents(REQUEST, replace(REQUEST, **{name: other})) == (name in ("options", "inputs", "finish"))


def test_other_inputs_change_the_latents() -> None:
    """Where a file lies does not, what it is used for does."""
    last = (*REQUEST.inputs, Input("image", "last.png", at=-1))
    weaker = (replace(REQUEST.inputs[0], strength=0.5),)
    assert not any(same_latents(REQUEST, replace(REQUEST, inputs=one)) for one in (last, weaker, ()))


@pytest.mark.parametrize("linkable", [True, False])
def test_what_is_carried_over_outlives_its_source(
    tmp_path: Path, linkable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "one", tmp_path / "two"
    source.mkdir()
    target.mkdir()
    if not linkable:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    assert to_decode(source) is None
    (source / CHECKPOINT).write_bytes(b"halfway")
    assert to_decode(source) == source / CHECKPOINT
    (source / LATENTS).write_bytes(b"finished")
    assert to_decode(source) == source / LATENTS
    carry_over(source, target, "generate")
    for path in source.iterdir():
        path.unlink()
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        CHECKPOINT: b"halfway",
        LATENTS: b"finished",
    }


def test_decoding_again_takes_the_latents_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "one", tmp_path / "two"
    source.mkdir()
    target.mkdir()
    for name in (CHECKPOINT, LATENTS):
        (source / name).write_bytes(b"bytes")
    carry_over(source, target, "decode")
    assert [path.name for path in target.iterdir()] == [LATENTS]


def test_the_step_to_go_on_from_is_read_without_torch(tmp_path: Path) -> None:
    def written(header: bytes) -> int | None:
        (tmp_path / CHECKPOINT).write_bytes(len(header).to_bytes(8, "little") + header + b"tensors")
        return kept_step(tmp_path)

    assert kept_step(tmp_path) is None
    told = json.dumps({"__metadata__": {"progress": json.dumps({"step": 12})}, "latents": {}})
    assert written(told.encode()) == 12
    for broken in (b"", b"{}", b"[]", b"\xff", told.encode()[:-3], told.replace("12", "[]").encode()):
        assert written(broken) is None


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        ({"finish": Finish(deflicker=True)}, True),
        ({"finish": Finish(interpolate=2)}, False),
        ({"finish": Finish(upscale=2)}, False),
        ({"width": 72}, False),
        ({"fps": 9}, False),
    ],
    ids=["deflicker", "interpolate", "upscale", "width", "fps"],
)
def test_videos_stand_one_after_the_other_where_finished_ones_are_alike(change, alike) -> None:
    request = GenerationRequest("nano", "", 64, 64, 8, 8, 1, 1.0, 0)
    assert shows_alike(request, replace(request, **change)) == alike
