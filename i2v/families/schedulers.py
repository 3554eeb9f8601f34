"""What a diffusers scheduler remembers from one step to the next, as plain tensors and values, so that a run can be
laid down after any step and taken up again, in another process too.

diffusers has no such call: a scheduler keeps earlier outputs and counters in attributes of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

# Any two steps' noise must differ, and none may be the noise that the latents began as (the seed itself).
STEP_SEED_OFFSET = 1_000_003


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


def take_step(scheduler: Any, output: Tensor, timestep: int, sample: Tensor, *, seed: int, index: int) -> Any:
    """`scheduler.step`, its noise (where it draws any) given by seed and step alone, so that no state is kept."""
    if "generator" in inspect.signature(scheduler.step).parameters:
        generator = torch.Generator().manual_seed(seed + STEP_SEED_OFFSET * (index + 1))
        return scheduler.step(output, timestep, sample, generator=generator)
    return scheduler.step(output, timestep, sample)


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
