"""What pages ask every second or two costs as much with many jobs in the queue as with few. Counted, not timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from i2v.jobs.job.record import JobStatus
from i2v.jobs.job.states import LIVE
from i2v.jobs.service import JobService
from i2v.ui import page as page_module
from i2v.ui.queue.rows import in_order, queue_list
from i2v.ui.queue.tab import QueueShown, QueueTab
from i2v.ui.shown.follow import Followers
from i2v.ui.shown.posters import Posters
from i2v.ui.shown.view import Shown
from i2v.ui.texts import build_i18n
from tests.jobs.support import new_job, ran_to, with_folder
from tests.jobs_support import SCRIPTED, settings_in

FEW, MANY = 8, 40  # of each priority some that are neither first nor last in line
OWNERS = ("local", "ann", "bob")


@contextmanager
def resting(folder: Path, waiting: int) -> Iterator[JobService]:
    """A service with so many jobs in its queue, which starts none of them."""
    settings, probe = settings_in(folder)
    with JobService(settings, probe, worker_command=SCRIPTED) as service:
        service.pause_queue()
        for number in range(waiting):
            job = new_job(OWNERS[number % len(OWNERS)], seconds_predicted=20.0, priority=number % 2)
            with_folder(settings.outputs_dir, job, *ran_to("queued"))
            service._board.store.add(job)
        yield service


def statements(service: JobService, ask: Callable[[], Any]) -> int:
    """How many statements the list runs for it, of a line that has just changed."""
    store, seen = service._board.store, []
    ask()  # the records are in memory from now on
    store.pause_queue(store.queue_paused)
    store._db.set_trace_callback(seen.append)
    ask()
    store._db.set_trace_callback(None)
    return len(seen)


def queue_tab(service: JobService) -> Callable[[], Any]:
    with gr.Blocks():
        language = gr.Radio(["en"])
        with gr.Tabs() as tabs, gr.Tab("queue") as tab:
            followers = Followers(service)
            queue = QueueTab(service, followers, Posters(), tabs, tab, language, "en", build_i18n(), card=False)
    return lambda: queue.look(None, QueueShown(), {}, "en")


def last_one(service: JobService) -> Callable[[], Any]:
    last = service.jobs()[-1].id
    return lambda: service.status(last)


def create_tab(service: JobService) -> Callable[[], Any]:
    page = page_module._Page(service, service._settings, service._probe)
    last = service.jobs(owner="local")[-1].id
    return lambda: page._look(None, last, Shown(), "en")


QUESTIONS: dict[str, Callable[[JobService], Callable[[], Any]]] = {
    "every job": lambda service: service.jobs,
    "one owner's": lambda service: lambda: service.jobs("ann", states=LIVE),
    "the line": lambda service: service.line,
    "the last one": last_one,
    "create tab": create_tab,
    "queue tab": queue_tab,
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_many_jobs_cost_no_more_statements_than_few(tmp_path: Path, question: str) -> None:
    counted = []
    for waiting in (FEW, MANY):
        with resting(tmp_path / str(waiting), waiting) as service:
            counted.append(statements(service, QUESTIONS[question](service)))
    assert counted[0] == counted[1] > 0


def test_while_nothing_changes_the_line_is_not_read_again(tmp_path: Path) -> None:
    with resting(tmp_path, FEW) as service:
        store, seen = service._board.store, []
        store.waiting()
        store._db.set_trace_callback(seen.append)
        for _ in range(MANY):
            store.waiting()
        assert seen == []


def test_every_job_is_told_as_it_is_told_alone(tmp_path: Path) -> None:
    with resting(tmp_path, MANY) as service:
        assert service.jobs() == [service.status(job.id) for job in service.jobs()]
        service.pause_queue()
        told = service.jobs()
        assert {job.starts_in for job in told} == {None}
        assert sorted(job.position for job in told) == list(range(1, MANY + 1))
        by_turn = sorted(told, key=lambda job: job.position)
        assert service.line() == [job.id for job in by_turn]
        assert service.line("ann") == [job.id for job in by_turn if job.owner == "ann"]


def test_the_line_begins_with_what_is_at_work_and_leaves_out_what_is_laid_down(tmp_path: Path) -> None:
    with resting(tmp_path, 6) as service:
        *_, at_work, laid_down = service.line()
        store = service._board.store
        store.transition(at_work, "running")
        assert service.pause(laid_down)
        assert service.line() == [at_work, *(job.id for job in store.waiting())]
        assert laid_down not in service.line()


def test_drawing_the_list_looks_at_each_job_as_often_with_many_as_with_few(tmp_path: Path) -> None:
    """Counted of the job that is looked at most: the first and the last in line have fewer buttons."""
    seen: Counter[int] = Counter()

    class Counted(JobStatus):
        def __getattribute__(self, name: str) -> Any:
            seen[id(self)] += 1
            return super().__getattribute__(name)

    looks = []
    for waiting in (FEW, MANY):
        with resting(tmp_path / str(waiting), waiting) as service:
            jobs = [Counted(**vars(job)) for job in in_order(service.jobs())]
            seen.clear()
            queue_list(jobs, {}, {}, 0.0, "en")
            assert len(seen) == waiting
            looks.append(max(seen.values()))
    assert looks[0] == looks[1] > 0
