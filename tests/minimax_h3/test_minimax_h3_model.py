"""Whole runs of MiniMax-H3 against diffusers' own blocks on the same weights and noise: pictures and sound."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import MiniMaxH3Transformer3DModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration

from i2v.engine.cancel import GenerationPaused
from i2v.events import Resumed
from i2v.families.base import Inputs
from i2v.families.minimax_h3.layout import TEXT
from i2v.families.minimax_h3.model import LATENTS, ROWS, MiniMaxH3, load
from i2v.families.minimax_h3.spec import SPEC
from i2v.families.phases import Phases
from i2v.jobs.asked.prepare import build_request
from i2v.memory.card import HostCard
from i2v.messages import UserError
from i2v.models.choose_files import choose_files
from i2v.models.mapped import mapped_components
from i2v.models.verify import index_of, verify_folder
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video.metadata import probe_video, read_metadata
from i2v.video.picture import fit_picture, load_picture
from tests.faulty_cards import FaultyInPhases
from tests.going_on import encoded, gone_on_with
from tests.hunyuan_runs import FAULTS, FAULTY_PLANS, PLANS, Runs, made_once, relative
from tests.machines import no_card, settings
from tests.minimax_h3_checkpoints import BOTH_ENDS, JOB, LAYERS, pipeline_of, stock

Theirs = Callable[[GenerationRequest], Any]


def inputs(request: GenerationRequest = JOB) -> Inputs:
    """Those of a request, as the engine reads them."""
    images = {
        one.at: fit_picture(load_picture(Path(one.path)), request.width, request.height, request.fit)
        for one in request.inputs
    }
    return Inputs(images)


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path) -> Runs:
    return Runs("minimax_h3", checkpoint, tmp_path)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> MiniMaxH3:
    return load(checkpoint, torch.float32)


@pytest.fixture(scope="module")
def theirs(pipeline: Any) -> Theirs:
    return made_once(lambda request: stock(pipeline, request, inputs(request).images))


def apart(model: MiniMaxH3, latents: Tensor, request: GenerationRequest, state: Any) -> tuple[float, float]:
    """How far latents are from diffusers', pictures and sound."""
    layout = model.layout(request)
    _, frames, sounds = layout.parted(latents)
    wanted, wanted_sound = state.get("latents"), state.get("audio_latents")
    assert (layout.as_frames(frames).shape, layout.as_sound(sounds).shape) == (wanted.shape, wanted_sound.shape)
    return relative(layout.as_frames(frames), wanted), relative(layout.as_sound(sounds), wanted_sound)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_pictures_and_sound_are_diffusers_own(run, model, theirs, plan):
    run(JOB, plan)
    assert max(apart(model, run.latents(), JOB, theirs(JOB))) < 1e-5


@pytest.mark.parametrize(
    "change",
    [
        {"task": "t2v", "inputs": ()},
        {"inputs": BOTH_ENDS.inputs},
        {"num_frames": 141, "width": 64, "height": 96, "num_inference_steps": 2},
        {"prompt": "  clouds drift \n"},
        {"task": "t2v", "inputs": (), "num_inference_steps": 1, "width": 64},
    ],
    ids=["from a sentence", "both ends", "longer", "white space", "one step"],
)
def test_every_kind_of_request_is_diffusers_own(run, model, theirs, change):
    request = replace(JOB, **change)
    run(request, Plan(chunk_tokens=33))
    assert max(apart(model, run.latents(), request, theirs(request))) < 1e-5


@pytest.mark.parametrize("frames", [124, 141])
def test_frames_and_sound_are_diffusers_own(model, theirs, frames):
    """Of tiles that overlap, and a stretch of frames at a time, where diffusers joins them."""
    request = replace(JOB, num_frames=frames)
    with torch.no_grad():
        phases = Phases(model, HostCard(), request, Plan())
        conditioning = encoded(model, request, inputs())
        *_, latents = phases.denoise(conditioning)
        heard: list = []
        made = torch.stack(list(phases.decode(conditioning, latents, hear=heard.append)))
    state = theirs(request)
    video = torch.from_numpy(state.get("videos")[0])
    assert made.shape == video.shape
    assert (made.float() / 255 - video).abs().max() <= 0.5 / 255 + 1e-5  # rounded to a byte, and to nothing else
    assert relative(torch.as_tensor(heard[0].samples), state.get("audio")[0]) < 1e-5
    assert heard[0].rate == state.get("sampling_rate") == SPEC.audio_rate


@pytest.mark.parametrize("request_", [JOB, BOTH_ENDS, replace(BOTH_ENDS, num_frames=175)], ids=["one", "two", "longer"])
def test_what_is_read_is_diffusers_own(model, theirs, request_):
    """The layers behind the one that is read are not loaded; rows of the pictures are told from those of words."""
    conditioning, state = encoded(model, request_, inputs(request_)), theirs(request_)
    words = [(conditioning[name], kind) for name, kind in ROWS if name in conditioning]
    assert relative(torch.cat([rows for rows, _ in words], dim=1), state.get("prompt_embeds")) < 1e-5
    latents = [conditioning[name] for name in LATENTS.values() if name in conditioning]
    for ours, wanted in zip(latents, state.get("condition_latents"), strict=True):
        assert relative(ours, wanted) < 1e-5
    kinds = [int(kind == TEXT) for rows, kind in words for _ in range(rows.shape[1])]
    assert state.get("text_token_tags").tolist() == kinds
    assert len(model.modules["text_encoder"].language_model.layers) == 50 < LAYERS
    places = model.layout(request_).places(len(kinds))
    assert torch.equal(places, state.get("position_ids"))


