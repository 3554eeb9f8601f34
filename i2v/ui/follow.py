"""Follows jobs for the page: one thread a job folds its events into a view that any number of tabs read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from i2v.ui.view import JobView, advance

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

_KEPT = 32


class Followers:
    """The views of the jobs that tabs look at. A tab that goes away changes nothing: it was only reading."""

    def __init__(self, service: JobService) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._views: OrderedDict[str, JobView] = OrderedDict()

    def view(self, job_id: str) -> JobView:
        """The job as it stands now; the first look starts to follow it. Raises UserError for an unknown id."""
        with self._lock:
            if job_id in self._views:
                self._views.move_to_end(job_id)
                return self._views[job_id]
        self._service.status(job_id)
        with self._lock:
            if job_id not in self._views:
                self._views[job_id] = JobView()
                self._forget_old()
                threading.Thread(target=self._follow, args=(job_id,), name=f"follow-{job_id}", daemon=True).start()
            return self._views[job_id]

    def _follow(self, job_id: str) -> None:
        for _seq, event in self._service.attach(job_id):
            with self._lock:
                if job_id not in self._views:
                    return
                self._views[job_id] = advance(self._views[job_id], event)

    def _forget_old(self) -> None:
        """Drop the longest unseen finished views; their jobs replay when somebody looks again."""
        for job_id in [job_id for job_id, view in self._views.items() if view.final]:
            if len(self._views) <= _KEPT:
                return
            del self._views[job_id]
