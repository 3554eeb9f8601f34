"""Training: the same gradients whatever is computed again, exactly on after any end, and a LoRA that others load."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from i2v.families import SPECS
from i2v.families.adapters import ChosenAdapter, put_on, take_off
from i2v.families.trainable import Draw
from i2v.messages import UserError
from i2v.models.adapters import check_adapter, list_adapters, numbers_in
from i2v.training import step as steps
from i2v.training.lora import put_fresh, save_lora, trained_parameters
from i2v.training.losses import FILE as LOSSES
from i2v.training.losses import read_losses
from i2v.training.request import Begun, LaidDown, Stepped, Trained, TrainingPlan, Validated
from i2v.training.train import _Training
from i2v.video.clip import read_clip
from tests.training.small_trainings import FAMILIES, FPS, FRAMES, SIDE, losses, small_request, trained

ModelOf = Callable[[str], Path]


def gradients_of(monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> dict[str, Tensor]:
    """Of the LoRA's matrices in the only step of `run`, before the optimiser has them."""
    seen: dict[str, Tensor] = {}

    def clip(parameters: object, *_: object, **__: object) -> None:
        seen.update({str(number): one.grad.clone() for number, one in enumerate(parameters)})

    with monkeypatch.context() as patch:
        patch.setattr(steps.nn.utils, "clip_grad_norm_", clip)
        run()
    return seen


def same_matrices(one: str, other: str) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_that_are_computed_again_give_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch, model_of: ModelOf, clips: Path, tmp_path: Path, family: str
) -> None:
    def run(name: str, recomputed: tuple[int, ...]) -> dict[str, Tensor]:
        request = small_request(family, model_of(family), clips, tmp_path / name, steps=1, consistency=0.5)
        plan = TrainingPlan(micro_batch=2, recomputed=recomputed)
        return gradients_of(monkeypatch, lambda: trained(request, plan))

    plain, again = run("plain", ()), run("again", (0, 1, 3))
    assert plain.keys() == again.keys()
    assert any(one.any() for one in plain.values())
    for name, one in plain.items():
        assert (one - again[name]).norm() <= 1e-6 * one.norm(), name


def test_examples_that_go_one_at_a_time_give_the_same_step(
    monkeypatch: pytest.MonkeyPatch, model_of: ModelOf, clips: Path, tmp_path: Path
) -> None:
    request = small_request("i2vgen_xl", model_of("i2vgen_xl"), clips, tmp_path, steps=1)
    found = [
        gradients_of(
            monkeypatch,
            lambda size=size: trained(replace(request, work=str(tmp_path / str(size))), TrainingPlan(micro_batch=size)),
        )
        for size in (1, 2)
    ]
    for name, one in found[0].items():
        assert (one - found[1][name]).norm() <= 1e-4 * one.norm() + 1e-8, name


def test_a_training_that_was_laid_down_goes_on_as_if_it_had_not_been(
    model_of: ModelOf, clips: Path, tmp_path: Path
) -> None:
    unbroken = small_request("hunyuan_video", model_of("hunyuan_video"), clips, tmp_path / "unbroken", steps=6)
    whole = trained(unbroken)
    assert [type(one) for one in whole[-2:]] == [Stepped, Trained]
    broken = replace(unbroken, work=str(tmp_path / "broken"), file=str(tmp_path / "broken/made.safetensors"))
    first = trained(broken, until=2)
    assert first[-1] == LaidDown(2, 6)
    second = trained(broken, until=1)
    third = trained(broken)
    assert [one.step for one in third if isinstance(one, Begun)] == [3]
    assert losses(first) + losses(second) + losses(third) == losses(whole)
    assert [(row.step, row.loss) for row in read_losses(Path(broken.work))] == losses(whole)
    assert same_matrices(broken.file, unbroken.file)


