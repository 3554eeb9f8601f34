"""What a request is made from: read back as it was written, by this version and by those before; and refused where the
model has no place for it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from i2v.dryrun.runner import DryRunner, Following, blank_inputs
from i2v.engine.checkpoint import Identity, identity_of
from i2v.engine.encoded import EncodedCache
from i2v.engine.engine import Engine
from i2v.families import SPECS
from i2v.families.base import Inputs, Stage
from i2v.families.nano import model as nano
from i2v.families.spec import InputSlot
from i2v.messages import UserError
from i2v.models.entry import ASSETS, ModelEntry
from i2v.plan import Plan
from i2v.planning.known import Question
from i2v.request import Adapter, GenerationRequest, Input, first_image
from i2v.video.clip import read_clip
from tests.video_support import film, shown

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
        ("i2v", (FIRST, CLIP), "family.other_task_takes_video"),
        ("i2v", (FIRST, SOUND), "family.not_taken_audio"),
        ("i2v", (FIRST, replace(LAST, at=5)), "family.frame_not_taken"),
        ("v2v", (), "request.needed_video"),
    ):
        with pytest.raises(UserError) as refused:
            spec.check_inputs(task, inputs)
        assert refused.value.message.id == told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"inputs": ()}, "request.needed_image"),
        ({"inputs": (FIRST, LAST)}, "family.not_taken_last_image"),
        ({"adapters": (Adapter("style.safetensors"),)}, "family.adapters_not_taken"),
    ],
)
def test_the_engine_leaves_nothing_out_silently(monkeypatch, tmp_path, changes, told):
    monkeypatch.setitem(SPECS, "nano", replace(SPECS["nano"], lora_names=None))
    entry = ModelEntry("nano", "nano", "nano", tmp_path, None, True, 0, None)
    with pytest.raises(UserError) as refused:
        Engine().run(
            replace(REQUEST, **changes), Plan(), entry=entry, job_folder=tmp_path, emit=lambda event: None,
            cancelled=lambda: False,
        )  # fmt: skip
    assert refused.value.message.id == told
    assert refused.value.message.render()


# --- a clip, in a family that makes of it what nano makes of its first frame ---


class FromClip(nano.Nano):
    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> list[Stage]:
        assert len(inputs.clip) == request.num_frames
        stages = super().encode_stages(request, Inputs({0: inputs.clip[0]}), plan)
        return [replace(one, sees=("video",) if one.sees else ()) for one in stages]


@pytest.fixture
def from_clip(monkeypatch: pytest.MonkeyPatch) -> ModelEntry:
    def load(folder: Path, precision: torch.dtype) -> FromClip:
        model = nano.load(folder, precision)
        model.__class__ = FromClip
        return model

    spec = replace(SPECS["nano"], name="from_clip", inputs={"v2v": (InputSlot("video", None),)})
    monkeypatch.setitem(SPECS, "from_clip", spec)
    monkeypatch.setitem(sys.modules, "i2v.families.from_clip.model", SimpleNamespace(load=load))
    return ModelEntry("from_clip", "from_clip", "From a clip", ASSETS / "nano", None, True, 0, None)


def made(request: GenerationRequest, entry: ModelEntry, folder: Path) -> dict[int, str]:
    """The frames of the video that the engine makes, each as its digest."""
    video = Engine().run(
        request, Plan(), entry=entry, job_folder=folder, emit=lambda event: None, cancelled=lambda: False
    )
    return shown(video)


def test_the_engine_hands_a_family_the_clips_frames(tmp_path, from_clip):
    clip = film(tmp_path / "input_clip.mp4", "-c:v", "libx264", "-preset", "ultrafast", size="80x64")
    asked = Input("video", clip.name, at=None)
    request = replace(REQUEST, task="v2v", inputs=(asked,), fps=16, num_inference_steps=2)
    from_a_clip = made(request, from_clip, tmp_path)
    folder = tmp_path / "picture"
    folder.mkdir()
    read_clip(clip, 64, 64, 1, 16, "crop")[0].save(folder / "input.png")
    nano_entry = replace(from_clip, name="nano", family="nano")
    assert made(replace(request, task="i2v", inputs=(FIRST,)), nano_entry, folder) == from_a_clip
    with pytest.raises(UserError) as refused:
        made(replace(request, num_frames=33), from_clip, tmp_path)
    assert refused.value.message.id == "clip.too_short"


def test_what_was_made_of_other_frames_of_a_clip_is_not_taken(tmp_path):
    """The same clip gives other frames at another rate: what an encode stage made of it must be made anew."""
    request = replace(REQUEST, task="v2v", inputs=(CLIP,))
    whose = Identity("request", ("clip",), "model", "float32", "program")
    stage = Stage("clip", ("unet",), lambda *_: None, (), sees=("video",))
    EncodedCache(tmp_path, request, Plan(), whose).put(stage, {"clip": torch.ones(1)})
    assert EncodedCache(tmp_path, request, Plan(), whose).has(stage)
    for other in (replace(request, fps=request.fps + 1), replace(request, num_frames=request.num_frames + 4)):
        assert not EncodedCache(tmp_path, other, Plan(), whose).has(stage)
    assert not EncodedCache(tmp_path, request, Plan(), replace(whose, inputs=("another",))).has(stage)


def test_another_clip_is_another_run(tmp_path):
    film(tmp_path / "input_clip.mp4", "-c:v", "libx264", seconds=1)
    request = replace(REQUEST, task="v2v", inputs=(replace(CLIP, path="input_clip.mp4"),))

    def whose(request: GenerationRequest) -> Identity:
        return identity_of(request, Plan(), tmp_path, ASSETS / "nano", "nano")

    before = whose(request)
    assert whose(replace(request, inputs=(replace(request.inputs[0], strength=0.5),))) != before
    (tmp_path / "input_clip.mp4").rename(tmp_path / "elsewhere.mp4")
    moved = replace(request, inputs=(replace(request.inputs[0], path="elsewhere.mp4"),))
    assert whose(moved) == before
    film(tmp_path / "elsewhere.mp4", "-c:v", "libx264", "-vf", "negate", seconds=1)
    other = whose(moved)
    assert (other != before, replace(other, inputs=before.inputs)) == (True, before)


def test_a_dry_run_has_a_clip_of_the_requests_size():
    inputs = blank_inputs(REQUEST)
    assert {one.size for one in inputs.clip} == {(REQUEST.width, REQUEST.height)}
    assert len(inputs.clip) == REQUEST.num_frames


def test_what_one_task_encodes_serves_no_other(monkeypatch):
    encoded = []
    encode = Following.encode
    monkeypatch.setattr(Following, "encode", lambda run: encoded.append(run._request.task) or encode(run))
    runner = DryRunner("nano", None, "float32")
    for task in ("i2v", "v2v", "i2v", "v2v"):
        runner.run(replace(REQUEST, task=task), Plan(), ("decode",))
    assert encoded == ["i2v", "v2v"]


def test_each_task_of_a_model_is_planned_by_itself(monkeypatch):
    def questions(**more: object) -> list[Question]:
        spec = replace(SPECS["nano"], inputs={**SPECS["nano"].inputs, **more})
        monkeypatch.setitem(SPECS, "nano", spec)
        tasks = [replace(REQUEST, task=task) for task in sorted(spec.tasks)]
        return [one for request in tasks for one in Question.all_of("nano", request, Plan())]

    assert len(set(questions())) == 3
    assert len(set(questions(t2v=()))) == 5  # decoding is the same for both
