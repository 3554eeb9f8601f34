"""The search: of the plans that give the same picture, the fastest that fits; its ladder; and what to do when none
does: what would fit, or what a lossy policy lets go.

Plans stand on a ladder from the fastest to the smallest. Each rung down holds less in the phase that holds most, or
the same; `source` says what a rung's dry run finds (from the table, the cache, or by running it now).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product

from i2v.families import SPECS
from i2v.families.scheduler_choices import SCHEDULERS
from i2v.families.spec import UNET_RUNGS, FamilySpec
from i2v.models.weight_files import Reading
from i2v.plan import OFFLOADS, Placement, Plan, Policy, Precision, Prediction, Weights, everywhere
from i2v.planning.cost import PRECISION_BYTES, predict
from i2v.planning.known import BlockBytes, Found, Known, Question, engine_phase, joined
from i2v.planning.ledger import NO_CORRECTION, Correction
from i2v.planning.machine import Machine
from i2v.planning.pipeline import stays
from i2v.request import GenerationRequest

_IN_RUNGS = dict.fromkeys(name for spec in SPECS.values() for rung in spec.rungs for name in rung)
PLANNED = (*_IN_RUNGS, "offload", "vae_window")
"""What the planner decides where it is left to it: every family's knobs, by `offload` the placements, and under a lossy
policy the window of the autoencoder."""
KEPT_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Of the memory that is left for blocks of a network that streams, how much they are given: the first where that fits,
the others to step down to when memory runs out."""
LOSSY_WEIGHTS: tuple[Weights, ...] = ("int8", "float8")
"""How a lossy policy may store the denoiser's weights, in the order in which they are tried: both weigh the same, and
int8 errs a third as much (python -m bench.eight_bits)."""
LEAST_SHARE = {"balanced": 0.5, "smallest": 0.0}  # of the frames that a lossy policy must leave
SMALLER_BOTH = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
"""How far down the sizes and lengths to propose a job that is smaller in both is looked for."""
SMALLER = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25)  # of each side, when looking for a size that fits

Rungs = Sequence[Mapping[str, int | str]]
Source = Callable[[GenerationRequest, Plan], tuple[Found, bool] | None]
"""What a dry run of this finds, and whether exactly this one was run; None where nothing is known."""


@dataclass(frozen=True)
class Considered:
    """One plan of the search."""

    plan: Plan
    prediction: Prediction


@dataclass(frozen=True)
class Planned:
    """The chosen plan, the rungs below it, all that was looked at, and settings that fit where this does not."""

    request: GenerationRequest
    plan: Plan
    prediction: Prediction
    ladder: tuple[Considered, ...]
    considered: tuple[Considered, ...]
    nearest: tuple[GenerationRequest, ...] = ()
    asked: GenerationRequest | None = None
    """What was asked for, where the policy allowed to make less of it: `request` then is what will be made."""
    guided: bool = False
    """Whether each step calls the network a second time, without the prompt."""
    window_psnr_db: float | None = None
    """How near the plan's window comes to the autoencoder's own; None where that is it, or nobody has measured."""
    windows: int = 1
    """How many each step makes, one after the other, of a clip that is too long to be made at once."""
    window_frames: int = 0


def known_source(known: Known, model: str) -> Source:
    """What is known already of every phase: exactly, or as the bound of the next larger job."""

    def look(request: GenerationRequest, plan: Plan) -> tuple[Found, bool] | None:
        exact, parts = True, []
        for question in Question.all_of(model, request, plan):
            found = known.get(question)
            exact = exact and found is not None
            found = found or known.bound(question, SPECS[question.family].bound_slack)
            if found is None:
                return None
            parts.append(found)
        return joined(parts, SPECS[question.family].shares(request.num_frames)), exact

    return look


def with_adapters(source: Source, numbers: int) -> Source:
    """`source` with LoRAs of so many numbers on what denoises: in the plan's precision, however its weights are
    stored."""

    def look(request: GenerationRequest, plan: Plan) -> tuple[Found, bool] | None:
        known = source(request, plan)
        if known is None:
            return None
        return known[0].with_adapters(numbers * PRECISION_BYTES[plan.precision]), known[1]

    return look if numbers else source


