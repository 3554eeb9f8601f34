"""diffusers' schedulers: which one a run steps with, and what it remembers from one step to the next, as plain tensors
and values, so that a run can be laid down after any step and taken up again, in another process too.

diffusers has no call for the latter: a scheduler keeps earlier outputs and counters in attributes of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from torch import Tensor

from i2v.families.scheduler_choices import BETAS, SCHEDULERS
from i2v.messages import UserError
from i2v.request import GenerationRequest

# Any two steps' noise must differ, and none may be the noise that the latents began as (the seed itself).
STEP_SEED_OFFSET = 1_000_003
# Of the schedule, for a run from a video: where it begins at no noise at all, a solver of second order divides by none.
LEAST_BEGIN = 0.01


@dataclass(frozen=True)
class SchedulerState:
    """What has changed since the run began: `tensors` on the host by name, `values` as JSON with places for them."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


class SchedulerMemory:
    """Follows one scheduler from the moment its timesteps are set."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        # Lists are changed in place, so they are copied; a tensor is always replaced by another.
        self._before = {name: _copied(value) for name, value in vars(scheduler).items()}

    def read(self, to_host: Callable[[Tensor], Tensor]) -> SchedulerState:
        """The state now."""
        tensors: dict[str, Tensor] = {}
        values = {
            name: _packed(value, name, tensors, to_host)
            for name, value in vars(self._scheduler).items()
            if not _same(value, self._before.get(name))
        }
        return SchedulerState(tensors, values)

    def write(self, state: SchedulerState, to_card: Callable[[Tensor], Tensor]) -> None:
        """The scheduler as it was when `state` was read."""
        for name, value in self._before.items():
            setattr(self._scheduler, name, _copied(value))
        for name, value in state.values.items():
            setattr(self._scheduler, name, _unpacked(value, state.tensors, to_card))


def shifted(request: GenerationRequest, own: Any) -> Any:
    """The checkpoint's `own` scheduler; where a flow shift is asked for, another of the same configuration with just
    that one, whatever the number of tokens."""
    return own if request.flow_shift is None else type(own).from_config(own.config, **_shift_of(type(own), request))


def _shift_of(cls: type, request: GenerationRequest) -> dict[str, Any]:
    """What a scheduler of `cls` must be told of the flow shift that is asked for."""
    shift = request.flow_shift
    told = {} if shift is None else {"shift": shift, "flow_shift": shift, "use_dynamic_shifting": False}
    return {name: value for name, value in told.items() if name in inspect.signature(cls.__init__).parameters}


def scheduler_of(request: GenerationRequest, own: Any, **settings: Any) -> Any:
    """The scheduler that a run steps with: the checkpoint's `own`, or the one that was chosen, built from the
    configuration of its own with these `settings`."""
    if request.scheduler is None and request.betas is None:
        return shifted(request, own)
    cls, chosen = type(own), {}
    if request.scheduler is not None:
        choice = SCHEDULERS[request.scheduler]
        cls, chosen = getattr(diffusers, choice.class_name), dict(choice.settings)
    if request.betas is not None:
        chosen |= BETAS[request.betas]
    known = inspect.signature(cls.__init__).parameters
    shared = {name: value for name, value in own.config.items() if name in known or name.startswith("_")}
    told = {name: value for name, value in settings.items() if name in known} | _shift_of(cls, request)
    return cls.from_config(shared, **chosen, **told)


def begun(request: GenerationRequest, own: Any, *, begin: float = 1.0, **settings: Any) -> Any:
    """The scheduler of `request`, with its timesteps; a chosen one with these `settings`. All steps are over what is
    left of the schedule from `begin`, where 1 is all of it and less is for flow models alone. Raises UserError for
    steps that it does not do."""
    scheduler, steps = scheduler_of(request, own, **settings), request.num_inference_steps
    try:
        _divide(scheduler, steps, begin)
    except (ValueError, IndexError, NotImplementedError) as error:
        name = type(scheduler).__name__
        raise UserError("models.scheduler_steps", scheduler=name, steps=steps, error=str(error)[:300]) from error
    if _is_told_of_before(scheduler):
        scheduler.before = None
    if scheduler is not own and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # else a step would look for its place by value
    return scheduler


def begun_flow(request: GenerationRequest, own: Any, *, shift: float, begin: float) -> Any:
    """As `begun` for a flow model whose schedule has this `shift` unless another is asked for: all steps over what is
    left of the schedule from `begin`, where 1 is noise alone."""
    shift = shift if request.flow_shift is None else request.flow_shift
    scheduler, steps = scheduler_of(request, own, shift=shift, flow_shift=shift), request.num_inference_steps
    if isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler):
        scheduler.set_shift(shift)
    else:
        begin = max(begin, LEAST_BEGIN)
    if "sigmas" in inspect.signature(scheduler.set_timesteps).parameters:
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, steps + 1)[:-1] * begin)
    else:
        _divide(scheduler, steps, begin)
    scheduler.set_begin_index(0)
    return scheduler


def _divide(scheduler: Any, steps: int, begin: float) -> None:
    """Give it so many timesteps from `begin` on. A scheduler divides the whole schedule alone: these are the last of
    as many more."""
    whole = round(steps / max(begin, LEAST_BEGIN))
    scheduler.set_timesteps(whole)
    if whole > steps:
        scheduler.timesteps, scheduler.sigmas = scheduler.timesteps[-steps:], scheduler.sigmas[-steps - 1 :]


def by_step(timesteps: Tensor, steps: int) -> list[list[tuple[int, int | Tensor]]]:
    """A scheduler's timesteps, each with its position, dealt out to `steps` steps in order: most schedulers have one
    for each, those of second order about two. Whole numbers as such; others as diffusers' pipelines hand them on."""
    whole = not timesteps.is_floating_point()
    values = [int(timestep) if whole else timestep for timestep in timesteps]
    ends = [round(len(values) * (step + 1) / steps) for step in range(steps)]
    numbered = list(enumerate(values))
    return [numbered[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def expected(scheduler: Any, stepped: Any) -> Tensor | None:
    """The clean sample that the network expected in the step that gave `stepped`; None where the scheduler does not
    say."""
    if (clean := getattr(stepped, "pred_original_sample", None)) is not None:
        return clean
    config = scheduler.config
    if getattr(config, "algorithm_type", "").endswith("dpmsolver++") or getattr(config, "predict_x0", False):
        return scheduler.model_outputs[-1]
    return None


def take_step(scheduler: Any, output: Tensor, timestep: int, sample: Tensor, *, seed: int, index: int) -> Any:
    """`scheduler.step`, its noise (where it draws any) given by seed and step alone, so that no state is kept."""
    if "generator" not in inspect.signature(scheduler.step).parameters:
        return scheduler.step(output, timestep, sample)
    generator = torch.Generator().manual_seed(seed + STEP_SEED_OFFSET * (index + 1))
    if not _is_told_of_before(scheduler):
        return scheduler.step(output, timestep, sample, generator=generator)
    clean, last = scheduler.before or (None, None)
    sample, clean = scheduler.step(output, clean, timestep, last, sample, generator=generator)
    scheduler.before = [clean, timestep]
    return DDIMSchedulerOutput(prev_sample=sample, pred_original_sample=clean)


def _is_told_of_before(scheduler: Any) -> bool:
    """Whether it keeps nothing itself of the step before, and is to be told: the clean sample that was expected then,
    and the timestep. Here both are kept as its `before`."""
    return "old_pred_original_sample" in inspect.signature(scheduler.step).parameters


def _copied(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value


def _same(value: Any, before: Any) -> bool:
    if isinstance(value, list) and isinstance(before, list):
        return len(value) == len(before) and all(map(_same, value, before))
    plain = isinstance(value, bool | int | float | str) and type(value) is type(before)
    return value == before if plain else value is before


def _packed(value: Any, name: str, tensors: dict[str, Tensor], to_host: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[name] = to_host(value)
        return {"tensor": name}
    if isinstance(value, list | tuple):
        return [_packed(one, f"{name}.{number}", tensors, to_host) for number, one in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a scheduler keeps {name} as {type(value).__name__}, which can not be written down")


def _unpacked(value: Any, tensors: Mapping[str, Tensor], to_card: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, dict):
        return to_card(tensors[value["tensor"]])
    if isinstance(value, list):
        return [_unpacked(one, tensors, to_card) for one in value]
    return value
