"""What tests of the tabs share: a service whose jobs end without a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from jobs_support import SCRIPTED, fake_model, settings_in, small_picture, values

from i2v.events import Done, MemorySampled, PhaseFinished, StateChanged
from i2v.jobs.service import JobService
from tests.video_support import moving_frames, write_video

FRAMES = moving_frames(2, 64, 64)


@contextmanager
def resting_service(folder: Path, **overrides: object) -> Iterator[JobService]:
    """A service that starts nothing by itself."""
    fake_model(folder)
    settings, probe = settings_in(folder, **{"max_jobs_per_minute": 1000, **overrides})
    with JobService(settings, probe, worker_command=SCRIPTED) as service:
        service.pause_queue()
        yield service


def submit(
    service: JobService,
    folder: Path,
    prompt: str = "go",
    owner: str = "local",
    *,
    pictured: bool = True,
    clip: Path | None = None,
    last_picture: Path | None = None,
    **more: object,
) -> str:
    """A waiting job, of a photograph unless it is said otherwise."""
    picture = small_picture(folder) if pictured else None
    return service.submit(values(prompt, **more), picture, owner, clip=clip, last_picture=last_picture)


def finish(service: JobService, folder: Path, prompt: str = "go", **more: object) -> str:
    """A finished job with a video of two frames, as a run leaves it."""
    job_id = submit(service, folder, prompt, **more)
    board = service._board
    for state in ("running", "decoding"):
        assert board.change(job_id, state, StateChanged(state), expected=("queued", "running"))
    job = service.status(job_id)
    write_video(job.folder / "video.mp4", FRAMES, fps=8, request=job.request.to_json())
    record = board.record(job_id)
    record.append(PhaseFinished("denoise", 2.5))
    record.append(MemorySampled("denoise", 1, 2**30, 2**31, 2**31, 2**33, 2**30, "simulated", 3 * 2**29))
    board.ended(job_id, ("done",), Done("video.mp4", 4.0, 2))
    return job_id


def chosen(act: object, job_id: object, **more: object) -> gr.EventData:
    """What arrives when a button of a list is pressed."""
    return gr.EventData(None, {"act": act, "id": job_id, **more})


def is_skip(update: object) -> bool:
    """Whether an update leaves what the browser has."""
    return isinstance(update, dict) and update == {"__type__": "update"}
