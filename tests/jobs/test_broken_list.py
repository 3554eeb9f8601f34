"""A list that cannot be read is kept aside and made anew from the job folders."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from i2v.events import Cancelled, Event, Failed, Paused, StateChanged, to_json
from i2v.jobs.job.bin import Bin
from i2v.jobs.job.folder import create_job_folder
from i2v.jobs.job.states import AT_WORK, STATES
from i2v.jobs.job.stored import StoredJob
from i2v.jobs.list import file as list_file
from i2v.jobs.list.file import set_aside
from i2v.jobs.list.schema import MIGRATIONS
from i2v.jobs.list.store import JobStore
from i2v.messages import Message, UserError, message
from tests.jobs.support import DAY, PLAN, REQUEST, new_job, ran_to, with_folder

PAGE = 4096


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A folder with one job in each state, and a dozen more that are done, so that the list has many pages."""
    with JobStore(tmp_path) as store:
        for state in (*STATES, *["done"] * 12):
            planned = {"ladder": ["x" * 300]}
            job = new_job("ann", priority=len(state), planned=planned, card="GPU-1", seconds_predicted=2.5, parent="p")
            store.add(job)
            with_folder(tmp_path, job, *ran_to(state))
            for event in ran_to(state)[1:]:
                if hasattr(event, "state"):
                    store.transition(job.id, event.state)
            if state in ("done", "failed", "cancelled"):
                error = message("engine.not_finite", precision="float16") if state == "failed" else None
                store.transition(job.id, state, error=error)
    return tmp_path


def found_again(kept: list[StoredJob], now: list[StoredJob]) -> None:
    """`now` is `kept`, but for times, which are the record's, and for what had been at work."""
    times = {"started": None, "ended": None}
    assert [replace(job, **times) for job in now] == [
        replace(job, state="queued" if job.state in AT_WORK else job.state, **times) for job in kept
    ]
    for before, after in zip(kept, now, strict=True):
        for name in times:
            old, new = getattr(before, name), getattr(after, name)
            assert (old is None) == (new is None)
            assert old is None or abs(new - old) < 60


def broken(path: Path, spoil: Callable[[Path], object]) -> list[StoredJob]:
    """The list as it is, and then spoiled."""
    with JobStore(path.parents[1]) as store:
        kept = store.jobs()
    assert not path.with_name(path.name + "-wal").exists()
    spoil(path)
    return kept


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("kept")


