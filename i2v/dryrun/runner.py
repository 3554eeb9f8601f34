"""The dry run: a family's own phases on tensors without contents, and what they would have held and done.

The modules are built from their configurations under the same fake mode that runs them, so no weight is read and none
is made; every operation is the real one's shape rule. A dispatch mode follows storages as on the simulated card, and
counts floating-point operations and bytes moved. Chunk loops run three of their chunks, denoising two or three of its
steps, and identical layers run once, as do identical operations.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from i2v.dryrun.blocks import BlockWatch
from i2v.dryrun.shortcuts import Shortcuts
from i2v.dryrun.work_tracker import WorkTracker
from i2v.families import SPECS
from i2v.families.base import Conditioning, FamilyModel, Inputs, change_weights, idle
from i2v.families.gguf_weights import store_as_in_folder
from i2v.families.phases import Phases
from i2v.families.skeletons import read_configs
from i2v.memory.card import SimulatedCard
from i2v.memory.chunking import sampled_chunks
from i2v.memory.parts import parts_bytes, weights_of
from i2v.memory.streaming import Parted, parted
from i2v.plan import Plan, Weights, everywhere
from i2v.planning.known import PHASES, BlockBytes, BlockPasses, Found, Held, PhaseRun
from i2v.planning.work import NO_WORK, Work
from i2v.request import GenerationRequest

UNBOUNDED = 2**60

Shape = tuple[str, int, int, int, bool, bool, int, bool]


class MeteredCard(SimulatedCard):
    """A card without a limit that keeps account of work and transfers. Weights only count as placed: a copy of each
    would show nothing, and be a quarter of all that a dry run does."""

    def __init__(self) -> None:
        super().__init__(UNBOUNDED)
        self.tracker = self._tracker = WorkTracker()
        self._placed_bytes: dict[nn.Module, int] = {}
        self._placed_numbers: dict[nn.Module, list[int]] = {}
        self.watch = BlockWatch(self.tracker, {}, {})
        self.passes: Mapping[str, BlockPasses] = {}
        """Through the networks that have blocks, in what `take_work` counted last."""

    @property
    def weights_bytes(self) -> int:
        """Bytes of the modules that are on the card now."""
        return sum(self._placed_bytes.values())

    def placed_names(self, model: FamilyModel) -> tuple[str, ...]:
        """The components of `model` that are on the card now."""
        return tuple(name for name, module in model.modules.items() if module in self.placed)

    def held(self) -> Held:
        """At worst since the last reset: activations, what convolutions would have added to that on a processor and
        on a card, and what torch's allocator would have needed beyond, with expandable segments and without."""
        peak, beside, allocations = (
            self.tracker.peak_bytes,
            self.tracker.beside_peaks_bytes,
            self.tracker.allocations,
        )
        pinned = (one.peak_needed_bytes for one in (allocations.expandable, allocations.segments))
        return Held(peak - self.weights_bytes, *(max(0, one - peak) for one in (*beside, *pinned)))

    def place(self, module: nn.Module) -> None:
        """Count `module` as copied onto the card."""
        if module not in self.placed:
            self._on_host[module] = []
            parts = parts_bytes(weights_of(module))
            size = self._placed_bytes[module] = sum(parts)
            self.tracker.transfer(size)
            self.tracker.hold(size)
            allocate = self.tracker.allocations.allocate
            self._placed_numbers[module] = [allocate(one) for one in parts if one]

    def stream(self, module: nn.Module, parts: Parted, *, kept_bytes: int, slots: int) -> None:
        """As `place`: what streams of weights hold is known without a dry run."""
        self.place(module)

    def evict(self, module: nn.Module) -> None:
        """As any card; and the peak starts anew, since what leaves belongs to the phase before."""
        super().evict(module)
        self.tracker.hold(-self._placed_bytes.pop(module, 0))
        for number in self._placed_numbers.pop(module, ()):
            self.tracker.allocations.release(number)
        self.tracker.reset_peak()

    def _copy(self, host: Tensor) -> Tensor:
        self.tracker.transfer(host.numel() * host.element_size())
        return super()._copy(host)

    def release_cache(self) -> None:
        """As on a card: what is reserved for nothing goes back."""
        super().release_cache()
        self.tracker.allocations.empty_cache()
        self.tracker.allocations.reset_peak()

    def take_work(self) -> Work:
        """Work and transfers since the last call. Weights are placed once however often their phase runs."""
        self.passes = self.watch.take()
        work = self.tracker.take()
        self.watch.restart()
        return work


