"""Follows jobs for the page: a view of each, folded as far as its events have come whenever a tab looks.

Nothing waits for events: tabs ask again anyway. So a job costs no thread, and one that nobody looks at any more costs
nothing at all once its view has made room for others.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from i2v.ui.shown.view import JobView, advance

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

KEPT = 32


class Followers:
    """The views of the jobs that tabs look at, the longest unseen first. Any thread may look."""

    def __init__(self, service: JobService) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._views: OrderedDict[str, JobView] = OrderedDict()

    def view(self, job_id: str) -> JobView:
        """The job as it stands now. Raises UserError for an unknown id."""
        with self._lock:
            view = self._views.get(job_id, JobView())
        if not view.progress.final:
            # Outside of the lock: an ended job's events are read from its folder.
            for number, event in self._service.events(job_id, after=view.last):
                view = advance(view, event, number)
        return self._keep(job_id, view)

    def _keep(self, job_id: str, view: JobView) -> JobView:
        """The newer of this view and the one that another tab may have brought meanwhile."""
        with self._lock:
            view = max(view, self._views.get(job_id, view), key=lambda one: one.last)
            self._views[job_id] = view
            self._views.move_to_end(job_id)
            while len(self._views) > KEPT:
                self._views.popitem(last=False)
            return view
