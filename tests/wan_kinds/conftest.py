"""Small checkpoints of the other kinds of Wan, diffusers' pipelines on the same weights, and photographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.wan import pipeline_wan_i2v
from diffusers.utils import is_ftfy_available
from torch import Tensor

from i2v.families import SPECS
from i2v.request import GenerationRequest, Input
from i2v.video.picture import fit_picture, load_picture
from tests.hunyuan_runs import Runs, Theirs, made_once
from tests.photos import photograph
from tests.wan_checkpoints import JOB, KINDS, Kind, build, stock


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    if not is_ftfy_available():  # diffusers' pipeline needs it for every sentence; ours have nothing to mend
        pipeline_wan_i2v.basic_clean = str


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of each kind."""
    return cache(lambda kind: build(tmp_path_factory.mktemp("models") / kind, KINDS[kind]))


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def family(kind: str) -> str:
    return KINDS[kind].family


@pytest.fixture(scope="session")
def checkpoint(kind: str, folders: Callable[[str], Path]) -> Path:
    return folders(kind)


@pytest.fixture(scope="session")
def pipeline(kind: str, checkpoint: Path) -> DiffusionPipeline:
    return pipeline_of(KINDS[kind], checkpoint)


@pytest.fixture(scope="session")
def theirs(pipeline: DiffusionPipeline) -> Theirs:
    return made_once(lambda request: made_by(pipeline, request, "latent"))


@pytest.fixture
def run(family: str, checkpoint: Path, tmp_path: Path) -> Runs:
    return Runs(family, checkpoint, tmp_path)


@pytest.fixture(scope="session")
def job(kind: str) -> GenerationRequest:
    return job_of(KINDS[kind])


def pipeline_of(kind: Kind, checkpoint: Path, dtype: torch.dtype | None = None) -> DiffusionPipeline:
    made = kind.pipeline.from_pretrained(checkpoint, local_files_only=True, use_safetensors=True, torch_dtype=dtype)
    made.set_progress_bar_config(disable=True)
    return made


def job_of(kind: Kind) -> GenerationRequest:
    """A small job with all that its task takes."""
    spec = SPECS[kind.family]
    task = kind.task or spec.usual_task
    pictures = {0: "cheetah.jpg", -1: "tower.jpg"}
    inputs = tuple(Input("image", str(photograph(pictures[slot.at])), slot.at) for slot in spec.inputs[task])
    return replace(JOB, task=task, inputs=inputs)


def pictures_of(request: GenerationRequest) -> dict[int, object]:
    """The request's pictures at its size, by the frames that they become."""
    size = request.width, request.height
    return {one.at: fit_picture(load_picture(Path(one.path)), *size, request.fit) for one in request.inputs}


def made_by(pipeline: DiffusionPipeline, request: GenerationRequest, output: str) -> Tensor:
    """What diffusers' pipeline makes of it."""
    names = {0: "image", -1: "last_image"}
    more: dict[str, object] = {names[at]: one for at, one in pictures_of(request).items()}
    if pipeline.config.boundary_ratio is not None and not request.inputs:
        more["guidance_scale_2"] = 1 + (request.guidance_scale - 1) * 2 / 3  # 3 where it is 4, as published
    return stock(pipeline, request, output, **more)
