"""How a job is run now: its plan for the memory that is free at this moment, and the rungs below it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from i2v.hardware.probe import Probe
from i2v.jobs.asked.plans import Asked, Plans, rungs_of
from i2v.jobs.asked.prepare import Resolved
from i2v.jobs.job.record import JobRecord
from i2v.jobs.job.stored import StoredJob
from i2v.jobs.process.dry_child import LANE
from i2v.messages import UserError
from i2v.models.catalogue import find_model
from i2v.models.entry import ModelEntry
from i2v.plan import Plan, Prediction, Rung
from i2v.settings.settings import Settings


@dataclass(frozen=True)
class Prepared:
    """`asked` is what was asked of the planner, None where it was not. `prediction` is the
    planner's for now; a plan that an earlier run has stepped down to may hold less and take longer."""

    plan: Plan
    ladder: tuple[Rung, ...] = ()
    asked: Asked | None = None
    prediction: Prediction | None = None

    @property
    def seconds(self) -> float | None:
        return self.prediction.seconds if self.prediction else None

    @property
    def peak_bytes(self) -> int:
        return self.prediction.peak.peak_bytes if self.prediction else 0


def model_of(job: StoredJob, settings: Settings) -> ModelEntry:
    """The job's model, found again where it was still to come, or its folder is gone: the app may have been moved since
    the job was sent. Where it is not found either it stays as it was, and the worker says what is missing."""
    assert job.entry is not None
    if not job.entry.present or (job.entry.folder is not None and not job.entry.folder.exists()):
        with suppress(UserError):
            return find_model(job.request.model, settings)
    return job.entry


def prepare(job: StoredJob, record: JobRecord, plans: Plans | None, settings: Settings, probe: Probe) -> Prepared:
    """The plan and its ladder for the memory that is free now, and for the files that the model has now: they may have
    come since the job was sent, and be of another size than the family's own. If an earlier run of this job had to step
    down, its plan is kept. Precision, weights, the autoencoder's window and frames are always kept, since the finished
    steps or the picture depend on them. Raises UserError where the model is no longer there."""
    stepped_down = record.progress.plan
    if plans is None or job.task != "generate":
        return Prepared(stepped_down or job.plan)
    resolved = Resolved.of(job.request, settings)
    plans.measure_disk(resolved.entry)
    asked = plans.asked(resolved, probe)
    kept = {name: getattr(job.plan, name) for name in ("precision", "weights", "vae_window", "lossless")}
    asked = replace(asked, base=replace(asked.base, **kept))
    planned = plans.at_once(asked)
    if planned is None or planned.prediction.verdict != "fits":
        with suppress(UserError):  # then the plan by what is known is used, or the one that the job was sent with
            planned = plans.exactly(asked, LANE)  # seconds, for a model or for rungs that nobody had to know so far
    if planned is None or planned.asked is not None or _gave_up(planned.plan) != _gave_up(job.plan):
        return Prepared(stepped_down or job.plan)
    return Prepared(stepped_down or planned.plan, rungs_of(planned), asked, planned.prediction)


def _gave_up(plan: Plan) -> tuple[str, str]:
    """What a lossy policy may have changed of the picture."""
    return plan.weights, plan.vae_window
