"""Whose turn it is."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import groupby

from i2v.jobs.job.stored import StoredJob


def fair_order(waiting: Iterable[StoredJob], served: Mapping[str, int]) -> list[StoredJob]:
    """The order in which waiting jobs run: higher priority first; among equals each owner in turn, who was served
    least recently first; an owner's own jobs by their place.

    `served` is the number of the turn that each owner had last; who had none stands at 0. With nothing else coming
    in, running the first and asking again gives the rest of the same order.
    """
    last = dict(served)
    turn = max(last.values(), default=0)
    ordered: list[StoredJob] = []
    by_priority = sorted(waiting, key=lambda job: (-job.priority, job.place))
    for _, level in groupby(by_priority, key=lambda job: job.priority):
        lines: dict[str, deque[StoredJob]] = {}
        for job in level:
            lines.setdefault(job.owner, deque()).append(job)
        heads = [(last.get(owner, 0), line[0].place, owner) for owner, line in lines.items()]
        heapq.heapify(heads)
        while heads:
            _, _, owner = heapq.heappop(heads)
            ordered.append(lines[owner].popleft())
            turn += 1
            last[owner] = turn
            if lines[owner]:
                heapq.heappush(heads, (turn, lines[owner][0].place, owner))
    return ordered