def with_scheduler(source: Source, spec: FamilySpec) -> Source:
    """`source` with what a request's scheduler keeps on the card from step to step: dry runs know the checkpoint's own
    alone. In single precision, which some compute in whatever the network does. Of a clip that is made in windows it
    lies on the host."""

    def look(request: GenerationRequest, plan: Plan) -> tuple[Found, bool] | None:
        known = source(request, plan)
        on_host = spec.longer is not None and spec.longer.is_long(request.num_frames)
        if known is None or request.scheduler is None or on_host:
            return known
        numbers = spec.latent_numbers(request.width, request.height, request.num_frames)
        return known[0].with_held(SCHEDULERS[request.scheduler].keeps * numbers * PRECISION_BYTES["float32"]), known[1]

    return look


@dataclass(frozen=True)
class Planner:
    """Plans for one model on one machine. `download_bytes` have to come to disk first. Other sizes and lengths than
    were asked for obey `spec`, the rules of the model's family; without it none are proposed. `mapped` tells which
    components' weights lie in files in a precision, `readings` what loading reads of them then, and `calls` how often,
    in so many steps, the network of each part of denoising is called."""

    machine: Machine
    source: Source
    correction: Correction = NO_CORRECTION
    download_bytes: int = 0
    spec: FamilySpec | None = None
    mapped: Callable[[Precision], frozenset[str]] = lambda precision: frozenset()
    calls: Callable[[int], Mapping[str, int]] = lambda steps: {"denoise": steps}
    readings: Callable[[Precision], Mapping[str, Reading]] = lambda precision: {}

    @property
    def rungs(self) -> Rungs:
        """What the family may do in parts, from the fastest down."""
        return UNET_RUNGS if self.spec is None else self.spec.rungs

    def plan(
        self, request: GenerationRequest, base: Plan, fixed: Collection[str] = (), *, look_around: bool = True
    ) -> Planned | None:
        """The fastest plan that fits `request`, else the smallest there is, with what would fit instead. Decisions
        named in `fixed` stay as in `base`. None where the source knows nothing of this job."""
        considered = tuple(self._consider(request, candidates(base, fixed, self.rungs)))
        if not considered:
            return None
        planned = self._planned(request, considered)
        if look_around and planned.prediction.verdict == "wont_fit":
            return replace(planned, nearest=tuple(self._nearest(request, base, fixed)))
        return planned

    def give_up(self, planned: Planned, base: Plan, fixed: Collection[str], policy: Policy) -> Planned:
        """`planned`, or where it does not fit, what `policy` allows to give up: the autoencoder's own window, then
        precision, then frames."""
        return self.give_up_frames(self.give_up_precision(planned, base, fixed, policy), base, fixed, policy)

    def give_up_precision(
        self, planned: Planned, base: Plan, fixed: Collection[str], policy: Policy, *, exactly: bool = False
    ) -> Planned:
        """`planned`, or where it does not fit and `policy` allows it, the fastest plan that does in another window of
        the autoencoder, with weights in eight bits, or with both; no longer lossless. `exactly` searches as
        `plan_exactly` does."""
        if planned.prediction.verdict != "wont_fit" or policy == "lossless":
            return planned
        request, considered = planned.request, planned.considered
        for weights, window in self._ways_to_lose(base, fixed):
            if window != base.vae_window and not self._window_may_help(considered, weights):
                continue
            lossy, start = (replace(stored(one, weights), vae_window=window) for one in (base, planned.plan))
            if exactly:
                other = self.plan_exactly(request, lossy, fixed, start)
            else:
                other = self.plan(request, lossy, fixed, look_around=False)
            if other is None:
                continue
            considered = (*considered, *other.considered)
            if other.prediction.verdict != "wont_fit":
                return replace(other, considered=considered)
        return planned

    def _ways_to_lose(self, base: Plan, fixed: Collection[str]) -> Iterator[tuple[Weights, str]]:
        """How weights may be stored and which windows may be taken, from what changes least: another window changes
        nothing of what is denoised."""
        windows = [base.vae_window]
        if self.spec is not None and self.spec.windows is not None and "vae_window" not in fixed:
            windows += [one for one in self.spec.windows.others if one != base.vae_window]
        ways = product(dict.fromkeys((base.weights, *LOSSY_WEIGHTS)), windows)
        return (way for way in ways if way != (base.weights, base.vae_window))

    def _window_may_help(self, considered: Collection[Considered], weights: Weights) -> bool:
        """Whether there is room for one of those plans in all phases in which the autoencoder does not work."""
        assert self.spec is not None
        changed = {phase for phase, knobs in self.spec.knobs.items() if "vae_window" in knobs}

        def has_room(prediction: Prediction) -> bool:
            others = (phase for phase in prediction.phases if engine_phase(phase.name) not in changed)
            return all(phase.peak_bytes <= prediction.budget_bytes for phase in others)

        return any(one.plan.weights == weights and has_room(one.prediction) for one in considered)

    def give_up_frames(self, planned: Planned, base: Plan, fixed: Collection[str], policy: Policy) -> Planned:
        """`planned`, or where it does not fit and `policy` allows it, the most frames that do, with whole weights where
        they still fit; no longer lossless."""
        least = LEAST_SHARE.get(policy)
        if planned.prediction.verdict != "wont_fit" or least is None:
            return planned
        for job in self._shorter(planned.request):
            if job.num_frames < least * planned.request.num_frames:
                break
            other = self.plan(job, base, fixed, look_around=False)
            if other is None:
                continue
            other = self.give_up_precision(other, base, fixed, policy)
            if other.prediction.verdict != "wont_fit":
                return replace(other, plan=replace(other.plan, lossless=False), asked=planned.request)
        return planned

    def plan_exactly(
        self, request: GenerationRequest, base: Plan, fixed: Collection[str] = (), start: Plan | None = None
    ) -> Planned:
        """As `plan`, with a source that runs whatever it is asked dry and takes seconds for it: from the rung of
        `start` up while a faster one fits, or down until one does."""
        rungs = _by_rung(candidates(base, fixed, self.rungs))
        looked: dict[int, tuple[Considered, ...]] = {}

        def fits(index: int) -> bool:
            looked[index] = tuple(self._consider(request, iter(rungs[index])))
            return any(one.prediction.verdict == "fits" for one in looked[index])

        here = next((number for number, plans in enumerate(rungs) if start in plans), None)
        if here is None:
            # The first that fits; every rung below it fits too.
            bisect_left(range(len(rungs)), True, key=fits)
        elif fits(here):
            while here > 0 and fits(here - 1):
                here -= 1
        else:
            while here < len(rungs) - 1 and not fits(here + 1):
                here += 1
        considered = tuple(one for index in sorted(looked) for one in looked[index])
        return self._planned(request, considered)

    def _planned(self, request: GenerationRequest, considered: tuple[Considered, ...]) -> Planned:
        best = choose(considered)
        guided = self.spec is not None and self.spec.is_guided(request)
        psnr_db = self.spec.window_psnr_db(best.plan.vae_window) if self.spec is not None else None
        longer = None if self.spec is None else self.spec.longer
        windows = longer.windows(request.num_frames) if longer else ()
        return Planned(
            request, best.plan, best.prediction, _below(considered, best), considered,
            guided=guided, window_psnr_db=psnr_db,
            windows=len(windows) or 1, window_frames=longer.native_frames if longer else 0,
        )  # fmt: skip

    def forced(self, request: GenerationRequest, plan: Plan) -> Prediction | None:
        """What exactly this plan would hold and take."""
        found = self.source(request, plan)
        return None if found is None else self._predict(request, plan, *found)

    def _consider(self, request: GenerationRequest, plans: Iterator[Plan]) -> Iterator[Considered]:
        for rung in _by_rung(plans):
            found = self.source(request, rung[0])  # where weights are changes nothing of a dry run
            if found is None:
                continue
            for plan in rung:
                for placed in self._filled(request, plan, *found):
                    prediction = self._predict(request, placed, *found)
                    yield Considered(placed, prediction)
                    if prediction.verdict != "fits":
                        sparing = ((one, self._predict(request, one, *found)) for one in self._sparing_ram(placed))
                        yield from (Considered(one, less) for one, less in sparing if _ram(less) < _ram(prediction))

    def _sparing_ram(self, plan: Plan) -> Iterator[Plan]:
        """`plan` with components that leave RAM with their phase; none where they would leave the card with it, on
        which they are to stay. For a processor also with weights that the system reads from their files as they are
        needed, and keeps as far as there is room."""
        if plan.offload != "resident" or self.machine.device == "cpu":
            yield replace(plan, keep_loaded=False)
        if self.machine.device == "cpu" and plan.offload != "streamed":
            from_files = replace(plan, places=everywhere("streamed"))
            yield from (from_files, replace(from_files, keep_loaded=False))

    def _filled(self, request: GenerationRequest, plan: Plan, found: Found, exact: bool) -> Iterator[Plan]:
        """`plan`; where it streams, with as many blocks of each network kept as there is room for in the phases that
        need it, and with fewer."""
        if not self._streams(plan, found):
            return
        if plan.offload != "streamed" or self.machine.device == "cpu":
            yield plan
            return
        least = self._predict(request, plan, found, exact)
        free = least.budget_bytes - least.margin_bytes
        room: dict[str, int] = {}
        for run, phase in zip(found.phases, least.phases, strict=True):
            for name in run.components:
                if name in found.blocks:
                    room[name] = min(room.get(name, free), free - phase.peak_bytes)
        seen = set()
        for share in KEPT_SHARES:
            kept = {name: _kept_bytes(found.blocks[name], share * left) for name, left in room.items()}
            placed = tuple(Placement(name, "streamed", size) for name, size in sorted(kept.items()))
            filled = replace(plan, places=(*plan.places, *placed))
            if filled.places not in seen:
                seen.add(filled.places)
                yield filled

    def _streams(self, plan: Plan, found: Found) -> bool:
        """Whether the model and the machine can do what the plan says of blocks that stream, if it says anything."""
        return plan.offload != "streamed" or bool(found.blocks) or self.machine.device == "cpu"

    def _predict(self, request: GenerationRequest, plan: Plan, found: Found, exact: bool) -> Prediction:
        return predict(
            found, request, plan, self.machine,
            exact=exact, download_bytes=self.download_bytes, correction=self.correction,
            mapped=self.mapped(plan.precision), calls=self.calls(request.num_inference_steps),
            sections=self.spec.sections(request.num_frames) if self.spec else 1,
            readings=self.readings(plan.precision),
        )  # fmt: skip

    def _nearest(self, request: GenerationRequest, base: Plan, fixed: Collection[str]) -> Iterator[GenerationRequest]:
        """The most frames at this size, and the largest size with these frames, that fit; where neither does, the most
        pixels over all frames that do."""
        fits = self._fits_at_least(base, fixed)

        def first(jobs: Iterator[GenerationRequest]) -> GenerationRequest | None:
            ordered = list(jobs)
            if not ordered or not fits(ordered[-1]):
                return None
            return next(filter(fits, ordered[:-1]), ordered[-1])

        nearest = [first(jobs) for jobs in (self._shorter(request), self._smaller(request))]
        if not any(nearest):
            both = (first(self._shorter(smaller)) for smaller in self._smaller(request))
            nearest = [max(filter(None, both), key=pixels_of, default=None)]
        yield from filter(None, nearest)

    def near_exactly(
        self, request: GenerationRequest, base: Plan, fixed: Collection[str] = ()
    ) -> GenerationRequest | None:
        """A job with a smaller picture and fewer frames that fits, with a source as in `plan_exactly`, which is asked
        for few of those that there are; None where none does."""
        sizes, lengths = list(self._smaller(request)), list(self._shorter(request))
        jobs: dict[GenerationRequest, None] = {}
        for share in SMALLER_BOTH:
            size, length = (some[math.ceil(share * len(some)) - 1] if some else request for some in (sizes, lengths))
            jobs[replace(size, num_frames=length.num_frames)] = None
        found = list(jobs)
        number = bisect_left(found, True, key=self._fits_at_least(base, fixed))
        return found[number] if number < len(found) and found[number] != request else None

    def _fits_at_least(self, base: Plan, fixed: Collection[str]) -> Callable[[GenerationRequest], bool]:
        """Whether a job fits under the plan that holds least."""
        rungs = _by_rung(candidates(base, fixed, self.rungs))[::-1]

        def fits(job: GenerationRequest) -> bool:
            # The lowest rung that is known holds least, and least of all where no block stays.
            for rung in rungs:
                if (found := self.source(job, rung[0])) is not None:
                    possible = [plan for plan in rung if self._streams(plan, found[0])]
                    possible += [less for plan in possible for less in self._sparing_ram(plan)]
                    return any(self._predict(job, plan, *found).verdict == "fits" for plan in possible)
            return False

        return fits

    def _shorter(self, request: GenerationRequest) -> Iterator[GenerationRequest]:
        return fewer_frames(request, self.spec) if self.spec else iter(())

    def _smaller(self, request: GenerationRequest) -> Iterator[GenerationRequest]:
        return smaller_sizes(request, self.spec) if self.spec else iter(())


