"""The dry run: a family's own phases on tensors without contents, and what they would have held and done.

The modules are built from their configurations under the same fake mode that runs them, so no weight is read and none
is made; every operation is the real one's shape rule. A dispatch mode follows storages as on the simulated card, and
counts floating-point operations and bytes moved. Chunk loops run three of their chunks, denoising two of its steps,
and identical layers run once.
"""

from __future__ import annotations

import importlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from i2v.dryrun.shortcuts import Shortcuts
from i2v.dryrun.work_tracker import WorkTracker
from i2v.families import SPECS
from i2v.families.base import FamilyModel, store_denoiser, widen_model
from i2v.families.phases import Phases
from i2v.families.skeletons import read_configs
from i2v.memory.card import SimulatedCard
from i2v.memory.chunking import ChunkSizes, sampled_chunks
from i2v.plan import Plan, Weights
from i2v.planning.known import Found, Held, PhaseRun
from i2v.planning.work import NO_WORK, Work
from i2v.request import GenerationRequest

STEPS = 2  # the second has everything around it that a step in the middle of a run has
UNBOUNDED = 2**60


class MeteredCard(SimulatedCard):
    """A card without a limit that keeps account of work and transfers. Weights only count as placed: a copy of each
    would show nothing, and be a quarter of all that a dry run does."""

    def __init__(self) -> None:
        super().__init__(UNBOUNDED)
        self.tracker = self._tracker = WorkTracker()
        self._transferred_bytes = 0
        self._placed_bytes: dict[nn.Module, int] = {}
        self._placed_numbers: dict[nn.Module, list[int]] = {}

    @property
    def weights_bytes(self) -> int:
        """Bytes of the modules that are on the card now."""
        return sum(self._placed_bytes.values())

    def placed_names(self, model: FamilyModel) -> tuple[str, ...]:
        """The components of `model` that are on the card now."""
        return tuple(name for name, module in model.modules.items() if module in self.placed)

    def held(self) -> Held:
        """At worst since the last reset: activations, what convolutions' copies would have added to that, and what
        torch's allocator would have needed beyond, with expandable segments and without."""
        peak, with_copies, allocations = (
            self.tracker.peak_bytes,
            self.tracker.copies_peak_bytes,
            self.tracker.allocations,
        )
        pinned = (one.peak_needed_bytes for one in (allocations.expandable, allocations.segments))
        return Held(peak - self.weights_bytes, max(0, with_copies - peak), *(max(0, one - peak) for one in pinned))

    def place(self, module: nn.Module) -> None:
        """Count `module` as copied onto the card."""
        if module not in self.placed:
            self._host_copies[module] = []
            size = self._placed_bytes[module] = module_bytes(module)
            self._transferred_bytes += size
            self.tracker.hold(size)
            allocate = self.tracker.allocations.allocate
            self._placed_numbers[module] = [allocate(one) for one in tensor_bytes(module) if one]

    def evict(self, module: nn.Module) -> None:
        """As any card; and the peak starts anew, since what leaves belongs to the phase before."""
        super().evict(module)
        self.tracker.hold(-self._placed_bytes.pop(module, 0))
        for number in self._placed_numbers.pop(module, ()):
            self.tracker.allocations.release(number)
        self.tracker.reset_peak()

    def _copy(self, host: Tensor) -> Tensor:
        self._transferred_bytes += host.numel() * host.element_size()
        return super()._copy(host)

    def release_cache(self) -> None:
        """As on a card: what is reserved for nothing goes back."""
        super().release_cache()
        self.tracker.allocations.empty_cache()
        self.tracker.allocations.reset_peak()

    def take_work(self) -> Work:
        """Work and transfers since the last call. Weights are placed once however often their phase runs."""
        work = self.tracker.take() + Work(transfer_bytes=self._transferred_bytes)
        self._transferred_bytes = 0
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
        folder = folder or skeleton.CONFIGS
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._shortcuts = Shortcuts(skeleton.REPEATED) if shortcuts else None
        with self._fake:
            configs = read_configs(folder, skeleton.CONFIGURED)
            self.model = skeleton.skeleton(configs, getattr(torch, precision), SPECS[family].max_prompt_tokens)
            store_denoiser(self.model, weights)
            if wide_convolutions:
                widen_model(self.model)

    def weights_bytes(self) -> dict[str, int]:
        """The bytes of every component on a card."""
        return {name: module_bytes(module) for name, module in self.model.modules.items()}

    def run(self, request: GenerationRequest, plan: Plan) -> Found:
        """Every encode stage, denoising and decoding of `request` under `plan`."""
        return Found(self.phases(request, replace(plan, offload="staged")), self.weights_bytes())

    def phases(self, request: GenerationRequest, plan: Plan) -> tuple[PhaseRun, ...]:
        """As `run`, with the plan's own offloading. What a phase computes with is the same either way."""
        card = MeteredCard()
        sizes = ChunkSizes(frames=plan.chunk_frames, pixels=plan.chunk_pixels)
        sampled = self._shortcuts.taken(card.tracker, sizes) if self._shortcuts else sampled_chunks()
        with self._fake, sampled:
            return follow(self.model, card, request, plan, steps=STEPS)


def module_bytes(module: nn.Module) -> int:
    """Bytes of a module's weights on a card."""
    return sum(tensor_bytes(module))


def tensor_bytes(module: nn.Module) -> list[int]:
    """Bytes of each parameter and buffer, in the order in which they are placed."""
    return [tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers())]


def follow(
    model: FamilyModel, card: MeteredCard, request: GenerationRequest, plan: Plan, *, steps: int
) -> tuple[PhaseRun, ...]:
    """All phases of `model` on `card`, with at most `steps` steps of denoising, each phase's work being for all of it.

    On a model with weights this is a real run, metered in the same way: what the tests hold a dry run against."""
    runs: list[PhaseRun] = []

    def finish(name: str, once: Work, each: Work = NO_WORK) -> None:
        runs.append(PhaseRun(name, card.placed_names(model), **vars(card.held()), once=once, each=each))

    with card.running():
        phases = Phases(model, card, request, plan)
        conditioning = {}
        for stage, made in phases.encode(Image.new("RGB", (request.width, request.height))):
            conditioning |= made
            finish(stage.name, card.take_work())
            card.tracker.reset_peak()
        works: list[Work] = []
        with closing(phases.denoise(conditioning)) as denoising:
            for stepped in denoising:
                latents = stepped
                del stepped
                works.append(card.take_work())
                if len(works) == min(steps, request.num_inference_steps):
                    break
            # The first step also placed what all of them need.
            finish("denoise", works[0] + works[-1] * -1, works[-1])
            latents = card.to_host(latents)
        card.tracker.reset_peak()
        for _frame in phases.decode(conditioning, latents):
            # What the decoder needs leaves with the last frame, and its peak with it.
            placed, held = card.placed_names(model), card.held()
        runs.append(PhaseRun("decode", placed, **vars(held), once=card.take_work()))
    return tuple(runs)
