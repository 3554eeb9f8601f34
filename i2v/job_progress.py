"""How far a job has come: what its events so far add up to. The one fold of the event stream, for worker, lane, record,
list and page alike; each keeps for itself only what is its own.

Any part of a stream, from its start to wherever it was cut, adds up to a valid value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from i2v.events import (
    FINAL_STATES,
    Cancelled,
    Done,
    Event,
    Failed,
    Healed,
    MemorySampled,
    Paused,
    PhaseStarted,
    Resumed,
    StateChanged,
    StepFinished,
    WindowFinished,
)
from i2v.messages import Message
from i2v.plan import Plan


@dataclass(frozen=True)
class JobProgress:
    """A job over all of its runs, so far.

    `state` is what StateChanged said last; the reason for a state comes before it. `phase` is empty while no run is at
    work. `step` of `steps` counts denoising steps that need not be made again, as last heard, `window` of `windows`
    what is done of the step at hand where it has windows, `frame` of `frames` what decoding has written; a total is 0
    while unknown. `sections`: in which the steps are made, as many in each. `kept`: the steps with which the next
    denoising begins. `reached`: the most steps, and the most frames, of any run. `seconds_per_step`: of denoising, None
    while unknown; `seconds_left`: of this phase. `memory`: the last sample of this phase.

    `error`: why it failed. `note`: what a person should know of the run as it is now, why it was laid down or how it
    healed. `healed`: every rung taken, in words; `plan`: what the last one left, None without one.
    `resumed_from_step`: where a run went on from what an earlier one had kept. `attempts` counts runs; `started` of the
    last and `ended` are unix seconds, where `after` is told the time."""

    state: str = "queued"
    phase: str = ""
    step: int = 0
    steps: int = 0
    sections: int = 1
    window: int = 0
    windows: int = 0
    frame: int = 0
    frames: int = 0
    kept: int = 0
    reached: tuple[int, int] = (0, 0)
    seconds_per_step: float | None = None
    seconds_left: float | None = None
    memory: MemorySampled | None = None
    error: Message | None = None
    note: Message | None = None
    healed: tuple[str, ...] = ()
    plan: Plan | None = None
    resumed_from_step: int | None = None
    attempts: int = 0
    started: float | None = None
    ended: float | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in FINAL_STATES

    @property
    def section(self) -> int:
        """The number of the section that is being made, from 1; the last one once all are made."""
        return min(self.step * self.sections // max(1, self.steps) + 1, self.sections)

    @property
    def part_of_step(self) -> float:
        """How much of the denoising step at hand is done, 0 to 1."""
        return self.window / self.windows if self.phase == "denoise" and self.windows else 0.0

    @property
    def counted(self) -> tuple[int, int]:
        """Steps made and in all, frames while they are decoded; zeros in a phase that counts neither."""
        return {"denoise": (self.step, self.steps), "decode": (self.frame, self.frames)}.get(self.phase, (0, 0))

    def after(self, event: Event, time: float | None = None) -> JobProgress:
        """What it adds up to once `event` has happened, at `time` in unix seconds."""
        match event:
            case StateChanged(state=state):
                return self._in_state(state, time)
            case PhaseStarted(phase=phase):
                now = replace(self, phase=phase, seconds_left=None, memory=None, window=0, windows=0)
                if phase == "load":
                    return replace(now, kept=0)  # what was kept is told of when all is loaded
                return replace(now, step=self.kept) if phase == "denoise" else replace(now, frame=0)
            case StepFinished(phase=phase, index=index, total=total, seconds_per_step=seconds, sections=sections):
                now = replace(self, phase=phase, seconds_left=event.seconds_left, window=0)
                steps, frames = self.reached
                if phase == "decode":
                    return replace(now, frame=index, frames=total, reached=(steps, max(frames, index)))
                reached = (max(steps, index), frames)
                return replace(
                    now, step=index, steps=total, sections=sections, reached=reached, seconds_per_step=seconds
                )
            case WindowFinished(index=index, total=total):
                return replace(self, window=index, windows=total)
            case MemorySampled():
                return replace(self, memory=event)
            case Resumed(step=step):
                return replace(self, step=step, kept=step, resumed_from_step=step)
            case Healed(step=step):
                rungs, plan = (*self.healed, event.rung), Plan.from_json(event.plan)
                return replace(self, step=step, kept=step, note=event.message, healed=rungs, plan=plan)
            case Paused(step=step, message=reason):
                return replace(self, step=step, kept=step, note=reason, seconds_left=None)
            case Done():
                return replace(self, seconds_left=0.0)
            case Failed(message=reason):
                return replace(self, error=reason, seconds_left=None)
            case Cancelled():
                return replace(self, seconds_left=None)
        return self

    def _in_state(self, state: str, time: float | None) -> JobProgress:
        now = replace(self, state=state, ended=time if state in FINAL_STATES else None)
        if state in ("queued", "paused"):  # nobody is at work on it
            now = replace(now, phase="", seconds_per_step=None, seconds_left=None)
        if state == "running":
            now = replace(now, started=time, attempts=self.attempts + 1)
        error = None if state in ("queued", "running") else self.error
        return replace(now, error=error, note=None if state in ("queued", "cancelled") else self.note)
