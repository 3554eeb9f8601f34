"""The planning child: whose question it is asked next, which are not asked any more, and the end of the app."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from i2v.jobs.process import dry_child
from i2v.jobs.process.dry_child import ANYBODY, LANE, Asker, DryChild, Pages, Superseded
from i2v.messages import UserError, message
from i2v.models.entry import ASSETS
from i2v.plan import Plan
from i2v.planning.known import Found
from tests.jobs_support import wait_until
from tests.planning.support import job, made_up
from tests.warm_support import shared

pytestmark = pytest.mark.drives

# Answers when a file named as the number of frames is there, and writes down what it was asked.
SCRIPT = """
import json, sys, time
from pathlib import Path
folder = Path(__file__).parent
for line in sys.stdin:
    asked = json.loads(line)["request"]["num_frames"]
    with (folder / "asked").open("a") as file:
        file.write(f"{asked}\\n")
    while not (folder / str(asked)).exists():
        time.sleep(0.005)
    print((folder / "answer").read_text(), flush=True)
"""


class Bed:
    """A scripted child in `folder`, asked by threads, each for a number of frames."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.child = DryChild()
        self.ended: dict[int, object] = {}
        self.threads: list[threading.Thread] = []

    def ask(self, frames: int, asker: Asker = ANYBODY) -> None:
        """Ask in a thread, and come back when the question waits or is being asked."""

        def run() -> None:
            try:
                self.ended[frames] = self.child.run("nano", None, replace(job(), num_frames=frames), Plan(), asker)
            except (UserError, Superseded) as error:
                self.ended[frames] = error

        before = len(self.asked) + len(self.child._waiting) + len(self.ended)
        thread = threading.Thread(target=run)
        thread.start()
        self.threads.append(thread)
        wait_until(lambda: len(self.asked) + len(self.child._waiting) + len(self.ended) > before)

    @property
    def asked(self) -> list[int]:
        path = self.folder / "asked"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def let(self, *frames: int) -> None:
        """Let these be answered, and wait for all that were asked."""
        for one in frames:
            (self.folder / str(one)).touch()
        for thread in self.threads:
            thread.join(120)


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    (tmp_path / "child.py").write_text(SCRIPT)
    (tmp_path / "answer").write_text(json.dumps({"found": made_up(job(), Plan())[0].to_json()}))
    monkeypatch.setattr(dry_child, "COMMAND", (sys.executable, str(tmp_path / "child.py")))
    bed = Bed(tmp_path)
    with closing(bed.child):
        yield bed


def test_a_job_whose_turn_has_come_is_before_everybody_who_waits(bed: Bed) -> None:
    bed.ask(1)
    for frames in (2, 3):
        bed.ask(frames)
    bed.ask(4, LANE)
    bed.let(1, 2, 3, 4)
    assert bed.asked == [1, 4, 2, 3]
    assert all(isinstance(found, Found) for found in bed.ended.values())


def test_of_each_page_only_the_newest_question_is_asked(bed: Bed) -> None:
    """Twenty changes of a slider on each of two pages, while something long is planned."""
    pages = Pages()
    bed.ask(1)
    for frames in range(10, 30):
        bed.ask(frames, pages.asks("one"))
        bed.ask(100 + frames, pages.asks("other"))
    assert len(bed.child._waiting) == 2
    bed.let(1, 29, 129)
    assert bed.asked == [1, 29, 129]
    assert sum(isinstance(end, Superseded) for end in bed.ended.values()) == 38
    assert isinstance(bed.ended[29], Found)


def test_what_is_overtaken_by_something_already_known_is_not_asked(bed: Bed) -> None:
    pages = Pages()
    bed.ask(1)
    bed.ask(2, pages.asks("one"))
    pages.asks("one")  # answered without a dry run
    bed.let(1, 2)
    assert bed.asked == [1]
    assert isinstance(bed.ended[2], Superseded)


