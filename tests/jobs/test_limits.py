"""How many jobs a person may send within a minute."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs_support import SCRIPTED, fake_model, settings_in, small_picture, values

from i2v.jobs.list.board import MINUTE, Board
from i2v.jobs.service import JobService
from i2v.messages import UserError
from i2v.video.picture import load_picture


def test_a_person_who_sends_too_fast_is_refused_and_nobody_else(tmp_path: Path) -> None:
    fake_model(tmp_path)
    picture = small_picture(tmp_path)
    settings, probe = settings_in(tmp_path, max_jobs_per_minute=2)
    with JobService(settings, probe, worker_command=SCRIPTED) as service:
        service.pause_queue()
        first = service.submit(values(), picture, "ann")
        service.retry(first)
        before = sorted(settings.outputs_dir.glob("????-??-??/*"))
        with pytest.raises(UserError) as refused:
            service.submit(values(), picture, "ann")
        assert refused.value.message.id == "jobs.too_fast"
        assert 0 < refused.value.message.params["seconds"] <= MINUTE
        with pytest.raises(UserError, match="within a minute"):
            service.retry(first)
        # What was sent and deleted again was sent all the same.
        service.cancel(first)
        service.delete(first)
        with pytest.raises(UserError, match="within a minute"):
            service.submit(values(), picture, "ann")
        service.submit(values(), picture, "ben")
        assert len(sorted(settings.outputs_dir.glob("????-??-??/*"))) == len(before)  # one less, and Ben's
        assert [job.owner for job in service.jobs()] == ["ann", "ben"]


def test_jobs_that_come_at_once_are_counted_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All have passed the first look before any is in the list."""
    fake_model(tmp_path)
    picture, together = small_picture(tmp_path), threading.Barrier(4)

    def load(*args: Any, **kwargs: Any) -> Any:
        together.wait(20)
        return load_picture(*args, **kwargs)

    monkeypatch.setattr("i2v.jobs.intake.load_picture", load)
    settings, probe = settings_in(tmp_path, max_jobs_per_minute=3)
    with JobService(settings, probe, worker_command=SCRIPTED) as service, ThreadPoolExecutor(4) as pool:
        service.pause_queue()
        sent = [pool.submit(service.submit, values(), picture, "ann") for _ in range(4)]
        errors = [error for error in (one.exception(20) for one in sent) if error]
        assert [error.message.id for error in errors if isinstance(error, UserError)] == ["jobs.too_fast"]
        assert len(errors) == 1
        assert len(service.jobs()) == len(sorted(settings.outputs_dir.glob("????-??-??/*"))) == 3


class _Sent:
    """A list of jobs that knows only when they were sent."""

    def __init__(self, times: list[float]) -> None:
        self.times = times

    def submitted(self, _owner: str, since: float, until: float) -> list[float]:
        return sorted(sent for sent in self.times if since < sent <= until)


@given(ages=st.lists(st.integers(-100, 200), max_size=12), limit=st.integers(1, 4))
def test_after_the_seconds_that_are_told_one_more_job_is_taken_and_not_before(ages: list[int], limit: int) -> None:
    """`ages`: seconds since each was sent; below 0 by a clock that was put back."""
    board, now = Board.__new__(Board), time.time() // 1
    board.store = _Sent([now - age for age in ages])  # type: ignore[assignment]
    try:
        board.refuse_if_too_fast("ann", now, limit)
    except UserError as error:
        wait = error.message.params["seconds"]
        board.store.times = [sent for sent in board.store.times if sent <= now]  # type: ignore[attr-defined]
        board.refuse_if_too_fast("ann", now + wait, limit)
        with pytest.raises(UserError):
            board.refuse_if_too_fast("ann", now + wait - 1, limit)
    else:
        assert sum(0 <= age < MINUTE for age in ages) < limit
