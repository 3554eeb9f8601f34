"""What a scheduler remembers is laid down and taken up: diffusers' own schedulers, stopped after any step and gone on
with in another object, against the same run without a stop."""

from __future__ import annotations

import json

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from i2v.families.i2vgen_xl.spec import SCHEDULERS as RUNNABLE
from i2v.families.schedulers import SchedulerMemory, SchedulerState, take_step
from i2v.models.network_calls import network_calls

STEPS = 7
SCHEDULERS = [
    "DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
    "PNDMScheduler", "UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler",
]  # fmt: skip


def begun(name: str):
    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(STEPS)
    return scheduler, SchedulerMemory(scheduler)


def advance(scheduler, sample: torch.Tensor, first: int, last: int) -> torch.Tensor:
    for index in range(first, last):
        timestep = scheduler.timesteps[index]
        output = torch.sin(sample * 3 + index)
        sample = take_step(scheduler, output, timestep, sample, seed=5, index=index).prev_sample
    return sample


@pytest.mark.parametrize("name", SCHEDULERS)
@given(stop=st.integers(1, STEPS - 1))
@settings(max_examples=4, deadline=None)
def test_a_run_that_was_laid_down_ends_as_one_that_was_not(name: str, stop: int) -> None:
    start = torch.randn(1, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    whole, _ = begun(name)
    wanted = advance(whole, start, 0, STEPS)

    first, memory = begun(name)
    halfway = advance(first, start, 0, stop)
    state = memory.read(torch.clone)
    state = SchedulerState(state.tensors, json.loads(json.dumps(state.values)))
    second, memory = begun(name)
    advance(second, start + 1, 0, 2)  # it remembers something else, as after a failed attempt
    memory.write(state, torch.clone)
    assert torch.equal(advance(second, halfway, stop, STEPS), wanted)


def test_a_step_that_draws_noise_draws_its_own() -> None:
    scheduler, _ = begun("DDPMScheduler")
    sample, timestep = torch.zeros(1, 4, 5, 5), scheduler.timesteps[1]

    def step(index: int) -> torch.Tensor:
        return take_step(scheduler, sample, timestep, sample, seed=5, index=index).prev_sample

    assert torch.equal(step(1), step(1))
    assert not torch.equal(step(1), step(2))


def test_a_scheduler_without_memory_writes_nothing_down() -> None:
    scheduler, memory = begun("DDIMScheduler")
    advance(scheduler, torch.zeros(1, 4, 5, 5), 0, 3)
    assert memory.read(torch.clone) == SchedulerState()


@pytest.mark.parametrize("name", RUNNABLE)
@pytest.mark.parametrize("more", [{}, {"skip_prk_steps": True}])
def test_the_calls_that_a_plan_counts_are_the_schedulers_own(name: str, more: dict[str, bool]) -> None:
    if more and name != "PNDMScheduler":
        return
    scheduler = getattr(diffusers, name)(**more)
    for steps in (4, 7, 50) if name == "PNDMScheduler" and not more else (1, 2, 7, 50):
        scheduler.set_timesteps(steps)
        assert network_calls(dict(scheduler.config) | {"_class_name": name}, steps) == len(scheduler.timesteps)
