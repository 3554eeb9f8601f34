"""Training from its request to the LoRA on the shelf: clips, examples, steps, progress on disk, and what it tells."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from i2v.families.base import FamilyModel
from i2v.families.spec import FamilySpec
from i2v.families.trainable import Example, Trainer
from i2v.memory.card import Card, open_card
from i2v.memory.errors import is_out_of_memory
from i2v.messages import UserError, message
from i2v.models.parts_digest import model_digest
from i2v.plan import Plan, everywhere
from i2v.training import progress
from i2v.training.asked import check_trainable
from i2v.training.clips import TrainingClip, read_folder
from i2v.training.draws import Order, draw_of_step, on_card, part_of
from i2v.training.examples import Examples, drop_examples, make_examples
from i2v.training.lora import put_fresh, save_lora, take_off, trained_parameters
from i2v.training.losses import Losses
from i2v.training.request import (
    Begun,
    ClipsPrepared,
    LaidDown,
    Stepped,
    Told,
    Trained,
    TrainingEvent,
    TrainingPlan,
    TrainingRequest,
    Validated,
)
from i2v.training.step import Batch, Stepper, rate_at
from i2v.training.validation import validation_clip

Report = Callable[[TrainingEvent], None]
Stop = Callable[[], bool]


def train(request: TrainingRequest, plan: TrainingPlan, report: Report, stop: Stop) -> bool:
    """Train a LoRA as asked, going on from what was done before in its work folder. Whether it is done: False where
    `stop` said to lay it down, which it is asked between steps and clips. Raises UserError for what a person can
    change, OSError, and torch's out-of-memory error; what was learned by then stays in the work folder."""
    spec = check_trainable(request.family)
    work = Path(request.work)
    work.mkdir(parents=True, exist_ok=True)
    folder = read_folder(request, spec)
    for reason in folder.left_out:
        report(Told(reason))
    model = importlib.import_module(f"i2v.families.{request.family}.model").load(
        Path(request.model_folder), getattr(torch, plan.precision)
    )
    card = open_card(run_plan(plan))
    try:
        return _Training(request, plan, spec, model, card, folder.clips, report, stop).run()
    finally:
        card.evict_all()


def run_plan(plan: TrainingPlan) -> Plan:
    """What encoding clips and making validation clips run under."""
    return Plan(
        device=plan.device,
        precision=plan.precision,
        places=everywhere("staged"),
        memory_cap_bytes=plan.memory_cap_bytes,
    )


def batches_of_step(
    card: Card, examples: Sequence[Example], request: TrainingRequest, micro_batch: int, step: int
) -> Iterator[Batch]:
    """The micro batches of one step on `examples`, each moved to the card when it is its turn."""
    with card.on_host():
        draw = draw_of_step([one["latents"].shape for one in examples], request.seed, step, request.dropout)
    for begin in range(0, len(examples), micro_batch):
        chosen = examples[begin : begin + micro_batch]
        on = [{name: card.to_card(tensor) for name, tensor in one.items()} for one in chosen]
        with card.on_host():
            part = part_of(draw, begin, begin + len(chosen))
        yield Batch(on, on_card(part, card), len(chosen) / len(examples))
        del on


