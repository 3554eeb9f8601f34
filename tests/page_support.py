"""What tests of the page share: made-up runs, a machine that does not change, and a service with a scripted worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder
from jobs_support import SCRIPTED, fake_model, settings_in, small_picture

from i2v import events as ev
from i2v.hardware.probe import MemoryProbe, Probe
from i2v.jobs.service import JobService
from i2v.ui.shown.view import JobView, advance

GIB = 2**30
SHAPE = ("picture", "standard", None, None, None, None)  # what the form says beside FIELDS


class FixedProbe(MemoryProbe):
    """A machine that does not change."""

    def __init__(self, reading: Probe) -> None:
        self.reading = reading

    def read(self) -> Probe:
        return self.reading


def sampled(step: int, source: str = "cuda", allocated: int = 3 * GIB) -> ev.MemorySampled:
    return ev.MemorySampled("denoise", step, allocated, 4 * GIB, 5 * GIB, 12 * GIB, 2 * GIB, source)


def whole_run() -> Iterator[ev.Event]:
    yield ev.StateChanged("queued")
    yield ev.StateChanged("running")
    for phase in ("load", "encode"):
        yield ev.PhaseStarted(phase, "")
        yield ev.PhaseFinished(phase, 0.5)
    yield ev.PhaseStarted("denoise")
    for step in range(1, 5):
        yield ev.StepFinished("denoise", step, 4, 1.5, 1.25, 1.25 * (4 - step))
        yield sampled(step)
        yield ev.PreviewReady(step, "preview.webp")
    yield ev.StateChanged("decoding")
    yield ev.PhaseStarted("decode")
    for frame in (1, 2):
        yield ev.StepFinished("decode", frame, 2, 0.1, 0.1, 0.1 * (2 - frame))
    yield ev.Done("video.mp4", 75.0, 2)
    yield ev.StateChanged("done")


def view_of(*events: ev.Event) -> JobView:
    view = JobView()
    for event in events:
        view = advance(view, event)
    return view


def uploaded_picture(tmp_path: Path, name: str) -> Path:
    """A picture where Gradio puts those that browsers send."""
    upload = Path(get_upload_folder()) / name / "p.jpg"
    upload.parent.mkdir(parents=True, exist_ok=True)
    return small_picture(tmp_path).rename(upload)


def is_skip(update: Any) -> bool:
    return isinstance(update, dict) and update == {"__type__": "update"}


@contextmanager
def scripted_service(folder: Path) -> Iterator[JobService]:
    """A service whose worker follows a script."""
    fake_model(folder)
    settings, probe = settings_in(folder)
    with JobService(settings, probe, worker_command=SCRIPTED) as running:
        yield running
