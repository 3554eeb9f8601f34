"""Memory that runs out in a run of HunyuanVideo, at any phase and step: the run goes on to the same latents. And a card
of just the smallest memory that was predicted."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from i2v.engine.checkpoint import LATENTS
from i2v.engine.engine import Engine
from i2v.engine.healing import lowest
from i2v.engine.orders import Orders
from i2v.events import Event, Healed
from i2v.families import SPECS
from i2v.memory.card import Card, SimulatedCard
from i2v.models.entry import ModelEntry
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.planner import Planner, candidates
from i2v.request import GenerationRequest, Input
from i2v.units import GIB
from tests.faulty_cards import Faulty, FaultyInPhases, steps
from tests.latents import load_latents
from tests.planning.support import dry_source, simulated_machine
from tests.video_support import film

SPEC = SPECS["hunyuan_video"]
SIMULATED = Plan(device="simulated", memory_cap_bytes=GIB)
KEPT_BYTES = 100_000  # about two of the small transformer's four blocks
PLANS = {
    "resident": SIMULATED,
    "staged": replace(SIMULATED, places=everywhere("staged")),
    "streamed": replace(
        SIMULATED, places=(*everywhere("streamed"), Placement("transformer", "streamed", KEPT_BYTES, 2))
    ),
}
FAULTS = (("encode", 0), ("denoise", 0), ("denoise", 1), ("denoise", 2), ("decode", 3))


class Runs:
    """Runs of the small checkpoint, each in a folder of its own, on the card that is given; `events`: of the newest."""

    def __init__(self, checkpoint: Path, jobs: Path) -> None:
        self.entry = ModelEntry("small", SPEC.name, "small", checkpoint, None, True, 0, None)
        self.jobs = jobs
        self.card: Card = SimulatedCard(GIB)
        self.events: list[Event] = []
        self.engine = Engine(lambda plan: self.card)

    def __call__(
        self, request: GenerationRequest, plan: Plan, name: str, card: Card | None = None, *, heals: bool = True
    ) -> Tensor:
        """The latents."""
        (self.jobs / name).mkdir()
        self.card, self.events = card or SimulatedCard(GIB), []
        self.engine.run(
            request, plan, entry=self.entry, job_folder=self.jobs / name, emit=lambda event: self.events.append(event),
            cancelled=lambda: False, orders=Orders(heals=heals),
        )  # fmt: skip
        assert (self.jobs / name / "video.mp4").is_file()
        return load_latents(self.jobs / name / LATENTS)


@pytest.fixture(scope="module")
def run(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    jobs = tmp_path_factory.mktemp("faults")
    film(jobs / "clip.mp4", rate="24", seconds=1)
    return Runs(checkpoint, jobs)


@pytest.fixture(params=["t2v", "v2v"])
def asked(request: pytest.FixtureRequest, job: GenerationRequest) -> GenerationRequest:
    if request.param == "t2v":
        return job
    return replace(job, task="v2v", inputs=(Input("video", "../clip.mp4", None, 0.6),))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A folder's, for this test alone."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)


@pytest.fixture(scope="module")
def kept() -> dict[str, tuple[Tensor, int]]:
    """What `unharmed` found, by task, for all tests of this file."""
    return {}


@pytest.fixture
def unharmed(run: Runs, asked: GenerationRequest, kept: dict[str, tuple[Tensor, int]]) -> tuple[Tensor, int]:
    """Of a run without any fault: its latents, and how often it allocated."""
    if asked.task not in kept:
        card = Faulty()
        kept[asked.task] = run(asked, SIMULATED, f"unharmed-{asked.task}", card), card.allocations
    return kept[asked.task]


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


def plans_of(events: list[Event]) -> list[Plan]:
    return [Plan.from_json(event.plan) for event in events if isinstance(event, Healed)]


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_faults_in_every_phase_and_step_of_one_run_heal(run, asked, unharmed, plan, name):
    card = FaultyInPhases(lambda: run.events, FAULTS)
    latents = run(asked, plan, name, card)
    assert card.left == []
    assert relative(latents, unharmed[0]) < 1e-6
    assert [(event.phase, event.step) for event in run.events if isinstance(event, Healed)] == list(FAULTS)
    assert steps(run.events) == [1, 2, 3]  # no finished step is made again
    plans = [plan, *plans_of(run.events)]
    assert all(lowest(before, after) == after != before for before, after in itertools.pairwise(plans))


def test_a_fault_at_any_moment_heals(run, asked, unharmed, name):
    """Allocations of the whole run fail one in turn, from the first to the last."""
    whole, allocations = unharmed
    phases = set()
    for at in (*range(0, allocations, allocations // 4), allocations - 1):
        assert relative(run(asked, SIMULATED, f"{name}-{at}", Faulty(at)), whole) < 1e-6
        healed = [event.phase for event in run.events if isinstance(event, Healed)]
        assert len(healed) == 1
        assert steps(run.events) == [1, 2, 3]
        phases |= {*healed}
    assert phases == {"encode", "denoise", "decode"}


def test_denoising_goes_down_to_the_fewest_tokens_and_to_blocks_that_stream(run, asked, unharmed, name):
    """Every rung of the family is taken, one fault after the other; where none is left, the run ends."""
    faults = [("denoise", 1)] * len(list(candidates(SIMULATED, (), SPEC.rungs)))
    with pytest.raises(torch.OutOfMemoryError):
        run(asked, SIMULATED, f"{name}-all", FaultyInPhases(lambda: run.events, faults))
    taken = plans_of(run.events)
    assert [*dict.fromkeys(plan.chunk_tokens for plan in taken)] == [
        *dict.fromkeys(rung["chunk_tokens"] for rung in SPEC.rungs)
    ]
    assert {plan.offload for plan in taken} == {"staged", "streamed"}
    latents = run(asked, SIMULATED, f"{name}-last", FaultyInPhases(lambda: run.events, faults[: len(taken)]))
    assert plans_of(run.events) == taken
    assert taken[-1].place("transformer").kept_bytes == 0
    assert relative(latents, unharmed[0]) < 1e-6
    assert steps(run.events) == [1, 2, 3]


def test_a_card_of_the_smallest_predicted_peak_runs_it_and_one_byte_less_does_not(checkpoint, run, asked, name):
    # As long a sentence as there can be: that is what a dry run has. Chunks of which this size has several.
    asked = replace(asked, prompt="water ripples and a lake " * 100, num_inference_steps=2)
    spec = replace(SPEC, rungs=({"chunk_tokens": 0}, {"chunk_tokens": 64}))
    planner = Planner(simulated_machine(GIB), dry_source(SPEC.name, checkpoint), spec=spec)
    base = Plan(device="simulated")
    smallest = min(planner.forced(asked, plan).peak.peak_bytes for plan in candidates(base, (), spec.rungs))
    for card_bytes, fits in ((smallest, True), (smallest - 1, False)):
        planned = replace(planner, machine=simulated_machine(card_bytes)).plan(asked, base, look_around=False)
        assert (planned.prediction.verdict != "wont_fit") == fits
        with nullcontext() if fits else pytest.raises(torch.OutOfMemoryError):
            run(asked, planned.plan, f"{name}-{card_bytes}", SimulatedCard(card_bytes), heals=False)
