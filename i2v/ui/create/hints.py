"""What to know of the numbers in the form before pressing Generate: where they leave what suits model and preset."""

from __future__ import annotations

from i2v.jobs.asked.advice import request_notes
from i2v.jobs.asked.prepare import Resolved
from i2v.ui.shown import panels

IF_IT_DOES_NOT_FIT = ("request.above_cap_size", "request.above_cap_frames")


def hints(resolved: Resolved, locale: str, *, fits: bool = False) -> str:
    """The notes on the form's request as HTML. Where the plan `fits` nothing is said of sizes that may not."""
    notes = request_notes(resolved.request, resolved.settings, resolved.spec)
    told = (note for note in notes if not (fits and note.id in IF_IT_DOES_NOT_FIT))
    return "".join(panels.note(note.render(locale)) for note in told)
