"""What the suites run: the jobs and cards of the tables, or tiny ones that prove the programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from i2v.dryrun.runner import DryRunner
from i2v.families.i2vgen_xl.spec import SPEC
from i2v.families.spec import FamilySpec
from i2v.plan import Plan
from i2v.planning.known import Found, Known, Question
from i2v.planning.machine import Machine
from i2v.planning.planner import Planned, Planner
from i2v.request import GenerationRequest
from i2v.units import GIB

MIB = 2**20


@dataclass(frozen=True)
class Scale:
    """`sizes` are (width, height, frames), smallest first; `caps` bytes of the cards; `steps` of a compared run and of
    the runs that only time; `sweep` (frames, pixels) of a chunk, 0 for all; `rungs` of the planner's ladder that are
    tried, from the fastest."""

    small: bool
    sizes: tuple[tuple[int, int, int], ...]
    caps: tuple[int, ...]
    precisions: tuple[str, ...]
    sweep: tuple[tuple[int, int], ...]
    steps: int = 10
    timed_steps: int = 4
    rungs: int = 12

    def job(self, size: tuple[int, int, int], steps: int | None = None, seed: int = 7) -> GenerationRequest:
        """The request of one size."""
        width, height, frames = size
        return GenerationRequest(
            model=SPEC.name, prompt="a rose in the wind", negative_prompt="static", width=width, height=height,
            num_frames=frames, fps=8, num_inference_steps=steps or self.steps, guidance_scale=9.0, seed=seed,
        )  # fmt: skip


FULL = Scale(
    small=False,
    sizes=((512, 512, 16), (768, 768, 16), (1024, 1024, 16)),  # longer clips are made in windows, diffusers' at once
    caps=tuple(gib * GIB for gib in (4, 6, 8, 12, 16, 24)),
    precisions=("float16", "bfloat16"),
    sweep=((0, 0), (8, 16384), (8, 4096), (4, 8192), (4, 4096), (2, 2048), (1, 1024), (1, 512), (1, 256)),
)
SMALL = Scale(
    small=True,
    sizes=((64, 64, 8),),
    caps=(2 * MIB, 5 * MIB, 12 * MIB),
    precisions=("float32",),
    sweep=((0, 0), (4, 64)),
    rungs=4,
    steps=2,
    timed_steps=2,
)


class Dry:
    """What dry runs find of a family's model: from the shipped table where it is of this code, else by running them."""

    def __init__(self, configs: Path | None, small: bool, spec: FamilySpec = SPEC) -> None:
        self._configs = configs
        self._known = Known(None) if not small else None
        self._spec = spec
        self._model = spec.name
        self._runners: dict[str, DryRunner] = {}
        self._found: dict[tuple[Question, ...], Found] = {}

    def __call__(self, job: GenerationRequest, plan: Plan) -> tuple[Found, bool]:
        questions = Question.all_of(self._model, job, plan)
        if questions not in self._found:
            known = self._known.whole(self._model, job, plan) if self._known else None
            self._found[questions] = known or self._runner(plan).run(job, plan)
        return self._found[questions], True

    def _runner(self, plan: Plan) -> DryRunner:
        if plan.precision not in self._runners:
            self._runners[plan.precision] = DryRunner(self._model, self._configs, plan.precision, plan.weights)
        return self._runners[plan.precision]

    def plan(self, machine: Machine, job: GenerationRequest, base: Plan) -> Planned:
        """The planner's choice on `machine`, with its ladder."""
        planner = Planner(machine, self, spec=self._spec, calls=self._spec.denoise_steps)
        planned = planner.plan(job, base, look_around=False)
        assert planned is not None  # a source that runs dry knows every plan
        return planned
