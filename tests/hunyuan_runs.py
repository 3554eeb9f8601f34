"""Whole runs of small HunyuanVideo checkpoints, under every kind of plan and with faults; and how far results are
apart, from diffusers' own too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from i2v.engine.checkpoint import LATENTS
from i2v.engine.engine import Engine
from i2v.engine.orders import Orders
from i2v.events import Event, Healed
from i2v.families.hunyuan_video.model import flow_shift
from i2v.memory.card import Card, HostCard, SimulatedCard
from i2v.models.entry import ModelEntry
from i2v.plan import Placement, Plan, everywhere
from i2v.request import GenerationRequest
from i2v.units import GIB
from tests.faulty_cards import Faulty, FaultyInPhases, steps
from tests.latents import load_latents

JOB = GenerationRequest(
    model="small", task="t2v", prompt="the camera zooms in and pans left over a lake with hills at dusk",
    width=128, height=160, num_frames=9, fps=24, num_inference_steps=3, guidance_scale=6.0, seed=7,
)  # fmt: skip
SIMULATED = Plan(device="simulated", memory_cap_bytes=GIB)
PLANS = {
    "resident": Plan(),
    "chunks": Plan(chunk_tokens=33),
    "staged": replace(SIMULATED, places=everywhere("staged"), chunk_tokens=100),
    "streamed": replace(SIMULATED, places=everywhere("streamed"), chunk_tokens=64),
    "sparing RAM": replace(SIMULATED, places=everywhere("streamed"), keep_loaded=False),
}
KEPT_BYTES = 100_000  # about two of the small transformer's four blocks
FAULTY_PLANS = {
    "resident": SIMULATED,
    "staged": replace(SIMULATED, places=everywhere("staged")),
    "streamed": replace(
        SIMULATED, places=(*everywhere("streamed"), Placement("transformer", "streamed", KEPT_BYTES, 2))
    ),
}
FAULTS = (("encode", 0), ("denoise", 0), ("denoise", 1), ("denoise", 2), ("decode", 3))
"""Every phase and step of a run of three steps, with the steps that are finished by then."""

Theirs = Callable[[GenerationRequest], Tensor]


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours.float() - theirs.float()).norm() / theirs.float().norm()).item()


def pipeline_of(cls: type[DiffusionPipeline], checkpoint: Path) -> DiffusionPipeline:
    """diffusers' own, on the same weights, with the windows of its autoencoder."""
    pipeline = cls.from_pretrained(checkpoint, local_files_only=True, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.enable_tiling()
    return pipeline


def stock(pipeline: DiffusionPipeline, request: GenerationRequest, output: str, **more: object) -> Tensor:
    """What diffusers' pipeline makes of `request`, as its `output_type` says; `more`: what it is given beside."""
    if request.scheduler is None:
        pipeline.scheduler.set_shift(flow_shift(request, 7.0))
    asked = {
        "prompt": request.prompt, "width": request.width, "height": request.height, "num_frames": request.num_frames,
        "num_inference_steps": request.num_inference_steps, "guidance_scale": request.guidance_scale,
        "negative_prompt": request.negative_prompt, "true_cfg_scale": request.true_guidance_scale,
        "generator": torch.Generator().manual_seed(request.seed), "output_type": output,
    }  # fmt: skip
    return pipeline(**{**asked, **more}).frames


def made_once(make: Theirs) -> Theirs:
    """`make`, which keeps what it has made of each request."""
    made: dict[GenerationRequest, Tensor] = {}

    def theirs(request: GenerationRequest) -> Tensor:
        if request not in made:
            made[request] = make(request)
        return made[request]

    return theirs


class Runs:
    """Runs of a small checkpoint, each in a folder of its own; `events`: of the newest."""

    def __init__(self, family: str, checkpoint: Path, jobs: Path) -> None:
        self.entry = ModelEntry("small", family, "small", checkpoint, None, True, 0, None)
        self.jobs = jobs
        self.events: list[Event] = []
        self.engine = Engine(self._card_for)
        self._card: Card | None = None
        self._unharmed: dict[GenerationRequest, tuple[Tensor, int]] = {}

    def __call__(
        self, request: GenerationRequest, plan: Plan, name: str = "job", card: Card | None = None, **orders
    ) -> list[Event]:
        """On `card`, or the one that `plan` asks for."""
        (self.jobs / name).mkdir(exist_ok=True)
        self._card, self.events = card, []
        self.engine.run(
            request, plan, entry=self.entry, job_folder=self.jobs / name, emit=lambda event: self.events.append(event),
            cancelled=lambda: False, orders=Orders(**orders),
        )  # fmt: skip
        assert (self.jobs / name / "video.mp4").is_file()
        return self.events

    def _card_for(self, plan: Plan) -> Card:
        return self._card or (HostCard() if plan.device == "cpu" else SimulatedCard(GIB))

    def latents(self, name: str = "job") -> Tensor:
        return load_latents(self.jobs / name / LATENTS)

    @property
    def plans(self) -> list[Plan]:
        """Those that the newest run has stepped down to."""
        return [Plan.from_json(event.plan) for event in self.events if isinstance(event, Healed)]

    def unharmed(self, request: GenerationRequest) -> tuple[Tensor, int]:
        """Of a run on a simulated card without any fault: its latents, and how often it allocated."""
        if request not in self._unharmed:
            card, name = Faulty(), f"unharmed-{len(self._unharmed)}"
            self(request, SIMULATED, name, card)
            self._unharmed[request] = self.latents(name), card.allocations
        return self._unharmed[request]

    def heal(
        self, request: GenerationRequest, plan: Plan, name: str, card: Faulty | FaultyInPhases, within: float = 1e-6
    ) -> list[tuple[str, int]]:
        """Have a run on a card that fails come to the latents of an unharmed one, with no finished step made again.
        `within`: how far they are apart where every plan sums up in an order of its own.
        Where it healed: the phases, and the steps that were finished by then."""
        wanted, _ = self.unharmed(request)
        self(request, plan, name, card)
        assert relative(self.latents(name), wanted) < within
        assert steps(self.events) == [*range(1, request.num_inference_steps + 1)]
        return [(event.phase, event.step) for event in self.events if isinstance(event, Healed)]
