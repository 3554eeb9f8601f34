"""A finished job's video as other files: no worker is started, nothing is written twice, and the disk is not filled."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from jobs_support import wait_until
from tabs_support import finish, resting_service, submit

from i2v.jobs.job import exports
from i2v.jobs.job.exports import EXPORT_KEYS, KEPT
from i2v.jobs.service import JobService
from i2v.messages import UserError
from i2v.video.look import LIMITS
from i2v.video.metadata import probe_video, read_metadata


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with resting_service(tmp_path) as running:
        yield running


def test_no_worker_is_started(service: JobService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def refuse(*given: Any) -> None:
        started.append(given)
        raise OSError("no worker here")

    monkeypatch.setattr("i2v.jobs.service.Worker", refuse)
    job_id = finish(service, tmp_path, fps=8)
    service.pause_queue(False)
    video, before = service.result(job_id), service.events(job_id)
    request = read_metadata(video)
    for values in (
        {"fps": 3},
        {"format": "gif"},
        {"warmth": 0.5},
        {"format": "webm", "quality": "small", "contrast": 2},
    ):
        assert service.export(job_id, values).stat().st_size > 0
    assert service.export(job_id, {"warmth": 0.5}).name == "video-8fps-good-warmth0.5.mp4"
    assert read_metadata(service.export(job_id, {"warmth": 0.5})) == request
    assert (len(service.jobs()), service.events(job_id), started) == (1, before, [])
    service.cancel(submit(service, tmp_path))
    submit(service, tmp_path)
    wait_until(lambda: started)  # a job that runs would have been seen


def test_what_is_there_is_not_written_again(
    service: JobService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor by many that ask at once."""
    written = []

    def write(source: Path, target: Path, **more: Any) -> None:
        written.append(target)
        reencode(source, target, **more)

    reencode = exports.reencode
    monkeypatch.setattr(exports, "reencode", write)
    job_id = finish(service, tmp_path)
    with ThreadPoolExecutor(4) as pool:
        paths = {asked.result(60) for asked in [pool.submit(service.export, job_id, {"fps": 4}) for _ in range(4)]}
    (path,) = paths
    assert written == [path]
    assert probe_video(path).fps == 4
    assert service.export(job_id, {"fps": 4.0, "saturation": 1.0, "format": "MP4"}) == path
    assert written == [path]


def test_the_newest_are_kept_and_the_video_always(
    service: JobService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "reencode", lambda source, target, **_: target.write_bytes(b"video"))
    job_id = finish(service, tmp_path)
    folder = service.status(job_id).folder
    (folder / "video-partial.mp4").write_bytes(b"kept")
    others = sorted(folder.iterdir())
    made = [service.export(job_id, {"fps": rate}) for rate in range(1, KEPT + 4)]
    left = [path for path in made if path.is_file()]
    assert len(left) == KEPT
    assert made[-1] in left
    assert sorted(path for path in folder.iterdir() if path not in made) == others


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"format": "avi"}, "settings.bad_choice"),
        ({"format": "../x"}, "settings.bad_choice"),
        ({"quality": "bets"}, "settings.bad_choice_near"),
        ({"fps": 0}, "settings.bad_number"),
        ({"fps": "fast"}, "settings.bad_number"),
        ({"warmth": 1.01}, "settings.bad_number"),
        ({"warmht": 1}, "request.unknown_key_near"),
        ({"prompt": "go"}, "request.unknown_key"),
        ({"format": "gif", "fps": 60}, "video.gif_too_fast"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_left(
    service: JobService, tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    job_id = finish(service, tmp_path)
    before = sorted(service.status(job_id).folder.iterdir())
    with pytest.raises(UserError) as caught:
        service.export(job_id, values)
    assert caught.value.message.id == said
    assert sorted(service.status(job_id).folder.iterdir()) == before
    waiting = submit(service, tmp_path)
    for other, reason in ((waiting, "jobs.not_done"), ("nobody", "jobs.unknown")):
        with pytest.raises(UserError) as caught:
            service.export(other)
        assert caught.value.message.id == reason


def test_every_value_of_a_look_can_be_asked_for() -> None:
    assert set(EXPORT_KEYS) >= set(LIMITS)