def run_sql(*statements: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        db = sqlite3.connect(path)
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.close()

    return spoil


def spoil_index(path: Path) -> None:
    """Every row reads well, and what finds them does not."""
    db = sqlite3.connect(path)
    root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs_by_state'").fetchone()[0]
    db.close()
    overwrite(path, (root - 1) * PAGE + PAGE // 2, b"\xff" * (PAGE // 2))


SPOILED: dict[str, Callable[[Path], object]] = {
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a page short": lambda path: path.write_bytes(path.read_bytes()[:-PAGE]),
    "the header only": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "a few bytes": lambda path: path.write_bytes(path.read_bytes()[:7]),
    "noise": lambda path: path.write_bytes(random.Random(1).randbytes(5 * PAGE)),
    "noise after the header": lambda path: overwrite(path, 100, random.Random(2).randbytes(6 * PAGE)),
    "an index": spoil_index,
    "a text file": lambda path: path.write_text("my notes\n" * 2000),
    "a directory": as_directory,
    "another program's": run_sql("PRAGMA application_id = 7"),
    "another program's, without a version": run_sql("PRAGMA user_version = 0"),
    "without a table": run_sql("DROP TABLE served"),
    "without a column": run_sql("ALTER TABLE jobs RENAME COLUMN card TO cards"),
    "with a state nobody knows": run_sql("UPDATE jobs SET state = 'flying' WHERE place = 3"),
    "with a request that is none": run_sql("UPDATE jobs SET request = '[]' WHERE place = 4"),
    "with half a plan": run_sql("UPDATE jobs SET plan = substr(plan, 1, 9) WHERE place = 5"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_list_is_kept_and_made_anew(outputs: Path, how: str) -> None:
    path = outputs / ".i2v" / "jobs.sqlite"
    kept = broken(path, SPOILED[how])
    spoiled = path.read_bytes() if path.is_file() else None
    with JobStore(outputs) as store:
        aside = path.with_name("jobs.sqlite.broken-1")
        assert store.notes == (message("jobs.list_rebuilt", kept=str(aside), count=len(kept)),)
        found_again(kept, store.jobs())
        assert [job.place for job in reversed(store.jobs())] == list(range(1, len(kept) + 1))
    assert (aside.read_bytes() if aside.is_file() else (aside / "inside").read_text()) == (spoiled or "kept")
    with JobStore(outputs) as store:
        assert store.notes == ()
        found_again(kept, store.jobs())


def test_a_list_cut_anywhere_is_never_half_believed(outputs: Path) -> None:
    path = outputs / ".i2v" / "jobs.sqlite"
    kept = broken(path, lambda path: None)
    whole, pick = path.read_bytes(), random.Random(3)
    for _ in range(20):
        path.write_bytes(whole[: pick.randrange(1, len(whole))])
        with JobStore(outputs) as store:
            assert [note.id for note in store.notes] == ["jobs.list_rebuilt"]
            assert {job.id for job in store.jobs()} == {job.id for job in kept}


def test_bytes_changed_anywhere_never_keep_it_from_opening(outputs: Path) -> None:
    """SQLite has no checksums: a letter changed inside a value is taken for the value. What it can see, it says."""
    path = outputs / ".i2v" / "jobs.sqlite"
    kept = broken(path, lambda path: None)
    whole, pick = path.read_bytes(), random.Random(4)
    for _ in range(20):
        path.write_bytes(whole)
        overwrite(path, pick.randrange(len(whole) - 64), pick.randbytes(64))
        with JobStore(outputs) as store:
            assert len(store.jobs()) == len(kept)


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_without_a_list_the_folders_are_taken_in(outputs: Path, how: str) -> None:
    path = outputs / ".i2v" / "jobs.sqlite"
    kept = broken(path, lambda path: path.unlink() if how == "gone" else path.write_bytes(b""))
    with JobStore(outputs) as store:
        assert store.notes == (message("jobs.list_found", folder=str(outputs), count=len(kept)),)
        found_again(kept, store.jobs())


def test_a_newer_list_is_kept_aside(outputs: Path) -> None:
    path = outputs / ".i2v" / "jobs.sqlite"
    kept = broken(path, run_sql(f"PRAGMA user_version = {len(MIGRATIONS) + 1}"))
    aside = path.with_name("jobs.sqlite.broken-1")
    with JobStore(outputs) as store:
        assert store.notes == (message("jobs.list_newer", kept=str(aside), count=len(kept)),)
        found_again(kept, store.jobs())


def test_what_belongs_to_a_list_goes_aside_with_it(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    for number in (1, 2):
        for suffix in ("", "-wal"):
            path.with_name(path.name + suffix).write_text(f"{number}{suffix}")
        assert set_aside(path) == tmp_path / f"jobs.sqlite.broken-{number}"
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        f"jobs.sqlite.broken-{n}{s}": f"{n}{s}" for n in (1, 2) for s in ("", "-wal")
    }


def test_the_disk_fills_while_the_list_is_made_anew(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the new list or nothing: the next start finds the folders again."""
    path = outputs / ".i2v" / "jobs.sqlite"
    kept = broken(path, SPOILED["noise"])

    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with monkeypatch.context() as meanwhile:
        taken = []
        insert = list_file.insert
        meanwhile.setattr(
            list_file, "insert", lambda db, job: taken.append(insert(db, job)) if len(taken) < 5 else full()
        )
        with pytest.raises(UserError) as caught:
            JobStore(outputs)
        assert caught.value.message.id == "jobs.outputs_full"
        assert len(taken) == 5
    with JobStore(outputs) as store:
        found_again(kept, store.jobs())


# --- folders the list does not know ---


def test_a_folder_whose_row_was_never_written_is_taken_in(tmp_path: Path) -> None:
    with JobStore(tmp_path) as store:
        known = store.add(new_job())
        with_folder(tmp_path, known)
    lost = new_job()
    with_folder(tmp_path, lost, *ran_to("decoding"))
    with JobStore(tmp_path) as store:
        assert [note.id for note in store.notes] == ["jobs.list_found"]
        assert [(job.id, job.state, job.attempts) for job in store.jobs()] == [
            (lost.id, "queued", 1),
            (known.id, "queued", 0),
        ]


LENT = message("jobs.lent", program="a game")


@pytest.mark.parametrize(
    ("happened", "state", "error"),
    [
        ((Paused(1, LENT), StateChanged("paused")), "paused", LENT),
        ((Paused(1, LENT), StateChanged("paused"), StateChanged("of a later version")), "paused", LENT),
        ((Paused(1, LENT), StateChanged("paused"), StateChanged("queued")), "queued", None),
        ((Paused(1, LENT), StateChanged("paused"), Cancelled(1)), "cancelled", None),
        ((Paused(1, LENT),), "queued", None),  # the app ended before the job was laid down
        ((Paused(1, LENT), StateChanged("paused"), Failed(message("jobs.closed"))), "failed", message("jobs.closed")),
    ],
)
def test_a_job_taken_in_again_has_the_reason_for_its_state_and_no_other(
    tmp_path: Path, happened: tuple[Event, ...], state: str, error: Message | None
) -> None:
    job = new_job()
    with_folder(tmp_path, job, *ran_to("running"), *happened)
    with JobStore(tmp_path) as store:
        found = store.get(job.id)
    assert (found.state, found.error, found.attempts) == (state, error, 1)


def test_older_folders_without_a_ticket(tmp_path: Path) -> None:
    """Finished ones are listed; unfinished ones cannot be run without their model's entry, and say so."""
    for name, state in (("20261119-101112-aaaaaa", "done"), ("20261119-101112-bbbbbb", "running"), ("odd", "done")):
        create_job_folder(tmp_path, name, DAY, REQUEST, PLAN, None)
        for number, event in enumerate(ran_to(state)):
            with (tmp_path / "2026-11-20" / name / "events.jsonl").open("a") as file:
                file.write(json.dumps({"seq": number, "time": 5.0 + number, **to_json(event)}) + "\n")
        if state == "done":
            with (tmp_path / "2026-11-20" / name / "events.jsonl").open("a") as file:
                file.write('{"seq": 4, "time": 9.0, "type": "state_changed", "state": "done"}\n')
    with JobStore(tmp_path) as store:
        jobs = {job.id[-6:]: job for job in store.jobs()}
    assert {name: (job.state, job.ended is not None) for name, job in jobs.items()} == {
        "aaaaaa": ("done", True),
        "bbbbbb": ("failed", True),
        "odd": ("done", True),
    }
    assert (jobs["aaaaaa"].started, jobs["aaaaaa"].ended, jobs["aaaaaa"].attempts) == (6.0, 9.0, 1)
    assert jobs["bbbbbb"].error == message("jobs.closed")
    assert all(job.entry is None and job.request == REQUEST and job.plan == PLAN for job in jobs.values())


def test_a_video_without_a_record_is_a_finished_job(tmp_path: Path) -> None:
    job = new_job()
    with_folder(tmp_path, job)
    (tmp_path / job.folder / "video.mp4").write_bytes(b"video")
    with JobStore(tmp_path) as store:
        assert store.get(job.id).state == "done"


def test_folders_that_are_no_jobs_are_left_alone(tmp_path: Path) -> None:
    good = new_job()
    with_folder(tmp_path, good)
    day = tmp_path / "2026-11-20"
    shutil.copytree(tmp_path / good.folder, day / "a copy")
    with_folder(tmp_path, moved := new_job())
    (tmp_path / moved.folder).rename(day / "under another name")
    shutil.copytree(tmp_path / good.folder, day / f".{new_job().id}.unfinished")
    shutil.copytree(tmp_path / good.folder, tmp_path / "my folder" / good.id)
    (day / "empty").mkdir()
    (day / "a file").touch()
    for name, spoil in {
        "torn": ("request.json", '{"model": "na'),
        "list": ("request.json", "[]"),
        "deep": ("request.json", "[" * 100_000),
        "ticketless": ("job.json", "{}"),
        "number": ("job.json", json.dumps({**good.ticket(), "id": "number", "priority": 10**30})),
        "surrogate": ("job.json", json.dumps({**good.ticket(), "id": "surrogate", "owner": "\ud800"})),
        "parent": ("job.json", json.dumps({**good.ticket(), "id": "parent", "parent": {"a": 1}})),
        "nan": ("job.json", json.dumps({**good.ticket(), "id": "nan", "submitted": float("nan")})),
    }.items():
        shutil.copytree(tmp_path / good.folder, day / name)
        (day / name / spoil[0]).write_text(spoil[1])
    before = sorted(tmp_path.rglob("*"))
    with JobStore(tmp_path) as store:
        assert [job.id for job in store.jobs()] == [good.id]
    assert set(before) <= set(tmp_path.rglob("*"))


def test_the_bin_and_the_list_agree_after_a_crash_between_them(tmp_path: Path) -> None:
    with JobStore(tmp_path) as store:
        marked, moved, emptied, lost, running = (
            store.add(new_job(state=s)) for s in ("done", "done", "done", "failed", "paused")
        )
        for job in (marked, moved, emptied, lost, running):
            with_folder(tmp_path, job, *ran_to(job.state))
        store.delete(marked.id)  # its folder has not moved
        Bin(tmp_path).put(tmp_path / moved.folder)  # its row does not know
        store.delete(emptied.id)
        shutil.rmtree(tmp_path / emptied.folder)
    with JobStore(tmp_path) as store:
        assert {job.id for job in store.jobs()} == {marked.id, lost.id, running.id}
        assert [job.id for job in store.jobs(deleted=True)] == [moved.id]
    Bin(tmp_path).put(tmp_path / lost.folder)
    (tmp_path / ".i2v" / "jobs.sqlite").unlink()
    with JobStore(tmp_path) as store:
        assert {job.id for job in store.jobs(deleted=True)} == {moved.id, lost.id}
        assert {job.id for job in store.jobs()} == {marked.id, running.id}