def test_what_is_answered_at_once_is_before_dry_runs_and_after_a_job_whose_turn_has_come(bed: Bed) -> None:
    def say(frames: int, asker: Asker = ANYBODY) -> None:
        with suppress(Superseded):
            said = bed.child.said("nano", Path(), replace(job(), num_frames=frames), asker)
            bed.ended[frames] = [text.id for text in said]

    answer = json.loads((bed.folder / "answer").read_text()) | {"said": [message("nano.nothing_asked").to_json()]}
    (bed.folder / "answer").write_text(json.dumps(answer))
    bed.ask(1)
    bed.ask(2)
    pages = Pages()
    for frames, asker in ((3, pages.asks("one")), (4, pages.asks("one"))):
        waiting = len(bed.child._waiting)
        bed.threads.append(threading.Thread(target=say, args=(frames, asker)))
        bed.threads[-1].start()
        wait_until(lambda before=waiting, last=frames: len(bed.child._waiting) > before or last == 4)
    wait_until(lambda: 3 not in [json.loads(one.line)["request"]["num_frames"] for one in bed.child._waiting])
    wait_until(lambda: any(one.light for one in bed.child._waiting))
    bed.ask(5, LANE)
    bed.let(1, 2, 4, 5)
    assert bed.asked == [1, 5, 4, 2]
    assert bed.ended[4] == ["nano.nothing_asked"]
    assert 3 not in bed.ended


def test_the_real_one_says_what_a_sentence_will_do_and_goes_on_after_a_folder_it_can_not_read(tmp_path: Path) -> None:
    with closing(DryChild(shared().start)) as child:
        with pytest.raises(UserError) as refused:
            child.said("nano", tmp_path, job())
        said = child.said("nano", ASSETS / "nano", replace(job(), prompt="zoom in while the dog wags its tail"))
    assert refused.value.message.id == "planning.not_told"
    assert [text.id for text in said] == ["nano.motion", "nano.not_understood"]
    assert said[0].render() == "Motion: zoom in."


def test_pages_of_long_ago_are_forgotten_and_still_answered() -> None:
    pages = Pages()
    first = pages.asks("first")
    for number in range(dry_child.PAGES_KEPT):
        pages.asks(str(number))
    assert first.still()
    assert len(pages._newest) == dry_child.PAGES_KEPT


def test_a_child_that_died_is_told_and_replaced(bed: Bed) -> None:
    bed.ask(1)
    wait_until(lambda: bed.asked == [1])
    os.kill(bed.child._process.pid, signal.SIGKILL)
    bed.let(1)
    assert bed.ended[1].message.id == "planning.child_ended"
    bed.ask(2)
    bed.let(2)
    assert isinstance(bed.ended[2], Found)


def test_a_child_that_can_not_be_started_is_told(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_child, "COMMAND", ("/nowhere/python",))
    bed.ask(1)
    bed.let()
    assert bed.ended[1].message.id == "planning.child_not_started"


def test_it_outlives_the_thread_that_asked_first(bed: Bed) -> None:
    """Linux ends a bound child with the thread that started it, and a web server's threads come and go."""
    bed.ask(1)
    bed.let(1)
    bed.ask(2)
    bed.let(2)
    assert isinstance(bed.ended[2], Found)
    assert bed.child._thread.is_alive()
    assert psutil.Process(bed.child._process.pid).is_running()


def test_closing_waits_for_no_dry_run_and_none_begins_after_it(bed: Bed) -> None:
    for frames in (1, 2, 3):
        bed.ask(frames)
    wait_until(lambda: bed.asked == [1])
    bed.child.close()
    bed.let()
    assert [bed.ended[frames].message.id for frames in (1, 2, 3)] == ["planning.child_ended", *["jobs.closed"] * 2]
    with pytest.raises(UserError) as refused:
        bed.child.run("nano", None, job(), Plan())
    assert refused.value.message.id == "jobs.closed"
    bed.child.warm_up()  # says nothing, starts nothing
    assert bed.asked == [1]


def test_the_real_one_is_ended_in_the_middle_of_a_dry_run() -> None:
    child, ended = DryChild(shared().start), []

    def ask() -> None:
        for number in range(8):  # one after the other, as the planner asks for its rungs
            try:
                child.run("i2vgen_xl", None, replace(job(), width=1024, height=1024, num_frames=30 + number), Plan())
            except UserError as error:
                ended.append(error.message.id)
                return

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: child._process is not None and psutil.Process(child._process.pid).cpu_times().user > 0.5)
    child.close()
    asking.join(120)
    assert ended == ["planning.child_ended"]
