"""One step of training: forward, backward, optimiser. The engine of training runs it for real, the dry run on tensors
without contents, so nothing in `Stepper.run` depends on a tensor's values but through `scale`."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from i2v.families.trainable import Draw, Example, Trainer
from i2v.messages import UserError
from i2v.training.lora import disable_input_dtype_casting
from i2v.training.recompute import recomputed
from i2v.training.request import TrainingPlan

MOST_GRADIENT = 1.0  # length of all gradients together; longer ones are shortened to it
BETAS = (0.9, 0.99)
WEIGHT_DECAY = 0.01
FIRST_SCALE = 2.0**12  # of losses in half precision, so that small gradients are not lost


@dataclass(frozen=True)
class Batch:
    """Examples of one size that go through the network at once, on the card. `share`: of the step's examples."""

    examples: Sequence[Example]
    draw: Draw
    share: float


class Stepper:
    """A network with a LoRA on the card, and what a step of training needs beside. `parameters`: the LoRA's by name."""

    def __init__(
        self,
        trainer: Trainer,
        network: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        plan: TrainingPlan,
        *,
        scaled: bool | None = None,
    ) -> None:
        """`scaled`: whether losses are, by factors that follow from the gradients' values; None where the precision
        says it."""
        self.trainer, self.network, self.parameters, self.plan = trainer, network, parameters, plan
        self.optimizer = make_optimizer(parameters.values(), plan)
        device = next(iter(parameters.values())).device.type
        enabled = plan.precision == "float16" if scaled is None else scaled
        self.scaler = torch.amp.GradScaler(device, init_scale=FIRST_SCALE, enabled=enabled)
        self._autocast = device

    def remember(self) -> None:
        """Have the optimiser make its memory, which it else does at the end of its first step."""
        for parameter in self.parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def run(self, batches: Iterable[Batch], learning_rate: float, consistency: float) -> Tensor:
        """One step over `batches`; the mean loss of its examples, () on the card."""
        total = None
        with self._computing():
            for batch in batches:
                with self._in_precision():
                    loss = self.trainer.loss(self.network, batch.examples, batch.draw, consistency)
                self.scaler.scale(loss * batch.share).backward()
                loss = loss.detach() * batch.share
                total = loss if total is None else total + loss
                del loss, batch
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.parameters.values(), MOST_GRADIENT, foreach=False)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def _computing(self) -> AbstractContextManager[None]:
        """The network as it is computed in training."""
        stack = ExitStack()
        stack.enter_context(torch.enable_grad())
        stack.enter_context(recomputed(self.trainer.blocks(self.network), self.plan.recomputed))
        return stack

    def _in_precision(self) -> AbstractContextManager[None]:
        """Matrices are multiplied in the plan's precision; the LoRA's own stay float32 beside that."""
        if self.plan.precision == "float32":
            return nullcontext()
        stack = ExitStack()
        stack.enter_context(torch.autocast(self._autocast, dtype=getattr(torch, self.plan.precision)))
        stack.enter_context(disable_input_dtype_casting(self.network))
        return stack


def make_optimizer(parameters: Iterable[nn.Parameter], plan: TrainingPlan) -> torch.optim.Optimizer:
    """AdamW, in one pass over all parameters; or one that remembers in eight bits. Raises UserError where bitsandbytes,
    which that is from, is not installed."""
    if plan.optimizer == "adamw8bit":
        try:
            bitsandbytes = importlib.import_module("bitsandbytes.optim")  # of those who want it; not required
        except ImportError as error:
            raise UserError("training.no_bitsandbytes") from error
        return bitsandbytes.AdamW8bit(list(parameters), lr=0.0, betas=BETAS, weight_decay=WEIGHT_DECAY)
    return torch.optim.AdamW(list(parameters), lr=0.0, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)


def rate_at(step: int, steps: int, warmup_steps: int, learning_rate: float) -> float:
    """The learning rate of `step` (from 0) of `steps`: rises at first, and falls to a tenth over the last fifth."""
    rising = min(1.0, (step + 1) / max(1, warmup_steps))
    falling = min(1.0, max(0.1, (steps - step) / max(1.0, 0.2 * steps)))
    return learning_rate * rising * falling
