"""Whole runs of HunyuanVideo-1.5 against diffusers' own pipelines on the same weights and noise."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from i2v.families import SPECS
from i2v.families.hunyuan_video_15.model import load
from i2v.memory.card import HostCard
from i2v.messages import UserError
from i2v.models.catalogue import find_model
from i2v.models.verify import has_marks, verify_folder
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video.picture import fit_picture, load_picture
from tests.hunyuan_runs import PLANS, Runs, relative
from tests.hunyuan_video_15_checkpoints import JOB, PICTURE, build_hunyuan_15, pipeline_of, stock
from tests.test_models import Places

FROM_PICTURE = replace(JOB, task="i2v", inputs=(PICTURE,), num_frames=5)


@pytest.fixture
def plain(from_sentence, tmp_path) -> Runs:
    return Runs("hunyuan_video_15", from_sentence, tmp_path)


@pytest.fixture
def with_picture(from_picture, tmp_path) -> Runs:
    return Runs("hunyuan_video_15_i2v", from_picture, tmp_path)


def picture_of(request: GenerationRequest):
    return fit_picture(load_picture(Path(request.inputs[0].path)), request.width, request.height, request.fit)


@pytest.fixture(scope="module")
def wanted(sentence_pipeline) -> torch.Tensor:
    return stock(sentence_pipeline, JOB)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_latents_are_diffusers_own(plain, wanted, plan):
    plain(JOB, plan)
    assert relative(plain.latents(), wanted) < 1e-5


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "clouds drift"},
        {"prompt": "", "negative_prompt": ""},
        {"guidance_scale": 1.0},
        {"guidance_rescale": 0.7},
        {"prompt": 'a sign says "' + "water ripples " * 30 + '" ' + "and a lake " * 400},
    ],
    ids=["no glyphs", "empty", "unguided", "rescaled", "too long"],
)
def test_every_kind_of_request_is_diffusers_own(plain, sentence_pipeline, change):
    request = replace(JOB, num_inference_steps=2, num_frames=5, **change)
    plain(request, Plan(chunk_tokens=100))
    assert relative(plain.latents(), stock(sentence_pipeline, request)) < 1e-5


@pytest.mark.parametrize("prompt", [JOB.prompt, "clouds drift"], ids=["glyphs", "no glyphs"])
def test_a_video_from_a_picture_is_diffusers_own(with_picture, picture_pipeline, prompt):
    request = replace(FROM_PICTURE, prompt=prompt)
    with_picture(request, Plan(chunk_tokens=64, decode_rows=4))
    assert relative(with_picture.latents(), stock(picture_pipeline, request, picture=picture_of(request))) < 1e-5


def test_few_steps_are_diffusers_own(tmp_path):
    """The transformer looks ahead: it is told the noise of the next step too, of the last one that there is none."""
    folder = build_hunyuan_15(tmp_path / "few", "i2v", use_meanflow=True)
    runs = Runs("hunyuan_video_15_distilled", folder, tmp_path)
    request = replace(FROM_PICTURE, guidance_scale=1.0)
    runs(request, Plan(chunk_tokens=64))
    wanted = stock(pipeline_of(folder), request, picture=picture_of(request))
    assert relative(runs.latents(), wanted) < 1e-5
    assert find_model(str(folder), Places(tmp_path)).family == "hunyuan_video_15_distilled"
    verify_folder(folder, SPECS["hunyuan_video_15_distilled"])
    assert not has_marks(folder, SPECS["hunyuan_video_15_i2v"])


def test_checkpoints_are_told_apart_and_have_all_files(from_sentence, from_picture):
    for folder, family in ((from_sentence, "hunyuan_video_15"), (from_picture, "hunyuan_video_15_i2v")):
        assert find_model(str(folder), Places(folder.parent)).family == family
        verify_folder(folder, SPECS[family])
        of_class = [spec for spec in SPECS.values() if spec.class_name == SPECS[family].class_name]
        assert [spec.name for spec in of_class if has_marks(folder, spec)] == [family]


def test_frames_are_diffusers_own(plain, sentence_pipeline):
    request = replace(JOB, num_frames=5, num_inference_steps=1)
    plain(request, Plan())
    video = torch.from_numpy(stock(sentence_pipeline, request, "np")[0])
    model = load(plain.entry.folder, torch.float32)
    frames = torch.stack(list(model.decode(HostCard(), {}, plain.latents(), request, Plan(decode_rows=3))))
    assert frames.shape == video.shape == (5, 160, 128, 3)
    assert (frames.float() / 255 - video).abs().max() < 1e-2
    assert model.preview(plain.latents(), {}).shape == (2, 10, 8, 3)


def test_half_precision_is_no_further_from_float32_than_diffusers(plain, wanted, from_sentence):
    plain(JOB, Plan(precision="bfloat16", chunk_tokens=100))
    theirs = stock(pipeline_of(from_sentence).to(torch.bfloat16), JOB)
    assert relative(plain.latents(), wanted) <= 1.1 * relative(theirs, wanted)


@pytest.mark.parametrize(
    ("change", "told"),
    [({"_class_name": "AdaptiveProjectedGuidance"}, "AdaptiveProjectedGuidance"), ({"stop": 0.5}, "stop=0.5")],
)
def test_a_way_of_guiding_that_is_not_known_is_refused(from_sentence, tmp_path, change, told):
    folder = shutil.copytree(from_sentence, tmp_path / "copy")
    path = folder / "guider" / "guider_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match="is guided by") as refused:
        load(folder, torch.float32)
    assert told in str(refused.value)


def test_how_strong_guidance_is_a_request_says(from_sentence, tmp_path):
    folder = shutil.copytree(from_sentence, tmp_path / "copy")
    path = folder / "guider" / "guider_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "guidance_scale": 1.0}))
    load(folder, torch.float32)
