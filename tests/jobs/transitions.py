"""A process for tests that changes jobs at random until it is killed. Each line is flushed before the next step:
`try <id> <to>` before a transition, `ok` once it is acknowledged."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from i2v.jobs.job.states import ALLOWED
from i2v.jobs.list.store import JobStore

if __name__ == "__main__":
    outputs, seed = Path(sys.argv[1]), int(sys.argv[2])
    pick = random.Random(seed)
    with JobStore(outputs) as store:
        print("open", flush=True)
        while moving := [job for job in store.jobs() if ALLOWED[job.state]]:
            job = pick.choice(moving)
            # Mostly round and round, so that there is something left to do.
            to = pick.choice(sorted(ALLOWED[job.state] & {"queued", "running", "decoding", "paused"}) or ["done"])
            if pick.random() < 0.01:
                to = pick.choice(sorted(ALLOWED[job.state]))
            print("try", job.id, to, flush=True)
            store.transition(job.id, to)
            print("ok", flush=True)