class DryRunner:
    """Dry runs of one model in one precision and storage; what one run learns of a layer, the next need not run again.

    `folder` holds the model's configurations: a checkpoint, or the family's own `configs`."""

    def __init__(
        self,
        family: str,
        folder: Path | None,
        precision: str,
        weights: Weights = "full",
        wide_convolutions: bool = False,
        *,
        shortcuts: bool = True,
    ) -> None:
        skeleton = importlib.import_module(f"i2v.families.{family}.skeleton")
        self._family = family
        folder = folder or skeleton.CONFIGS
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._fake.cache_enabled = False  # `operations` does without
        self._shortcuts = Shortcuts(skeleton.REPEATED) if shortcuts else None
        self._spec = SPECS[family]
        self._made: dict[Shape, Conditioning] = {}  # without contents: a few hundred bytes each
        with self._fake:
            configs = read_configs(folder, skeleton.CONFIGURED, self._spec.optional)
            self.model = skeleton.skeleton(configs, getattr(torch, precision), SPECS[family].max_prompt_tokens)
            store_as_in_folder(self.model.modules, folder, self._spec.gguf_components)
            change_weights(self.model, weights, wide_convolutions)

    @cached_property
    def weights_bytes(self) -> dict[str, int]:
        """The bytes of every component on a card."""
        return {name: module_bytes(module) for name, module in self.model.modules.items()}

    @cached_property
    def block_bytes(self) -> dict[str, BlockBytes]:
        """Of every component that can stream."""
        return {
            name: BlockBytes(parts.sizes_bytes, parts.outside_bytes)
            for name, modules in blocks_of(self.model).items()
            for parts in (parted(self.model.modules[name], modules),)
        }

    def run(self, request: GenerationRequest, plan: Plan, phases: Collection[str] = PHASES) -> Found:
        """Of PHASES those asked for, of `request` under `plan`: every encode stage, denoising, decoding. Of a
        clip that is made in windows, one with two of them; see `FamilySpec.shares`."""
        plan = replace(plan, places=everywhere("staged"), keep_loaded=True, attention="native")
        request = replace(
            request,
            num_frames=self._spec.dry_frames(request.num_frames),
            # What is found is of any number of steps: so many that each part of denoising has all kinds of them.
            num_inference_steps=max(request.num_inference_steps, self._spec.defaults.num_inference_steps),
        )
        runs, shape = [], _shape(self._family, request)
        made = self._made.get(shape)
        if made is None or "encode" in phases:
            with self._following(request, plan) as run:
                made = self._made[shape] = run.encode()
                runs += run.runs if "encode" in phases else ()
        if "denoise" in phases:
            with self._following(request, plan) as run:
                run.denoise(made, self._spec.steps_until_alike)
                runs += run.runs
        if "decode" in phases:
            with self._following(request, plan) as run:
                run.decode(made, run.initial_latents(made))
                runs += run.runs
        if "denoise" not in phases:
            return Found(tuple(runs), {})
        spared = idle(self.model, request)
        return Found(
            tuple(runs),
            {name: size for name, size in self.weights_bytes.items() if name not in spared},
            {name: blocks for name, blocks in self.block_bytes.items() if name not in spared},
        )

    def phases(self, request: GenerationRequest, plan: Plan) -> tuple[PhaseRun, ...]:
        """All phases in one run, with the plan's own placements. What a phase computes with is the same either way."""
        with self._following(request, plan) as run:
            return run.whole(self._spec.steps_until_alike)

    @contextmanager
    def _following(self, request: GenerationRequest, plan: Plan) -> Iterator[Following]:
        # Some schedulers look at values, which a dry run has not; the network is called alike by all of them.
        request = replace(request, scheduler=None, betas=None)
        card = MeteredCard()
        card.watch = BlockWatch(card.tracker, self.model.modules, blocks_of(self.model))
        sizes = plan.chunk_frames, plan.chunk_pixels, plan.chunk_tokens, plan.decode_frames, plan.decode_rows
        sampled = self._shortcuts.taken(card.tracker, card.watch, sizes) if self._shortcuts else sampled_chunks()
        with self._fake, sampled, following(self.model, card, request, plan) as run:
            yield run


