"""What to know of the numbers in the form before pressing Generate: where they leave what suits model and preset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from i2v.families import SPECS
from i2v.jobs.asked.advice import request_notes
from i2v.jobs.asked.prepare import build_request
from i2v.messages import UserError
from i2v.models.catalogue import find_model
from i2v.settings.settings import Settings
from i2v.ui.create.form import request_values
from i2v.ui.shown import panels

IF_IT_DOES_NOT_FIT = ("request.above_cap_size", "request.above_cap_frames")


def hints(raw: Sequence[Any], settings: Settings, locale: str, *, fits: bool = False) -> str:
    """The notes on the form's values as HTML; nothing for values that are no request yet: the plan card says why. Where
    the plan `fits` nothing is said of sizes that may not."""
    try:
        request = build_request(request_values(raw), settings, to_run=False)
    except UserError:
        return ""
    under = settings.with_overrides(request.options)
    spec = SPECS[find_model(request.model, settings).family]
    notes = request_notes(request, under, spec)
    told = (note for note in notes if not (fits and note.id in IF_IT_DOES_NOT_FIT))
    return "".join(panels.note(note.render(locale)) for note in told)
