"""The app without its page, to be killed: `app.py FOLDER CHECKPOINT_SECONDS [JOBS]`.

Serves the jobs of FOLDER, after it has taken in JOBS more; tells "ready", and ends when none is left."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from i2v.jobs.job.states import LIVE
from i2v.jobs.service import JobService
from i2v.worker.life import end_with_parent
from tests.faults.small import submit
from tests.jobs_support import settings_in


def main(folder: str, checkpoint_seconds: str, jobs: str = "0", steps: str = "8") -> int:
    settings, probe = settings_in(
        Path(folder), checkpoint_seconds=float(checkpoint_seconds), max_queue=1000, max_queue_per_owner=1000
    )
    with JobService(settings, probe) as service:
        for number in range(int(jobs)):
            submit(service, owner=f"owner{number % 2}", steps=int(steps), seed=number % 2)
        print("ready", flush=True)
        while any(job.state in LIVE for job in service.jobs()):
            time.sleep(0.1)
    return 0


if __name__ == "__main__":
    end_with_parent(os.getppid())  # whoever kills us may be killed as well
    sys.exit(main(*sys.argv[1:]))
