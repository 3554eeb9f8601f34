"""Transformers whose weights are a GGUF file: diffusers' own results, streamed as others are, foretold to the byte, and
refused in words where a file cannot be used."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    GGUFQuantizationConfig,
    HunyuanVideoTransformer3DModel,
    LTXVideoTransformer3DModel,
    WanTransformer3DModel,
)
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from diffusers.quantizers.gguf.utils import (
    GGML_QUANT_SIZES,
    GGUFParameter,
    dequantize_functions,
    dequantize_gguf_tensor,
)
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from safetensors.torch import save_file
from torch import Tensor, nn

from i2v.dryrun.runner import DryRunner
from i2v.dryrun.training import DryTrainer
from i2v.engine.weights import find_tensors
from i2v.families import SPECS
from i2v.jobs.asked.plans import model_key
from i2v.memory.gguf_layers import GgufLinear, dequantised, row_bytes, store_as
from i2v.messages import UserError
from i2v.models import gguf_files
from i2v.models.catalogue import find_model
from i2v.models.parts_digest import model_digest
from i2v.models.verify import verify_folder
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.machine import Machine
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
from i2v.request import Adapter, GenerationRequest
from i2v.training.request import Stepped, TrainingPlan
from i2v.units import GIB
from tests import hunyuan_runs, ltx_checkpoints, wan_checkpoints
from tests.gguf_checkpoints import (
    NAME,
    build_hunyuan_gguf,
    build_ltx_gguf,
    build_wan_gguf,
    wan_name,
    wan_transformer,
    write_gguf,
)
from tests.hunyuan_checkpoints import build_hunyuan
from tests.hunyuan_runs import PLANS, Runs, relative
from tests.lora_files import MUSUBI, named, pairs
from tests.machines import no_card, settings
from tests.planning.phase_peaks import run as run_phases
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow
from tests.training.small_trainings import make_clips, small_request, trained

WAN_JOB = replace(wan_checkpoints.JOB, num_inference_steps=2, num_frames=5)
HUNYUAN_JOB = replace(hunyuan_runs.JOB, width=96, height=96, num_frames=5, num_inference_steps=2)
LTX_JOB = replace(
    ltx_checkpoints.JOB, task="t2v", inputs=(), width=128, height=128, num_frames=9, num_inference_steps=2
)
CLASSES = {
    "wan": WanTransformer3DModel, "hunyuan_video": HunyuanVideoTransformer3DModel, "ltx": LTXVideoTransformer3DModel
}  # fmt: skip
JOBS = {"wan": WAN_JOB, "hunyuan_video": HUNYUAN_JOB, "ltx": LTX_JOB}


def ltx_latents(pipeline: DiffusionPipeline, request: GenerationRequest, _output: str) -> Tensor:
    return ltx_checkpoints.stock_latents(pipeline, request)


STOCK = {"wan": wan_checkpoints.stock, "hunyuan_video": hunyuan_runs.stock, "ltx": ltx_latents}
KINDS = [kind for kind in dequantize_functions if kind != GGMLQuantizationType.BF16]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    models = tmp_path_factory.mktemp("models")
    wan_checkpoints.build_wan(models / "wan-whole")
    build_hunyuan(models / "hunyuan-whole")
    ltx_checkpoints.build_ltx(models / "ltx-whole", "0.9.0")
    return {
        "wan": build_wan_gguf(models / "wan"), "hunyuan_video": build_hunyuan_gguf(models / "hunyuan"),
        "ltx": build_ltx_gguf(models / "ltx"),
    }  # fmt: skip


def pipeline_of(folder: Path, cls: type, dtype: torch.dtype = torch.float32) -> DiffusionPipeline:
    transformer = cls.from_single_file(
        str(folder / "transformer" / NAME), config=str(folder / "transformer"), dtype=dtype,
        quantization_config=GGUFQuantizationConfig(compute_dtype=dtype),
    )  # fmt: skip
    whole = folder.with_name(f"{folder.name}-whole")  # the same but for the transformer, which it needs to have
    pipeline = DiffusionPipeline.from_pretrained(whole, local_files_only=True, dtype=dtype)
    pipeline.register_modules(transformer=transformer)
    pipeline.set_progress_bar_config(disable=True)
    if isinstance(transformer, HunyuanVideoTransformer3DModel):
        pipeline.vae.enable_tiling()
    return pipeline


@pytest.mark.parametrize("family", CLASSES)
def test_latents_are_those_of_diffusers_with_the_same_file(folders, tmp_path, family):
    folder, job = folders[family], JOBS[family]
    theirs = STOCK[family](pipeline_of(folder, CLASSES[family]), job, "latent")
    run = Runs(family, folder, tmp_path)
    for name in ("resident", "chunks", "streamed", "sparing RAM"):
        run(job, PLANS[name], name.split()[0])
        assert relative(run.latents(name.split()[0]), theirs) < 1e-5, name


def test_a_lora_goes_on_it_as_by_diffusers(folders, tmp_path):
    width = 4 * 24
    shapes = {f"blocks.{number}.self_attn.{name}": (width, width) for number in range(4) for name in "qkvo"}
    file = tmp_path / "one.safetensors"
    save_file({name: one.contiguous() for name, one in named(pairs(shapes, 4, 5), MUSUBI).items()}, file)
    run = Runs("wan", folders["wan"], tmp_path)
    run(WAN_JOB, Plan(), "plain")
    run(replace(WAN_JOB, adapters=(Adapter(str(file), 0.7),)), PLANS["streamed"], "with")
    run(WAN_JOB, Plan(), "again")
    pipeline = pipeline_of(folders["wan"], WanTransformer3DModel)
    pipeline.load_lora_weights(file, adapter_name="one")
    pipeline.set_adapters(["one"], [0.7])
    wanted = wan_checkpoints.stock(pipeline, WAN_JOB, "latent")
    assert relative(run.latents("with"), wanted) < 1e-5
    assert relative(run.latents("plain"), wanted) > 1e-2
    assert torch.equal(run.latents("again"), run.latents("plain"))


@pytest.mark.parametrize("family", CLASSES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_read_is_what_a_dry_run_has(folders, family, precision):
    folder, dtype = folders[family], getattr(torch, precision)
    real = importlib.import_module(f"i2v.families.{family}.model").load(folder, dtype).modules["transformer"]
    dry = DryRunner(family, folder, precision).model.modules["transformer"]
    kinds = {name: (tuple(one.shape), one.dtype) for name, one in real.state_dict().items()}
    assert {name: (tuple(one.shape), one.dtype) for name, one in dry.state_dict().items()} == kinds
    stored = {name: layer.kind for name, layer in real.named_modules() if isinstance(layer, GgufLinear)}
    assert stored == {name: layer.kind for name, layer in dry.named_modules() if isinstance(layer, GgufLinear)}
    assert len(stored) > 10
    assert {type(one) for one in real.parameters()} == {nn.Parameter}  # no class of tensors of its own


@pytest.mark.parametrize("tokens", [0, 40])
@pytest.mark.parametrize("family", CLASSES)
def test_it_is_foretold_to_the_byte(folders, family, tokens):
    folder, plan = folders[family], Plan(places=everywhere("staged"), chunk_tokens=tokens)
    long = "water ripples and a lake " * 110
    job = replace(JOBS[family], prompt=long, negative_prompt=long, num_inference_steps=3)
    model = importlib.import_module(f"i2v.families.{family}.model").load(folder, torch.float32)
    model.modules.load(model.modules)
    dry = DryRunner(family, folder, "float32")
    found = [dry.phases(job, plan) for _ in range(2)]
    assert_same_bytes(found[0], follow(model, job, plan, steps=SPECS[family].steps_until_alike))
    assert bytes_of(found[1]) == bytes_of(found[0])


def test_streamed_is_resident_and_holds_what_was_said(folders):
    folder = folders["wan"]
    model = importlib.import_module("i2v.families.wan.model").load(folder, torch.float32)
    model.modules.load(model.modules)
    long = "water ripples and a lake " * 110
    job = replace(WAN_JOB, prompt=long, negative_prompt=long, num_inference_steps=3)
    dry = DryRunner("wan", folder, "float32")
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True))
    wanted, _ = run_phases(model, job, Plan(device="simulated", chunk_tokens=40))
    places = (*everywhere("streamed"), Placement("transformer", "streamed", 0, 2))
    plan = Plan(device="simulated", places=places, chunk_tokens=40)
    latents, peaks = run_phases(model, job, plan)
    assert torch.equal(latents, wanted)
    assert peaks == {phase.name: phase.peak_bytes for phase in planner.forced(job, plan).phases}


def test_a_lora_is_trained_on_it_and_the_peak_foretold(folders, tmp_path):
    clips = make_clips(tmp_path / "clips")
    for caption in clips.glob("*.txt"):  # as long as a dry run has them
        caption.write_text("water " * 600, encoding="utf-8")
    (tmp_path / "work").mkdir()
    asked = small_request("hunyuan_video", folders["hunyuan_video"], clips, tmp_path / "work")
    plan = TrainingPlan(device="simulated", micro_batch=1, memory_cap_bytes=2**34)
    dry = DryTrainer("hunyuan_video", folders["hunyuan_video"], plan.precision)
    found = dry.run(asked, plan, (asked.width, asked.height, asked.num_frames))
    steps = [event for event in trained(asked, plan) if isinstance(event, Stepped)]
    assert steps[-1].peak_bytes == found.peak_bytes
    assert Path(asked.file).is_file()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_widened_as_by_diffusers_and_as_by_gguf(kind):
    """Blocks of any bytes whose scales, in half precision, are numbers: all of a kind's bits are used."""
    numbers, size = GGML_QUANT_SIZES[kind]
    draw = np.random.default_rng(int(kind))
    rows = draw.integers(0, 256, (6, 3 * size), dtype=np.uint8)
    blocks = rows.reshape(-1, size)
    for place in SCALES[kind.name]:
        blocks[:, place : place + 2] = draw.uniform(0.01, 0.5, len(blocks)).astype(np.float16)[:, None].view(np.uint8)
    layer = nn.Linear(3 * numbers, 6, bias=True).requires_grad_(False)
    store_as(layer, torch.from_numpy(rows), kind)
    assert rows.shape[1] == row_bytes(3 * numbers, kind)
    theirs = dequantize_gguf_tensor(GGUFParameter(torch.from_numpy(rows), quant_type=kind))
    assert torch.equal(dequantised(layer.weight, kind), theirs)
    exact = torch.from_numpy(dequantize(rows, kind))
    assert relative(theirs, exact) < 2e-3  # diffusers' are in half precision
    given = torch.randn(5, 3 * numbers)
    assert torch.equal(layer(given), nn.functional.linear(given, theirs.to(given.dtype), layer.bias))