def pixels_of(job: GenerationRequest) -> int:
    """The pixels of all its frames."""
    return job.width * job.height * job.num_frames


def stored(plan: Plan, weights: Weights) -> Plan:
    """The same plan with the denoiser's weights stored so, which is not lossless."""
    return replace(plan, weights=weights, lossless=False)


def candidates(base: Plan, fixed: Collection[str], rungs: Rungs = UNET_RUNGS) -> Iterator[Plan]:
    """Every plan of the ladder of `rungs`, from the fastest; what is `fixed` stays as in `base`."""
    seen = set()
    for rung in rungs:
        for offload in OFFLOADS:
            plan = replace(base, **{key: value for key, value in rung.items() if key not in fixed})
            if "offload" not in fixed:
                plan = replace(plan, places=everywhere(offload))
            if plan not in seen:
                seen.add(plan)
                yield plan


def _kept_bytes(blocks: BlockBytes, room_bytes: float) -> int:
    """The bytes of the blocks that stay where there is so much room beside what streams at least: what they hold,
    exactly, so that plans that come to the same are the same."""
    if room_bytes <= 0:
        return 0
    kept = stays(blocks.sizes, int(room_bytes))
    return sum(blocks.sizes[number] for number in kept)


def _by_rung(plans: Iterator[Plan]) -> list[list[Plan]]:
    """Plans that differ in nothing a dry run depends on, together."""
    groups = groupby(plans, key=lambda plan: replace(plan, places=everywhere("staged")))
    return [list(group) for _, group in groups]