@pytest.mark.drives
def test_killed_at_any_moment_it_goes_on_and_the_losses_are_those_of_an_unbroken_run(
    model_of: ModelOf, clips: Path, tmp_path: Path
) -> None:
    unbroken = small_request("hunyuan_video", model_of("hunyuan_video"), clips, tmp_path / "unbroken", steps=8)
    wanted = losses(trained(unbroken))
    killed = replace(unbroken, work=str(tmp_path / "killed"), file=str(tmp_path / "made.safetensors"), save_seconds=0.0)
    asked = json.dumps({"request": killed.to_json(), "plan": TrainingPlan(micro_batch=2).to_json()}) + "\n"
    for until in (3, None):
        process = subprocess.Popen(
            [sys.executable, "-m", "i2v.worker.training"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(asked)
        process.stdin.flush()
        for line in process.stdout:
            if until is not None and json.loads(line).get("step", 0) >= until and json.loads(line)["type"] == "stepped":
                process.send_signal(signal.SIGKILL)
        process.stdin.close()
        code = process.wait()
        assert code == (-signal.SIGKILL if until else 0)
    assert [(row.step, row.loss) for row in read_losses(Path(killed.work))] == wanted
    assert same_matrices(killed.file, unbroken.file)


def test_progress_of_another_training_is_not_gone_on_with(model_of: ModelOf, clips: Path, tmp_path: Path) -> None:
    request = small_request("hunyuan_video", model_of("hunyuan_video"), clips, tmp_path, steps=2)
    trained(request, until=1)
    before = (tmp_path / LOSSES).read_bytes()
    with pytest.raises(UserError) as refused:
        trained(replace(request, rank=3))
    assert refused.value.message.id == "training.other_training"
    assert (tmp_path / LOSSES).read_bytes() == before


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, model_of: ModelOf, clips: Path, tmp_path_factory: pytest.TempPathFactory):
    """Family, model and LoRA."""
    work, family = tmp_path_factory.mktemp("made"), request.param
    asked = small_request(family, model_of(family), clips, work, trigger="sks")
    trained(replace(asked, file=str(work / "loras/sks.safetensors")))
    return family, model_of(family), work / "loras/sks.safetensors"


def network_of(family: str, folder: Path) -> nn.Module:
    model = importlib.import_module(f"i2v.families.{family}.model").load(folder, torch.float32)
    return model.modules[next(iter(model.denoise_stages.values()))[0]]


def outputs(network: nn.Module, family: str) -> Tensor:
    """Of the network for made-up inputs."""
    drawn = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=drawn)

    config = network.config
    with torch.no_grad():
        match family:
            case "nano":
                return network(draw(1, config.in_channels, 2, 8, 8), 500, draw(1, 48, 128), timestep_cond=draw(1, 128))[
                    0
                ]
            case "i2vgen_xl":
                return network(
                    draw(1, 4, 2, 8, 8), 500, fps=torch.tensor([8]), image_latents=draw(1, 4, 2, 8, 8),
                    image_embeddings=draw(1, 1, config.cross_attention_dim),
                    encoder_hidden_states=draw(1, 77, config.cross_attention_dim), return_dict=False,
                )[0]  # fmt: skip
        return network(
            hidden_states=draw(1, config.in_channels, 2, 8, 8), timestep=torch.tensor([500]),
            encoder_hidden_states=draw(1, 9, config.text_embed_dim), encoder_attention_mask=torch.ones(1, 9),
            pooled_projections=draw(1, config.pooled_projection_dim),
            guidance=torch.tensor([1000.0]) if config.guidance_embeds else None, return_dict=False,
        )[0]  # fmt: skip


def test_the_lora_is_on_the_shelf_for_its_family_and_no_other(made: tuple[str, Path, Path]) -> None:
    family, _, file = made
    check_adapter(file, SPECS[family])
    (listed,) = list_adapters(file.parents[1])
    assert (listed.name, listed.problem) == ("sks", None)
    alike = ("hunyuan_video", "hunyuan_video_i2v", "framepack", "framepack_f1")  # of the same layers
    assert listed.families == (alike if family in alike else (family,))
    with safe_open(file, framework="pt") as opened:
        told = opened.metadata()
        numbers = sum(opened.get_tensor(name).numel() for name in opened.keys())  # noqa: SIM118
    assert (told["i2v.family"], told["i2v.rank"], told["i2v.clips"]) == (family, "2", "2")
    assert told["modelspec.trigger_phrase"] == "sks"
    assert json.loads(told["i2v.captions"]) == ["sks, a square goes left", "sks, a square goes right"]
    assert numbers_in(file, SPECS[family].lora_names) == numbers


def test_the_engine_and_diffusers_compute_the_same_with_it_and_nothing_at_weight_0(
    made: tuple[str, Path, Path],
) -> None:
    family, folder, file = made
    network = network_of(family, folder)
    plain = outputs(network, family)
    found = {}
    for weight in (0.0, 0.5, 1.0):
        put_on(network, [ChosenAdapter(file, weight)], SPECS[family].lora_names, torch.float32)
        found[weight] = outputs(network, family)
    assert torch.equal(found[0.0], plain)
    assert not torch.allclose(found[1.0], plain, atol=1e-5)
    take_off(network)
    component = "transformer" if family.startswith("hunyuan") else "unet"
    network.load_lora_adapter(file.parent, prefix=component, weight_name=file.name, adapter_name="theirs")
    network.set_adapters("theirs", 0.5)
    assert torch.allclose(outputs(network, family), found[0.5], atol=1e-6)