SCALES = {
    **dict.fromkeys(("Q8_0", "Q4_0", "Q5_0", "IQ4_NL", "IQ4_XS"), (0,)), "Q4_1": (0, 2), "Q5_1": (0, 2),
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
}  # fmt: skip
"""Where in a block the scales in half precision stand."""


def test_a_folder_is_verified_found_and_told_apart_by_its_file(folders, tmp_path):
    folder = shutil.copytree(folders["wan"], tmp_path / "wan")
    verify_folder(folder, SPECS["wan"])
    assert not [name for component, name in find_tensors(folder, SPECS["wan"], "float32") if component == "transformer"]
    entry = find_model(str(folder), settings(no_card()))
    assert (entry.family, entry.problem, entry.present) == ("wan", None, True)
    before = model_key(entry), model_digest(folder)
    write_gguf(folder / "transformer" / NAME, wan_transformer(), {"blocks": GGMLQuantizationType.Q8_0}, wan_name)
    after = model_key(entry), model_digest(folder)
    assert all(one != other for one, other in zip(before, after, strict=True))


def refusal(folder: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        looked_at(folder)
    assert str(caught.value)
    return caught.value


def looked_at(folder: Path) -> None:
    verify_folder(folder, SPECS["wan"])
    find_tensors(folder, SPECS["wan"], "float32")


def test_files_that_cannot_be_used_are_refused_in_words(folders, tmp_path, monkeypatch):
    folder = shutil.copytree(folders["wan"], tmp_path / "wan")
    file = folder / "transformer" / NAME
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert refusal(folder).message.id == "models.gguf_damaged"
    file.write_bytes(b"no such file at all" * 10)
    assert refusal(folder).message.id == "models.gguf_damaged"
    file.write_bytes(whole)
    (folder / "transformer" / "other.gguf").write_bytes(whole)
    assert refusal(folder).message.id == "models.gguf_several"
    (folder / "transformer" / "other.gguf").unlink()

    network = wan_transformer()
    write_gguf(file, network, {"patch": GGMLQuantizationType.Q8_0, "norm": GGMLQuantizationType.Q8_0}, wan_name)
    verify_folder(folder, SPECS["wan"])  # nothing of that is a matrix
    larger = WanTransformer3DModel.from_config({**network.config, "ffn_dim": 224})
    write_gguf(file, larger, {"blocks": GGMLQuantizationType.Q8_0}, wan_name)
    assert refusal(folder).message.id == "models.tensor_shape"
    fewer = WanTransformer3DModel.from_config({**network.config, "num_layers": 3})
    write_gguf(file, fewer, {"blocks": GGMLQuantizationType.Q8_0}, wan_name)
    assert refusal(folder).message.id == "models.tensor_missing"

    monkeypatch.setattr(gguf_files, "find_spec", lambda name: None)
    assert "requirements-quantised.txt" in str(refusal(folder))


def test_a_file_beside_safetensors_changes_nothing_and_other_families_take_none(folders, tmp_path):
    folder = wan_checkpoints.build_wan(tmp_path / "wan")
    before = {name: place for (_, name), place in find_tensors(folder, SPECS["wan"], "float32").items()}
    (folder / "transformer" / "stray.gguf").write_bytes(b"anything")
    verify_folder(folder, SPECS["wan"])
    assert {name: place for (_, name), place in find_tensors(folder, SPECS["wan"], "float32").items()} == before
    able = {name for name, spec in SPECS.items() if spec.gguf_components}
    for name in able:
        configs = importlib.import_module(f"i2v.families.{name}.skeleton").CONFIGS
        for component in SPECS[name].gguf_components:
            config = json.loads((configs / component / "config.json").read_text())
            assert config["_class_name"] in SINGLE_FILE_LOADABLE_CLASSES
    others = ("ltx2", "hunyuan_video_15", "hunyuan_video_15_i2v", "hunyuan_video_15_distilled")
    assert able == {name for name in SPECS if name.startswith(("wan", "hunyuan", "ltx")) and name not in others}