def test_the_video_has_its_sound_and_says_so(run):
    run(replace(JOB, width=64, num_inference_steps=1), Plan())
    video = run.jobs / "job" / "video.mp4"
    assert (probe_video(video).frames, probe_video(video).sound_hz) == (JOB.num_frames, SPEC.audio_rate)
    assert read_metadata(video)["sound"] == {"rate_hz": SPEC.audio_rate, "channels": 2}


def test_half_precision_is_no_further_from_float32_than_diffusers(run, model, theirs, checkpoint):
    run(JOB, Plan(precision="bfloat16", chunk_tokens=100))
    half, exact = stock(pipeline_of(checkpoint, torch.bfloat16), JOB, inputs().images), theirs(JOB)
    ours = apart(model, run.latents(), JOB, exact)
    for one, name in zip(ours, ("latents", "audio_latents"), strict=True):
        assert one < 1.2 * relative(half.get(name), exact.get(name))


def test_a_paused_run_goes_on_as_if_it_never_was(run):
    request = replace(JOB, width=64)
    run(request, Plan(), "straight")
    with pytest.raises(GenerationPaused):
        run(request, Plan(), "paused", stop_at=2)
    events = run(request, Plan(chunk_tokens=50), "paused")
    assert [event.step for event in events if isinstance(event, Resumed)] == [2]
    assert relative(run.latents("paused"), run.latents("straight")) < 1e-6


def test_it_goes_on_after_any_step(model, tmp_path):
    request = replace(JOB, width=64)
    gone_on_with(model, request, encoded(model, request, inputs(request)), tmp_path)


def test_the_pictures_stay_as_they_are(model):
    conditioning = encoded(model, BOTH_ENDS, inputs(BOTH_ENDS))
    with torch.no_grad():
        *_, latents = Phases(model, HostCard(), BOTH_ENDS, Plan()).denoise(conditioning)
    layout = model.layout(BOTH_ENDS)
    begun = model.prepare(BOTH_ENDS, Plan(), conditioning)
    assert torch.equal(layout.parted(latents)[0], layout.parted(begun)[0])


def test_steps_that_are_one_are_refused(model):
    """Of very many, the first differ by less than a number in float32 has room for."""
    with pytest.raises(UserError) as refused:
        model.prepare(replace(JOB, task="t2v", num_inference_steps=40_000_000), Plan(), {})
    assert refused.value.message.id == "models.scheduler_steps"


def test_weights_are_computed_with_where_they_lie_in_their_files(checkpoint, tmp_path):
    """Those of the published kinds, float32 among them: RAM need not be free for them."""
    folder = shutil.copytree(checkpoint, tmp_path / "half")
    kinds = {"transformer": MiniMaxH3Transformer3DModel, "text_encoder": Qwen3VLForConditionalGeneration}
    for name, cls in kinds.items():
        cls.from_pretrained(checkpoint / name, dtype=torch.bfloat16).save_pretrained(folder / name)
    modules = load(folder, torch.bfloat16).modules
    for name in kinds:
        found = {in_a_file(weight) for weight in modules[name].parameters()}
        assert found == {True}, name
    assert {weight.dtype for weight in modules["transformer"].parameters()} == {torch.float32, torch.bfloat16}


def in_a_file(tensor: Tensor) -> bool:
    """Whether it lies in a mapped file of weights, as Linux tells."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(one, 16) for one in line.split()[0].split("-"))
        if begin <= tensor.data_ptr() < end:
            return line.endswith(".safetensors")
    return False


@pytest.mark.parametrize(("others", "mapped"), [(0, True), (10, True), (11, False)])
def test_few_numbers_of_another_kind_are_mapped_as_well(tmp_path, others, mapped):
    folder = tmp_path / "transformer"
    folder.mkdir()
    tensors = {"many": torch.zeros(1000, dtype=torch.bfloat16), "few": torch.zeros(others)}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    assert ("transformer" in mapped_components(tmp_path, SPEC, "bfloat16")) == mapped
    assert "transformer" not in mapped_components(tmp_path, SPEC, "float32")


def test_a_preview_is_a_small_clip(model):
    request = replace(JOB, task="t2v")
    assert model.preview(model.prepare(request, Plan(), {}), {}).shape == (37, 4, 20, 3)


def test_a_checkpoint_in_the_real_layout_is_taken(checkpoint):
    verify_folder(checkpoint, SPEC)
    assert not (checkpoint / "model_index.json").exists()
    assert index_of(checkpoint) == checkpoint / "modular_model_index.json"
    assert "modular_model_index.json" in choose_files(["modular_model_index.json", "vae/config.json"], SPEC)


def test_memory_that_runs_out_in_every_phase_heals(checkpoint, tmp_path):
    run, plan = Runs("minimax_h3", checkpoint, tmp_path), FAULTY_PLANS["streamed"]
    card = FaultyInPhases(lambda: run.events, FAULTS)
    assert run.heal(replace(JOB, width=64), plan, "faulty", card) == list(FAULTS)
    assert card.left == []


def test_another_rate_is_refused():
    values = {"prompt": "a lake", "model": "MiniMax-H3", "task": "t2v"}
    assert build_request(values, settings(no_card())).fps == 24
    with pytest.raises(UserError) as refused:
        build_request({**values, "fps": 25}, settings(no_card()))
    assert refused.value.message.id == "family.only_fps"