def test_what_is_saved_computes_what_was_trained(model_of: ModelOf, tmp_path: Path) -> None:
    """The network as it is while it is trained, against the file put on a fresh one."""
    family = "hunyuan_video"
    trainer = importlib.import_module(f"i2v.families.{family}.training")
    network = network_of(family, model_of(family))
    put_fresh(network, trainer.TARGETS, rank=3, seed=5)
    assert torch.equal(outputs(network, family), outputs(network_of(family, model_of(family)), family))
    matrices = trained_parameters(network)
    drawn = torch.Generator().manual_seed(1)
    for matrix in matrices.values():
        matrix.data.copy_(torch.randn(matrix.shape, generator=drawn) / 4)
    wanted, file = outputs(network, family), tmp_path / "made.safetensors"
    save_lora(file, matrices, "transformer", {"of": ["it"]}, torch.float32)
    fresh = network_of(family, model_of(family))
    put_on(fresh, [ChosenAdapter(file, 1.0)], SPECS[family].lora_names, torch.float32)
    assert torch.allclose(outputs(fresh, family), wanted, atol=1e-5)
    take_off(network)
    assert torch.equal(outputs(network, family), outputs(network_of(family, model_of(family)), family))


def test_the_frame_that_a_picture_is_not_counts_alone(model_of: ModelOf) -> None:
    """Whatever the network says of the first latent frame, HunyuanVideo I2V learns nothing from it; and it is given
    that frame as it is."""
    load = importlib.import_module("i2v.families.hunyuan_video_i2v.model").load
    model = load(model_of("hunyuan_video_i2v"), torch.float32)
    trainer = importlib.import_module("i2v.families.hunyuan_video_i2v.training").trainer(model)
    latents, given = torch.randn(1, 4, 3, 4, 4), []
    example = {"latents": latents, "prompt": torch.randn(1, 5, 8), "prompt_pooled": torch.randn(1, 8)}
    draw = Draw(torch.randn(latents.shape), torch.tensor([0.5]), torch.zeros(1))

    class Says(nn.Module):
        config: ClassVar = {"guidance_embeds": False}
        first = 0.0

        def forward(self, hidden_states: Tensor, **_: object) -> tuple[Tensor]:
            given.append(hidden_states)
            said = torch.zeros_like(hidden_states)
            said[:, :, 0] = self.first
            return (said,)

    network = Says()
    one = trainer.loss(network, [example], draw, 0.5)
    network.first = 7.0
    assert torch.equal(trainer.loss(network, [example], draw, 0.5), one)
    assert torch.equal(given[0][:, :, 0], latents[:, :, 0])
    assert not torch.equal(given[0][:, :, 1], latents[:, :, 1])


def test_half_precision_trains_with_a_scaler_and_its_lora_stays_float32(
    monkeypatch: pytest.MonkeyPatch, model_of: ModelOf, clips: Path, tmp_path: Path
) -> None:
    seen = set()
    save = _Training._save

    def spy(self: _Training, stepper: steps.Stepper, step: int) -> None:
        seen.update({(one.dtype, stepper.scaler.is_enabled()) for one in stepper.parameters.values()})
        save(self, stepper, step)

    monkeypatch.setattr(_Training, "_save", spy)
    for precision, scaled in (("bfloat16", False), ("float16", True)):
        work = tmp_path / precision
        request = small_request("hunyuan_video", model_of("hunyuan_video"), clips, work, steps=1)
        told = trained(request, TrainingPlan(micro_batch=1, precision=precision))
        assert isinstance(told[-1], Trained)
        assert seen == {(torch.float32, scaled)}
        seen.clear()
        with safe_open(request.file, framework="pt") as opened:
            assert {opened.get_tensor(name).dtype for name in opened.keys()} == {getattr(torch, precision)}  # noqa: SIM118


def test_a_clip_made_on_the_way_shows_what_was_learned_and_changes_nothing(
    model_of: ModelOf, clips: Path, tmp_path: Path
) -> None:
    family, plan = "hunyuan_video_i2v", TrainingPlan(device="simulated", micro_batch=2, memory_cap_bytes=2**32)
    plain = small_request(family, model_of(family), clips, tmp_path / "plain", steps=2)
    shown = replace(plain, work=str(tmp_path / "shown"), validate_steps=1)
    told, without = trained(shown, plan), trained(plain, plan)
    assert losses(told) == losses(without)
    peaks = [[one.peak_bytes for one in run if isinstance(one, Stepped)] for run in (told, without)]
    assert peaks[0] == peaks[1]
    films = [Path(one.file) for one in told if isinstance(one, Validated)]
    assert [one.name for one in films] == ["step_000001.mp4", "step_000002.mp4"]
    frames = [read_clip(one, SIDE, SIDE, FRAMES, FPS, "crop") for one in films]
    assert all(len(one) == FRAMES for one in frames)
    assert frames[0][-1].tobytes() != frames[1][-1].tobytes()
