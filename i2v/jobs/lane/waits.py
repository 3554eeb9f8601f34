"""Jobs that were laid down for want of room, on the disk or on the card, and go on by themselves when there is some.

Why a job was laid down stands in the list, so that it goes on after a restart of the app as well.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from i2v.hardware.probe import Probe
from i2v.jobs.lane.lending import may_return
from i2v.jobs.lane.models import LAID_DOWN
from i2v.jobs.list.board import Board
from i2v.messages import UserError

log = logging.getLogger(__name__)

LENT = "jobs.lent"
LENT_OUT = "jobs.lent_out"  # by somebody, until somebody takes it back
SCOUTED = "jobs.scouted"  # to be looked at; only a list made anew from the folders has it as a reason
ROOM_TO_GO_ON_BYTES = 64 * 2**20
MOST_ROOM_BYTES = 2**30


class Waits:
    """For the lane's thread alone."""

    def __init__(self, board: Board, look: Callable[[], Probe]) -> None:
        """`look` reads the machine."""
        self._board = board
        self._look = look
        self._for_disk: dict[str, int] = {}  # bytes that have to be free
        self._room_tried: dict[str, int] = {}
        self._for_card: dict[str, int] = {}  # bytes that the job holds at its peak

    def __bool__(self) -> bool:
        return bool(self._for_disk or self._for_card)

    @property
    def card_is_lent(self) -> bool:
        """Whether another program has the card: nothing is to be started meanwhile."""
        return bool(self._for_card)

    def take_up(self) -> None:
        """Those that an earlier start of the app has laid down. Raises UserError."""
        for job in self._board.store.jobs(states=("paused",)):
            if job.error is None or job.error.id in (LENT_OUT, SCOUTED, *LAID_DOWN):
                continue  # by somebody's wish, or for want of a model
            if job.error.id == LENT:
                self.for_card(job.id, 0)
            else:
                self.for_disk(job.id)

    def for_disk(self, job_id: str) -> None:
        """The disk was full. A job that finds it full again waits for twice as much."""
        tried = self._room_tried.get(job_id)
        room = ROOM_TO_GO_ON_BYTES if tried is None else min(2 * tried, MOST_ROOM_BYTES)
        self._for_disk[job_id] = self._room_tried[job_id] = room

    def for_card(self, job_id: str, needed_bytes: int) -> None:
        """Another program has come to need the card."""
        self._for_card[job_id] = needed_bytes

    def wake(self) -> None:
        """Put those in line again for which there is room. What goes wrong is only logged: the next look comes."""
        if not self._board.write_down():
            return  # the list does not say yet that they were laid down
        for job_id, room in list(self._for_disk.items()):
            with _told(job_id):
                if not self._paused(job_id):
                    del self._for_disk[job_id]
                elif shutil.disk_usage(self._board.outputs_dir).free > room:
                    self._board.change(job_id, "queued", expected=("paused",))
                    del self._for_disk[job_id]
        for job_id, needed_bytes in list(self._for_card.items()):
            with _told(job_id):
                gpu = self._look().gpu
                if not self._paused(job_id):
                    del self._for_card[job_id]
                elif gpu is None or may_return(gpu, needed_bytes):
                    self._board.change(job_id, "queued", expected=("paused",))
                    del self._for_card[job_id]

    def _paused(self, job_id: str) -> bool:
        """Whether it still waits: somebody may have taken it up, cancelled it, or taken its row away."""
        try:
            return self._board.store.get(job_id).state == "paused"
        except UserError as error:
            if error.message.id != "jobs.unknown":
                raise
            return False


@contextmanager
def _told(job_id: str) -> Iterator[None]:
    """What goes wrong with one job is only logged, and keeps no other one waiting."""
    try:
        yield
    except (UserError, OSError) as error:
        log.warning("Job %s, which waits for room: %s", job_id, error)
