"""The dry run of training: encoding a clip, and whole steps with their backward pass and optimiser, on tensors without
contents; what they would hold and do.

Everything is the real thing: a family's own stages, its loss, torch's autograd, the LoRA of peft. Nothing of the
backward pass is abbreviated, so that this takes seconds for a small network and a minute or two for the largest.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from i2v.dryrun.runner import MeteredCard
from i2v.dryrun.shortcuts import Shortcuts
from i2v.families import SPECS
from i2v.families.base import Inputs
from i2v.families.gguf_weights import store_as_in_folder
from i2v.families.skeletons import read_configs
from i2v.families.trainable import Example, Trainer
from i2v.memory.storages import tensors_in
from i2v.planning.work import NO_WORK, Work
from i2v.training.clips import TrainingClip
from i2v.training.examples import request_of
from i2v.training.lora import put_fresh, take_off, trained_parameters
from i2v.training.request import TrainingPlan, TrainingRequest
from i2v.training.step import Stepper
from i2v.training.train import batches_of_step, run_plan

MOST_MICRO_BATCHES = 2  # of a step: the second one finds gradients of the first, and those after it are like it


@dataclass(frozen=True)
class BlockCost:
    """Of one block in the forward pass of one micro batch: bytes that are kept for the backward pass beside what goes
    in and comes out, and the work of computing it."""

    kept_bytes: int
    work: Work


@dataclass(frozen=True)
class TrainingFound:
    """What a step in the middle of a training holds at worst and does. `weights_bytes`: of the network with its LoRA;
    `state_bytes`: what the optimiser remembers; `trained_numbers`: of the LoRA; `micro_batches`: of a step."""

    peak_bytes: int
    weights_bytes: int
    state_bytes: int
    trained_numbers: int
    micro_batches: int
    work: Work
    blocks: tuple[BlockCost, ...]

    @property
    def activations_bytes(self) -> int:
        """What is held beside weights and the optimiser's memory."""
        return self.peak_bytes - self.weights_bytes - self.state_bytes


