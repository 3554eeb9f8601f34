"""Deleted jobs come back whole; tidying keeps within its budgets and never takes what somebody may want."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import settings

from i2v.jobs.job import bin as bin_module
from i2v.jobs.job.bin import Bin, Binned, beyond
from i2v.jobs.job.states import STATES, State
from i2v.jobs.job.stored import StoredJob
from i2v.jobs.list.tidy import DAY_SECONDS, STALE_SECONDS, Budgets, Freed, Leftover, surplus, survey, tidy
from i2v.messages import UserError
from i2v.units import GIB
from tests.jobs.support import new_job, ran_to, with_folder

NOW = 1_800_000_000.0


def made(outputs: Path, state: State = "done", **files: int) -> StoredJob:
    """A job with its folder, and files of so many bytes in it, of which the names have __ for a dot."""
    job = new_job(state=state)
    with_folder(outputs, job, *ran_to(state))
    for name, size in files.items():
        (outputs / job.folder / name.replace("__", ".")).write_bytes(b"x" * size)
    return job


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def said(call: object, *args: object) -> str:
    with pytest.raises(UserError) as caught:
        call(*args)
    return caught.value.message.id


# --- the bin ---


def test_a_binned_job_comes_back_as_it_was(tmp_path: Path) -> None:
    job = made(tmp_path, video__mp4=1000)
    folder, before = tmp_path / job.folder, tree(tmp_path / job.folder)
    inode = folder.stat().st_ino
    place = Bin(tmp_path).put(folder)
    assert place == tmp_path / ".i2v" / "bin" / job.id
    assert not folder.exists()
    (entry,) = Bin(tmp_path).entries()
    assert (entry.id, entry.size_bytes) == (job.id, sum(map(len, before.values())))
    assert time.time() - entry.deleted < 60
    shutil.rmtree(folder.parent)  # nothing else was made that day
    Bin(tmp_path).restore(job.id, folder)
    assert tree(folder) == before
    assert folder.stat().st_ino == inode  # moved, never copied
    assert Bin(tmp_path).entries() == []


def test_the_bin_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    job = made(tmp_path)
    folder = tmp_path / job.folder
    assert said(Bin(tmp_path).restore, job.id, folder) == "jobs.unknown"
    Bin(tmp_path).put(folder)
    assert said(Bin(tmp_path).put, folder) == "jobs.unknown"
    folder.mkdir()
    (folder / "mine").touch()
    assert said(Bin(tmp_path).restore, job.id, folder) == "jobs.place_taken"
    assert [entry.id for entry in Bin(tmp_path).entries()] == [job.id]
    for odd in ("", ".", "..", "../..", "a/b", "/etc", ".hidden", "a\0b"):
        assert said(Bin(tmp_path).remove, odd) == "jobs.unknown"
    (tmp_path / "file").touch()
    assert said(Bin(tmp_path / "file").put, folder) == "jobs.outputs_not_writable"


def test_emptying_by_age_and_size(tmp_path: Path) -> None:
    bin_ = Bin(tmp_path)
    jobs = [made(tmp_path, video__mp4=10_000) for _ in range(4)]
    for age_days, job in enumerate(reversed(jobs)):
        os.utime(bin_.put(tmp_path / job.folder), (0, time.time() - age_days * DAY_SECONDS - 60))
    assert bin_.empty(days=10, within_bytes=10**9) == ()
    assert [entry.id for entry in bin_.empty(days=3)] == [jobs[0].id]
    room_for_two = 2.5 * max(entry.size_bytes for entry in bin_.entries())
    assert [entry.id for entry in bin_.empty(days=10, within_bytes=room_for_two)] == [jobs[1].id]
    assert [entry.id for entry in bin_.empty()] == [jobs[2].id, jobs[3].id]
    assert os.listdir(tmp_path / ".i2v" / "bin") == []


def test_a_removal_that_was_cut_off_leaves_no_half_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = made(tmp_path)
    Bin(tmp_path).put(tmp_path / job.folder)

    def cut_off(path: Path) -> None:
        (path / "plan.json").unlink()
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(bin_module.shutil, "rmtree", cut_off)
        assert said(Bin(tmp_path).remove, job.id) == "jobs.outputs_not_writable"
    assert Bin(tmp_path).entries() == []
    Bin(tmp_path).remove(job.id)
    assert os.listdir(tmp_path / ".i2v" / "bin") == []


@given(st.lists(st.tuples(st.floats(0, 60), st.integers(0, 50))), st.floats(0, 60), st.integers(0, 200))
def test_what_the_bin_gives_up(rows: list[tuple[float, int]], days: float, within: int) -> None:
    entries = [Binned(str(n), Path(str(n)), NOW - age * DAY_SECONDS, size) for n, (age, size) in enumerate(rows)]
    going = beyond(entries, NOW, days, within)
    staying = [entry for entry in entries if entry not in going]
    assert sum(entry.size_bytes for entry in staying) <= within
    assert all(NOW - entry.deleted < days * DAY_SECONDS for entry in staying)
    young = [entry for entry in going if NOW - entry.deleted < days * DAY_SECONDS]
    assert all(g.deleted <= s.deleted for g in young for s in staying)
    if young:  # not one more than need be
        newest = max(young, key=lambda entry: (entry.deleted, entry.id))
        assert sum(entry.size_bytes for entry in (*staying, newest)) > within


# --- what tidying decides ---


BUDGETS = Budgets(bin_days=30, bin_bytes=100, latents_bytes=100, cache_bytes=100)
found_items = st.builds(
    Leftover,
    kind=st.sampled_from(["temporary", "latents", "cache", "bin"]),
    path=st.uuids().map(lambda u: Path(str(u))),
    size_bytes=st.integers(0, 60),
    used=st.floats(NOW - 40 * DAY_SECONDS, NOW),
    needed=st.booleans(),
)
BUDGET_OF = {"latents": BUDGETS.latents_bytes, "cache": BUDGETS.cache_bytes, "bin": BUDGETS.bin_bytes}


@given(st.lists(found_items, max_size=20))
def test_what_is_needed_stays_and_the_rest_is_within_budget(found: list[Leftover]) -> None:
    found = [replace(item, needed=item.needed and item.kind in ("temporary", "latents")) for item in found]
    going = surplus(found, BUDGETS, NOW)
    assert len(set(going)) == len(going) <= len(found)
    assert set(going) <= set(found)
    assert not [item for item in going if item.needed]
    staying = [item for item in found if item not in going]
    for kind, budget in BUDGET_OF.items():
        kept, gone = ([item for item in items if item.kind == kind] for items in (staying, going))
        spare = [item for item in kept if not item.needed]
        assert sum(item.size_bytes for item in kept) <= budget or not spare
        early = [item for item in gone if kind != "bin" or NOW - item.used < BUDGETS.bin_days * DAY_SECONDS]
        assert all(g.used <= s.used for g in early for s in spare)
        if early:  # not one more than need be
            last = max(early, key=lambda item: (item.used, str(item.path)))
            assert sum(item.size_bytes for item in (*kept, last)) > budget
    for item in found:
        if item.kind == "temporary" and not item.needed:
            assert (item in going) == (NOW - item.used >= STALE_SECONDS)
        if item.kind == "bin" and NOW - item.used >= BUDGETS.bin_days * DAY_SECONDS:
            assert item in going


# --- what tidying does ---

NOTHING = Budgets(bin_days=0, bin_bytes=0, latents_bytes=0, cache_bytes=0)
PLENTY = Budgets(bin_days=30, bin_bytes=10**9, latents_bytes=10**9, cache_bytes=10**9)


def aged(path: Path, seconds: float) -> Path:
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def gone(freed: Freed) -> set[str]:
    return {item.path.name for item in freed.removed}


def test_latents_of_finished_jobs_go_and_no_others(tmp_path: Path) -> None:
    jobs = {
        state: made(tmp_path, state, latents__safetensors=10, checkpoint__safetensors=5, video__mp4=7)
        for state in STATES
    }
    bare = made(tmp_path, latents__safetensors=10)  # somebody took the video away: all that is left of it
    parent = made(tmp_path, latents__safetensors=10, video__mp4=7)
    again = replace(made(tmp_path, "queued"), parent=parent.id, task="decode")
    unlisted = made(tmp_path, latents__safetensors=10, video__mp4=7)
    freed = tidy(tmp_path, [*jobs.values(), bare, parent, again], NOTHING)
    done = tmp_path / jobs["done"].folder
    assert {item.path for item in freed.removed} == {done / "latents.safetensors", done / "checkpoint.safetensors"}
    assert freed.size_bytes == 15
    assert (done / "video.mp4").stat().st_size == 7
    kept = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("latents.safetensors")}
    others = (job for state, job in jobs.items() if state != "done")
    assert kept == {job.folder for job in (*others, bare, parent, unlisted)}


def test_the_oldest_latents_go_first(tmp_path: Path) -> None:
    jobs = [made(tmp_path, latents__safetensors=100, video__mp4=1) for _ in range(4)]
    for age, number in enumerate((2, 0, 3, 1)):
        aged(tmp_path / jobs[number].folder / "latents.safetensors", age * 100 + 50)
    freed = tidy(tmp_path, jobs, replace(PLENTY, latents_bytes=250))
    assert [item.path.parent.name for item in freed.removed] == [jobs[1].id, jobs[3].id]
    assert tidy(tmp_path, jobs, replace(PLENTY, latents_bytes=250)) == Freed((), ())


def test_stale_temporary_files_go(tmp_path: Path) -> None:
    done, running = made(tmp_path, "done"), made(tmp_path, "running")
    day = tmp_path / "2026-11-20"
    for job in (done, running):
        for name, age in ((".video.mp4.part", 4000), (".latents.safetensors.partial", 4000), (".new.part", 60)):
            (tmp_path / job.folder / name).write_bytes(b"half")
            aged(tmp_path / job.folder / name, age)
    for name, age in ((".old.unfinished", 4000), (".young.unfinished", 60)):
        (day / name).mkdir()
        (day / name / "request.json").touch()
        aged(day / name, age)
    (day / "old.unfinished").mkdir()
    aged(day / "old.unfinished", 4000)
    cache = tmp_path / ".i2v" / "cache"
    cache.mkdir(parents=True)
    (cache / ".a.part").touch()
    aged(cache / ".a.part", 4000)
    freed = tidy(tmp_path, [done, running], PLENTY)
    assert gone(freed) == {".video.mp4.part", ".latents.safetensors.partial", ".old.unfinished", ".a.part"}
    assert {item.path.parent.name for item in freed.removed} == {done.id, "2026-11-20", "cache"}
    assert (day / ".young.unfinished" / "request.json").exists()
    assert (day / "old.unfinished").exists()


def test_the_cache_goes_by_last_use_and_the_bin_by_its_limits(tmp_path: Path) -> None:
    cache = tmp_path / ".i2v" / "cache"
    cache.mkdir(parents=True)
    for number in range(4):
        (cache / f"{number}.safetensors").write_bytes(b"x" * 100)
    os.utime(cache / "0.safetensors", (time.time(), time.time() - 9000))  # read just now
    for number in (1, 2, 3):
        aged(cache / f"{number}.safetensors", 1000 - number)
    (cache / "4").mkdir()
    (cache / "4" / "part").write_bytes(b"x" * 100)
    aged(cache / "4" / "part", 5000)
    old, new = made(tmp_path, video__mp4=50), made(tmp_path, video__mp4=50)
    for job, days in ((old, 31), (new, 29)):
        aged(Bin(tmp_path).put(tmp_path / job.folder), days * DAY_SECONDS)
    freed = tidy(tmp_path, [], replace(PLENTY, cache_bytes=250))
    assert gone(freed) == {"4", "1.safetensors", "2.safetensors", old.id}
    assert freed.forgotten == (old.id,)
    assert [entry.id for entry in Bin(tmp_path).entries()] == [new.id]


def test_with_no_budget_at_all_videos_and_records_stay(tmp_path: Path) -> None:
    jobs = [made(tmp_path, state, video__mp4=9, latents__safetensors=9) for state in STATES]
    before = tree(tmp_path)
    tidy(tmp_path, jobs, NOTHING)
    left = tree(tmp_path)
    assert {name: data for name, data in before.items() if not name.endswith(".safetensors")} == {
        name: data for name, data in left.items() if not name.endswith(".safetensors")
    }


def test_looking_changes_nothing(tmp_path: Path) -> None:
    jobs = [made(tmp_path, state, video__mp4=9, latents__safetensors=9) for state in STATES]
    before = tree(tmp_path)
    found: Iterable[Leftover] = list(survey(tmp_path, jobs))
    assert surplus(found, NOTHING, time.time())
    assert tree(tmp_path) == before


def test_what_will_not_go_stays_and_the_rest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [made(tmp_path, latents__safetensors=9, video__mp4=9) for _ in range(3)]
    stuck, unlink = tmp_path / jobs[1].folder / "latents.safetensors", Path.unlink

    def refuse_one(path: Path, **more: bool) -> None:
        if path == stuck:
            raise PermissionError(1, "Operation not permitted")
        unlink(path, **more)

    monkeypatch.setattr(Path, "unlink", refuse_one)
    freed = tidy(tmp_path, jobs, NOTHING)
    assert {item.path.parent.name for item in freed.removed} == {jobs[0].id, jobs[2].id}
    assert freed.size_bytes == 18
    assert stuck.exists()


def test_an_outputs_folder_with_nothing_in_it(tmp_path: Path) -> None:
    assert tidy(tmp_path, [], NOTHING) == Freed((), ())


def test_the_budgets_come_from_the_settings() -> None:
    chosen = settings(bin_days="2.5", bin_gib="0.5", latents_gib="0", cache_gib="3")
    assert Budgets.of(chosen) == Budgets(2.5, GIB // 2, 0, 3 * GIB)