def _below(considered: Collection[Considered], best: Considered) -> tuple[Considered, ...]:
    """What to step down to: every plan that holds less than the last, from the fastest."""
    ladder: list[Considered] = []
    for one in sorted(considered, key=lambda one: (one.prediction.seconds, -_peak(one))):
        if _peak(one) < _peak(ladder[-1] if ladder else best):
            ladder.append(one)
    return tuple(ladder)


def choose(considered: Collection[Considered]) -> Considered:
    """The fastest that fits; else the fastest that is tight; else the one that is least short. Of two as fast, the one
    that holds less."""
    for verdict in ("fits", "tight"):
        those = [one for one in considered if one.prediction.verdict == verdict]
        if those:
            return min(those, key=lambda one: (one.prediction.seconds, _peak(one)))
    return min(considered, key=lambda one: (one.prediction.short_bytes, _missing_bytes(one), one.prediction.seconds))


def _missing_bytes(one: Considered) -> int:
    """What is short in all places together: where the disk is, the card need not be as well."""
    return sum(short.short_bytes for short in one.prediction.shortages(one.plan.device))


def fewer_frames(request: GenerationRequest, spec: FamilySpec) -> Iterator[GenerationRequest]:
    """The same with fewer and fewer frames: as many as `spec` allows near every multiple of eight."""
    last = request.num_frames
    for eights in range(request.num_frames // 8, 0, -1):
        frames = spec.nearest_frames(8 * eights)
        if frames < last:
            last = frames
            yield replace(request, num_frames=frames)


def smaller_sizes(request: GenerationRequest, spec: FamilySpec) -> Iterator[GenerationRequest]:
    """The same with a smaller and smaller picture of about the same shape: as `spec` allows near multiples of 64."""
    last = request.width, request.height
    for share in SMALLER:
        near = spec.nearest_sizes(*(round(side * share / 64) * 64 for side in (request.width, request.height)))
        # What is allowed may be more than was asked for, or than the one before.
        width, height = (min(side, before) for side, before in zip(near, last, strict=True))
        if (width, height) != last:
            last = width, height
            yield replace(request, width=width, height=height)


def _ram(prediction: Prediction) -> int:
    return prediction.ram_peak_bytes


def _peak(one: Considered) -> int:
    return one.prediction.peak.peak_bytes