class DryTrainer:
    """Dry runs of training one model in one precision. `folder` holds the model's configurations: a checkpoint, or the
    family's own `configs` where it is None."""

    def __init__(self, family: str, folder: Path | None, precision: str) -> None:
        skeleton = importlib.import_module(f"i2v.families.{family}.skeleton")
        self._spec = SPECS[family]
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._fake.cache_enabled = False
        self._shortcuts = Shortcuts(skeleton.REPEATED)
        with self._fake:
            folder = folder or skeleton.CONFIGS
            configs = read_configs(folder, skeleton.CONFIGURED, self._spec.optional)
            self.model = skeleton.skeleton(configs, getattr(torch, precision), self._spec.max_prompt_tokens)
            store_as_in_folder(self.model.modules, folder, self._spec.gguf_components)
            self.trainer: Trainer = importlib.import_module(f"i2v.families.{family}.training").trainer(self.model)
        self._examples: dict[tuple[int, int, int], Example] = {}

    @property
    def blocks(self) -> int:
        """How many blocks may be computed again."""
        return len(self.trainer.blocks(self.model.modules[self.trainer.component]))

    def run(self, request: TrainingRequest, plan: TrainingPlan, bucket: tuple[int, int, int]) -> TrainingFound:
        """Steps of `request` under `plan` on clips of one `bucket` (width, height, frames)."""
        example = self._example(request, plan, bucket)
        network, card = self.model.modules[self.trainer.component], MeteredCard()
        with self._fake:
            put_fresh(network, self.trainer.targets, request.rank, request.seed)
        try:
            with self._fake, card.running():
                return self._steps(request, plan, example, network, card)
        finally:
            take_off(network)
            network.requires_grad_(False)

    def _steps(
        self, request: TrainingRequest, plan: TrainingPlan, example: Example, network: nn.Module, card: MeteredCard
    ) -> TrainingFound:
        card.place(network)
        parameters = trained_parameters(network)
        stepper = Stepper(self.trainer, network, parameters, _on_processor(plan), scaled=False)
        stepper.remember()
        parts = -(-request.batch // plan.micro_batch)
        run = min(parts, MOST_MICRO_BATCHES)
        examples = [example] * min(request.batch, run * plan.micro_batch)
        card.tracker.reset_peak()
        card.take_work()
        before = card.tracker.live_bytes
        with _block_costs(self.trainer.blocks(network), card) as blocks:
            stepper.run(batches_of_step(card, examples, request, plan.micro_batch, 0), 0.0, request.consistency)
        state = before - card.weights_bytes
        saved = state - _state_bytes(plan, parameters.values(), state)
        return TrainingFound(
            peak_bytes=card.tracker.peak_bytes - saved,
            weights_bytes=card.weights_bytes,
            state_bytes=state - saved,
            trained_numbers=sum(one.numel() for one in parameters.values()),
            micro_batches=parts,
            work=card.take_work() * (parts / run),
            blocks=tuple(blocks),
        )

    def _example(self, request: TrainingRequest, plan: TrainingPlan, bucket: tuple[int, int, int]) -> Example:
        """What a clip of `bucket` would give."""
        if bucket in self._examples:
            return self._examples[bucket]
        width, height, frames = bucket
        clip = TrainingClip(Path(), "", width, height, frames, "")
        card, asked, blank = MeteredCard(), request_of(clip, request, self._spec), Image.new("RGB", (width, height))
        run = run_plan(plan)
        sampled = self._shortcuts.taken(card.tracker, card.watch, (run.decode_frames,))
        with self._fake, sampled, card.running():
            made = {}
            with card.on_host():
                stages = self.model.encode_stages(asked, Inputs({0: blank}), run)
            for stage in stages:
                stage.run(card, made)
            found = self.trainer.measured(card, [blank] * frames, asked, made)
            self._examples[bucket] = {name: card.to_host(found[name]) for name in sorted(found)}
        return self._examples[bucket]


def _on_processor(plan: TrainingPlan) -> TrainingPlan:
    """`plan` with the optimiser that tensors without contents can go through."""
    return replace(plan, optimizer="adamw")


def _state_bytes(plan: TrainingPlan, parameters: Sequence[nn.Parameter], measured_bytes: int) -> int:
    """What the plan's optimiser remembers, where the common one was `measured_bytes`. In eight bits: two bytes for each
    number, and a scale in float32 for each 256 of them; small matrices stay as they are, as bitsandbytes has it."""
    if plan.optimizer == "adamw":
        return measured_bytes
    sizes = [one.numel() for one in parameters]
    return sum(2 * size + 2 * 4 * -(-size // 256) if size >= 4096 else 8 * size for size in sizes)


@contextmanager
def _block_costs(blocks: Sequence[nn.Module], card: MeteredCard) -> Iterator[list[BlockCost]]:
    """The cost of every block in the first forward pass while the `with` lasts."""
    costs: list[BlockCost | None] = [None] * len(blocks)
    begun: dict[int, tuple[int, Work]] = {}
    hooks = []
    for number, block in enumerate(blocks):

        def come(_block: nn.Module, _inputs: object, number: int = number) -> None:
            if costs[number] is None and number not in begun:
                begun[number] = card.tracker.live_bytes, card.tracker.work()

        def go(_block: nn.Module, _inputs: object, output: object, number: int = number) -> None:
            if costs[number] is None and number in begun:
                live, work = begun[number]
                kept = card.tracker.live_bytes - live - _bytes_of(output)
                costs[number] = BlockCost(max(0, kept), card.tracker.work() + work * -1)

        hooks += [block.register_forward_pre_hook(come), block.register_forward_hook(go)]
    found: list[BlockCost] = []
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
        found += [one or BlockCost(0, NO_WORK) for one in costs]


def _bytes_of(output: object) -> int:
    return sum(one.nbytes for one in tensors_in(output))
