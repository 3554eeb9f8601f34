"""What a request is made from: read back as it was written, by this version and by those before; and refused where the
model has no place for it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from i2v.engine.engine import Engine
from i2v.families import SPECS
from i2v.families.spec import InputSlot
from i2v.messages import UserError
from i2v.models.entry import ModelEntry
from i2v.plan import Plan
from i2v.request import Adapter, GenerationRequest, Input, first_image

FIRST, LAST = Input("image", "input.png"), Input("image", "last.png", at=-1)
CLIP, SOUND = Input("video", "input.mp4", at=None, strength=0.6), Input("audio", "input.wav", at=None)
REQUEST = GenerationRequest("nano", "waves", 64, 64, 8, 12, 6, 1.5, 7, inputs=(FIRST,))
BOTH_ENDS = {"i2v": (InputSlot("image"), InputSlot("image", -1, needed=False)), "v2v": (InputSlot("video", None),)}


@pytest.mark.parametrize("inputs", [(), (FIRST,), (FIRST, LAST), (CLIP, SOUND)])
def test_a_request_is_read_back_as_it_was_written(inputs):
    request = replace(REQUEST, inputs=inputs, adapters=(Adapter("style.safetensors", 0.8, "abc"),))
    written = json.loads(json.dumps(request.to_json()))
    assert GenerationRequest.from_json(written) == request
    later = {**written, "inputs": [{**one, "of a later version": 1} for one in written["inputs"]]}
    assert GenerationRequest.from_json(later) == request


@pytest.mark.parametrize("path", ["input.png", None])
def test_the_one_picture_of_earlier_versions_is_the_first_image(path):
    written = {key: value for key, value in REQUEST.to_json().items() if key not in ("inputs", "adapters")}
    request = GenerationRequest.from_json({**written, "image_path": path})
    assert request == replace(REQUEST, inputs=first_image(path))
    assert request.image_path == path


def test_a_model_takes_what_it_has_a_place_for():
    spec = replace(SPECS["nano"], inputs=BOTH_ENDS)
    assert spec.tasks == {"i2v", "v2v"}
    for task, inputs in (("i2v", (FIRST,)), ("i2v", (LAST, FIRST)), ("v2v", (CLIP,))):
        spec.check_inputs(task, inputs)
    for task, inputs, told in (
        ("i2v", (), "request.needed_image"),
        ("i2v", (LAST,), "request.needed_image"),
        ("i2v", (FIRST, CLIP), "family.not_taken_video"),
        ("i2v", (FIRST, SOUND), "family.not_taken_audio"),
        ("i2v", (FIRST, replace(LAST, at=5)), "family.not_taken_image"),
        ("v2v", (), "request.needed_video"),
    ):
        with pytest.raises(UserError) as refused:
            spec.check_inputs(task, inputs)
        assert refused.value.message.id == told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"inputs": ()}, "request.needed_image"),
        ({"inputs": (FIRST, LAST)}, "family.not_taken_image"),
        ({"adapters": (Adapter("style.safetensors"),)}, "family.adapters_not_taken"),
    ],
)
def test_the_engine_leaves_nothing_out_silently(tmp_path, changes, told):
    entry = ModelEntry("nano", "nano", "nano", tmp_path, None, True, 0, None)
    with pytest.raises(UserError) as refused:
        Engine().run(
            replace(REQUEST, **changes), Plan(), entry=entry, job_folder=tmp_path, emit=lambda event: None,
            cancelled=lambda: False,
        )  # fmt: skip
    assert refused.value.message.id == told
    assert refused.value.message.render()
