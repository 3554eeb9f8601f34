"""The model that the page opens with, where the browser has kept no other: the settings' own, and on a machine with a
card, where nobody has set one, the strongest that runs well there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from i2v.hardware.probe import Probe
from i2v.jobs.asked.outlook import Outlook, instead_of, proposed
from i2v.messages import Message, message
from i2v.models.catalogue import find_model
from i2v.ui.shown.format import gib, takes

if TYPE_CHECKING:
    from i2v.jobs.service import JobService
    from i2v.settings.settings import Settings


@dataclass(frozen=True)
class FirstModel:
    """`told`: why it was chosen, where nobody chose it; `other`: the name of a model to take in its place, and
    `other_title` what that is called."""

    name: str
    told: Message | None = None
    other: str = ""
    other_title: str = ""


def first_model(service: JobService, settings: Settings, reading: Probe) -> FirstModel:
    """The model for a page that opens now, on the machine as it was read. Raises UserError where the settings name one
    that there is not."""
    own = find_model(settings.model, settings)
    if settings.sources["model"] != "default" or reading.gpu is None or reading.gpu.simulated:
        return FirstModel(own.name)
    found = service.outlooks()
    best = proposed(found, offline=settings.offline)
    if best is None or best.entry.name == own.name:
        return FirstModel(own.name)
    other = instead_of(best, found)
    return FirstModel(
        best.entry.name, _told(best), other.entry.name if other else "", other.entry.title if other else ""
    )


def _told(best: Outlook) -> Message:
    time = takes(best.planned.prediction.seconds if best.planned else 0).to_json()
    if best.entry.present:
        return message("ui.first_model", title=best.entry.title, time=time)
    return message("ui.first_model_download", title=best.entry.title, time=time, gib=gib(best.entry.size_bytes))