def blocks_of(model: FamilyModel) -> dict[str, Sequence[nn.Module]]:
    """The blocks of every component that can stream."""
    return {name: blocks(model.modules[name]) for name, blocks in model.blocks.items()}


def module_bytes(module: nn.Module) -> int:
    """Bytes of a module's weights on a card."""
    return sum(parts_bytes(weights_of(module)))


class Following:
    """Phases of a job on a metered card, one after the other; `runs` is what they were found to hold and do, each
    phase's work being for all of it."""

    def __init__(self, model: FamilyModel, card: MeteredCard, request: GenerationRequest, plan: Plan) -> None:
        self.runs: list[PhaseRun] = []
        self._model, self._card, self._request, self._plan = model, card, request, plan
        self._phases = Phases(model, card, request, plan)

    def whole(self, steps: int) -> tuple[PhaseRun, ...]:
        """All phases, with at most `steps` steps of denoising."""
        made = self.encode()
        self.decode(made, self.denoise(made, steps))
        return tuple(self.runs)

    def encode(self) -> Conditioning:
        """Every encode stage; what they made."""
        conditioning = {}
        for stage, made in self._phases.encode(blank_inputs(self._request)):
            conditioning |= made
            self.runs.append(self._found(stage.name, self._card.take_work()))
            self._card.tracker.reset_peak()
        return conditioning

    def denoise(self, conditioning: Conditioning, steps: int) -> Tensor:
        """At most `steps` steps of each part of denoising; the latents after them, on the host."""
        card, first, run = self._card, NO_WORK, None
        with closing(self._phases.denoise(conditioning, most=steps)) as denoising:
            for stepped in denoising:
                latents = stepped
                del stepped
                work, stage = card.take_work(), self._phases.stage
                if run is None or run.name != stage:
                    self.runs += () if run is None else (run,)
                    first = work
                # The first step also placed what all of them need.
                run = self._found(stage, first + work * -1, work)
                kept = card.to_host(latents)
            self.runs.append(run)
            return kept

    def initial_latents(self, conditioning: Conditioning) -> Tensor:
        """Those that denoising begins from, in one stage, where they have the shape of those that it ends with; on the
        host."""
        with self._card.on_host():
            return self._model.prepare(replace(self._request, two_stages=False), self._plan, conditioning)

    def decode(self, conditioning: Conditioning, latents: Tensor) -> None:
        """All frames of `latents`, which are on the host."""
        card = self._card
        card.take_work()
        card.tracker.reset_peak()
        for _frame in self._phases.decode(conditioning, latents):
            # What the decoder needs leaves with the last frame, and its peak with it.
            placed, held = card.placed_names(self._model), card.held()
        self.runs.append(PhaseRun("decode", placed, **vars(held), once=card.take_work()))

    def _found(self, name: str, once: Work, each: Work = NO_WORK) -> PhaseRun:
        held, placed = vars(self._card.held()), self._card.placed_names(self._model)
        return PhaseRun(name, placed, **held, once=once, each=each, passes=self._card.passes)


@contextmanager
def following(model: FamilyModel, card: MeteredCard, request: GenerationRequest, plan: Plan) -> Iterator[Following]:
    """Phases of `model` on `card` while the `with` lasts.

    On a model with weights these are real runs, metered in the same way: what the tests hold a dry run against."""
    with card.running(), card.watch.watching():
        yield Following(model, card, request, plan)


def blank_inputs(request: GenerationRequest) -> Inputs:
    """Inputs of the request's size, at every frame where a family may look for one, and a clip."""
    blank = Image.new("RGB", (request.width, request.height))
    given = {one.at: blank for one in request.inputs if one.kind == "image" and one.at is not None}
    return Inputs({0: blank, -1: blank, **given}, clip=(blank,) * request.num_frames)


def _shape(family: str, request: GenerationRequest) -> Shape:
    """All of a request that the shapes of what encode makes depend on."""
    guided = request.guidance_scale > 1, request.true_guidance_scale > 1
    added = SPECS[family].added(request)
    return request.task, request.width, request.height, request.num_frames, *guided, added, bool(request.two_stages)
