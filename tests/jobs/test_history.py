"""A job's events survive a restart: read back as they were, and numbered on."""

from __future__ import annotations

import json
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2v.events import Failed, MemorySampled, Noted, PhaseStarted, StateChanged, StepFinished
from i2v.jobs.job.history import EVENTS, MEMORY, mend_records, read_history
from i2v.jobs.job.record import JobRecord
from i2v.messages import message
from tests.jobs.support import new_job, ran_to, with_folder

STEP = StepFinished("denoise", 2, 5, 0.1, 0.1, 0.3)
MEMORY_EVENT = MemorySampled("denoise", 2, 1, 2, 3, 4, 5, "simulated")
HALFWAY = (*ran_to("running"), PhaseStarted("denoise"), STEP, MEMORY_EVENT, Noted("info", message("jobs.closed")))


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / EVENTS).read_text().splitlines()]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    record = with_folder(tmp_path, new_job(), *HALFWAY)
    assert [(r.seq, r.event) for r in read_history(record.folder)] == list(enumerate(HALFWAY))
    assert [r.time for r in read_history(record.folder)] == [line["time"] for line in lines(record.folder)]
    assert [r.seq for r in read_history(record.folder, after=3)] == [4, 5]
    assert [r.event for r in read_history(record.folder, only=("state_changed",))] == list(HALFWAY[:2])
    assert list(read_history(tmp_path / "nowhere")) == []


@given(st.data())
def test_a_record_cut_anywhere_gives_its_whole_lines(data: st.DataObject) -> None:
    whole = b"".join(
        json.dumps({"seq": n, "time": 1.5, "type": "cancelled", "step": n}).encode() + b"\n" for n in range(4)
    )
    cut = data.draw(st.integers(0, len(whole)))
    tail = data.draw(st.sampled_from([b"", b"\0" * 50, b'{"seq": 9']))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / EVENTS).write_bytes(whole[:cut] + tail)
        complete = whole[:cut].count(b"\n")
        assert [r.seq for r in read_history(folder)] == list(range(complete))
        mend_records(folder)
        assert (folder / EVENTS).read_bytes() == whole[: whole[:cut].rfind(b"\n") + 1]


def test_a_torn_line_longer_than_a_block_goes_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / EVENTS).write_bytes(b"{}\n" + b"x" * 200_000)
    (tmp_path / MEMORY).write_bytes(b"time\n1\n2")
    mend_records(tmp_path)
    assert (tmp_path / EVENTS).read_bytes() == b"{}\n"
    assert (tmp_path / MEMORY).read_bytes() == b"time\n1\n"


@pytest.mark.parametrize(
    "odd",
    ["", "[]", "{}", "null", "7", '{"seq": 1}', '{"seq": "x", "time": 1, "type": "cancelled", "step": 1}',
     '{"seq": 2, "time": 1, "type": "of a later version"}', '{"seq": 2, "time": 1, "type": "noted", "message": 5}',
     '{"seq": 0, "time": 1, "type": "cancelled", "step": 1}', "\0" * 9, "[" * 100_000],
)  # fmt: skip
def test_a_line_that_is_none_is_left_out(tmp_path: Path, odd: str) -> None:
    record = with_folder(tmp_path, new_job(), *HALFWAY[:2])
    with (record.folder / EVENTS).open("a") as file:
        file.write(odd + "\n")
        file.write('{"seq": 7, "time": 1, "type": "cancelled", "step": 1}\n')
    assert [r.seq for r in read_history(record.folder)] == [0, 1, 7]


# --- a record taken up again ---


def test_a_record_goes_on_where_it_stopped(tmp_path: Path) -> None:
    job = new_job()
    before = with_folder(tmp_path, job, *HALFWAY)
    with (before.folder / EVENTS).open("a") as file:
        file.write('{"seq": 6, "time": 1, "type": "cance')
    with (before.folder / MEMORY).open("a") as file:
        file.write("1,de")
    record = JobRecord.resume(job, tmp_path)  # the list says that it waits again
    assert record.status() == replace(before.status(), state="queued", phase="", seconds_left=None)
    assert (record.entry, record.folder) == (job.entry, tmp_path / job.folder)
    record.append(StateChanged("running"))
    record.append(MEMORY_EVENT)
    record.append(Failed(message("jobs.closed")))
    events = [*HALFWAY, *map(StateChanged, ("queued", "running")), MEMORY_EVENT, Failed(message("jobs.closed"))]
    expected = list(enumerate([*events, StateChanged("failed")]))
    assert list(record.follow()) == expected
    assert [(r.seq, r.event) for r in read_history(record.folder)] == expected
    assert [line["seq"] for line in lines(record.folder)] == list(range(len(expected)))
    assert [row.count(",") for row in (record.folder / MEMORY).read_text().splitlines()] == [9, 9, 9]
    assert list(record.follow(8)) == expected[9:]


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_an_ended_record_reads_as_it_ended(tmp_path: Path, state: str) -> None:
    job = new_job(state=state)
    before = with_folder(tmp_path, job, *ran_to(state))
    written = (before.folder / EVENTS).read_bytes()
    record = JobRecord.resume(job, tmp_path)
    assert list(record.follow()) == list(before.follow())
    assert record.status() == before.status()
    assert (record.folder / EVENTS).read_bytes() == written


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
@pytest.mark.parametrize("happened", [HALFWAY, ()])
def test_a_follower_of_a_job_whose_end_was_not_recorded_comes_to_an_end(
    tmp_path: Path, state: str, happened: tuple
) -> None:
    """The list is right: the power went between its word and the record's."""
    error = message("engine.not_finite", precision="float16") if state == "failed" else None
    job = new_job(state=state, error=error)
    with_folder(tmp_path, job, *happened)
    record = JobRecord.resume(job, tmp_path)
    assert [event for _, event in record.follow()][-1] == StateChanged(state)
    assert (record.ended, record.status().error) == (True, error)
    assert [r.event for r in read_history(record.folder)][-1] == StateChanged(state)


def test_numbers_left_out_stay_left_out(tmp_path: Path) -> None:
    job = new_job(state="running")
    folder = with_folder(tmp_path, job, *HALFWAY).folder
    text = (folder / EVENTS).read_text().splitlines(keepends=True)
    (folder / EVENTS).write_text("".join([*text[:2], "garbage\n", *text[3:]]))
    record = JobRecord.resume(job, tmp_path)
    found = []

    def follow() -> None:
        found.extend(record.follow(0))

    follower = threading.Thread(target=follow)
    follower.start()
    record.append(Failed(message("jobs.closed")))
    follower.join(120)
    assert [number for number, _ in found] == [1, 3, 4, 5, 6, 7]


def test_a_record_that_cannot_be_read_is_followed_all_the_same(tmp_path: Path) -> None:
    job = new_job(state="done")
    folder = with_folder(tmp_path, job, *ran_to("done")).folder
    (folder / EVENTS).unlink()
    (folder / EVENTS).mkdir()
    events = [event for _, event in JobRecord.resume(job, tmp_path).follow()]
    assert events[-1] == StateChanged("done")
    assert events[0].message.id == "jobs.record_incomplete"