class _Training:
    """One training of a loaded model on an open card."""

    def __init__(
        self,
        request: TrainingRequest,
        plan: TrainingPlan,
        spec: FamilySpec,
        model: FamilyModel,
        card: Card,
        clips: tuple[TrainingClip, ...],
        report: Report,
        stop: Stop,
    ) -> None:
        self._request, self._plan, self._spec, self._model, self._card = request, plan, spec, model, card
        self._clips, self._report, self._stop = clips, report, stop
        self._work = Path(request.work)
        self._trainer: Trainer = importlib.import_module(f"i2v.families.{spec.name}.training").trainer(model)
        self._digest = model_digest(Path(request.model_folder))
        self._key = progress.key_of(request, plan, [f"{one.digest} {one.caption}" for one in clips], self._digest)

    def run(self) -> bool:
        saved = progress.read(self._work, self._key)  # before an hour of encoding: it may be of another training
        examples = self._examples()
        if examples is None:
            self._report(LaidDown(0 if saved is None else saved.step, self._request.steps))
            return False
        network = self._model.modules[self._trainer.component]
        put_fresh(network, self._trainer.targets, self._request.rank, self._request.seed)
        try:
            return self._with_network(network, examples, saved)
        finally:
            self._card.evict(network)
            take_off(network)

    def _examples(self) -> Examples | None:
        total = len(self._clips)
        return make_examples(
            self._clips, self._request, self._spec, self._model, self._trainer, self._card, run_plan(self._plan),
            self._digest, lambda count: self._report(ClipsPrepared(count, total)), self._stop,
        )  # fmt: skip

    def _with_network(self, network: nn.Module, examples: Examples, saved: progress.Saved | None) -> bool:
        card = self._card
        self._evict_others()
        card.place(network)
        with card.running():
            parameters = trained_parameters(network)
            stepper = Stepper(self._trainer, network, parameters, self._plan)
            step = 0
            if saved is not None:
                progress.restore(saved, parameters, stepper.optimizer, stepper.scaler, card.to_card)
                step = saved.step
            numbers = sum(one.numel() for one in parameters.values())
            self._report(Begun(step, self._request.steps, len(self._clips), numbers))
            return self._steps(stepper, examples, step)

    def _steps(self, stepper: Stepper, examples: Examples, step: int) -> bool:
        request, card = self._request, self._card
        losses = Losses(self._work, step)
        order = Order([clip.bucket for clip in self._clips], request.batch, request.seed)
        kept = time.monotonic()
        while step < request.steps:
            if self._stop():
                self._save(stepper, step)
                self._report(LaidDown(step, request.steps))
                return False
            began = time.monotonic()
            card.reset_peak()
            rate = rate_at(step, request.steps, request.warmup_steps, request.learning_rate)
            with card.on_host():
                chosen = [examples[number] for number in order.of_step(step)]
            batches = batches_of_step(card, chosen, request, self._plan.micro_batch, step)
            loss = float(card.to_host(stepper.run(batches, rate, request.consistency)))
            if not math.isfinite(loss):
                raise UserError("training.not_finite", step=step + 1, rate=request.learning_rate)
            step += 1
            seconds, peak = time.monotonic() - began, card.read_memory().peak_allocated_bytes
            losses.add(step, repr(loss), repr(rate), f"{seconds:.4f}", peak)
            self._report(Stepped(step, request.steps, loss, rate, seconds, peak))
            if request.validate_steps and step % request.validate_steps == 0:
                self._validate(step)
            if time.monotonic() - kept >= request.save_seconds:
                self._save(stepper, step)
                kept = time.monotonic()
        self._save(stepper, step)
        self._finish(stepper)
        return True

    def _validate(self, step: int) -> None:
        """Show what was learned up to `step`. Where the card has no room for that, training goes on without."""
        try:
            file = validation_clip(
                step, self._clips[0], self._request, self._spec, self._model, self._trainer.component, self._card,
                run_plan(self._plan), self._stop,
            )  # fmt: skip
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._report(Told(message("training.validation_no_room", step=step)))
            return
        finally:
            self._evict_others()
        if file is not None:
            self._report(Validated(step, str(file)))

    def _evict_others(self) -> None:
        """Leave nothing on the card but what is trained."""
        trained = self._model.modules[self._trainer.component]
        for module in self._card.placed - {trained}:
            self._card.evict(module)
        self._card.release_cache()
        self._model.modules.drop(set(self._model.modules) - {self._trainer.component})

    def _save(self, stepper: Stepper, step: int) -> None:
        progress.save(
            self._work, step, self._key, stepper.parameters, stepper.optimizer, stepper.scaler, self._card.to_host
        )

    def _finish(self, stepper: Stepper) -> None:
        request, file = self._request, Path(self._request.file)
        tensors: dict[str, Tensor] = {name: self._card.to_host(one) for name, one in stepper.parameters.items()}
        dtype = torch.float32 if self._plan.precision == "float32" else getattr(torch, self._plan.precision)
        save_lora(file, tensors, self._trainer.component, self._about(), dtype)
        self._report(Trained(str(file), request.steps, file.stat().st_size))
        with suppress(OSError):
            drop_examples(self._work)

    def _about(self) -> dict[str, object]:
        """What the file says of itself."""
        request = self._request
        return {
            "modelspec.sai_model_spec": "1.0.0",
            "modelspec.architecture": f"{request.family}/lora",
            "modelspec.title": Path(request.file).stem,
            "modelspec.trigger_phrase": request.trigger,
            "i2v.family": request.family,
            "i2v.rank": str(request.rank),
            "i2v.base_model": request.model,
            "i2v.base_model_digest": self._digest,
            "i2v.clips": str(len(self._clips)),
            "i2v.steps": str(request.steps),
            "i2v.captions": sorted({clip.caption for clip in self._clips})[:100],
            "i2v.request": replace(
                request, clips="", work="", file="", model_folder="", validation_image=None
            ).to_json(),
        }
