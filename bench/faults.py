"""Jobs under fire: the worker is killed at random moments, and the whole app with it; what is lost, and what it costs.

    python -m bench.faults --worker-kills 50 --app-kills 20

Runs the bundled model through the real service. Prints a table, writes bench/results/faults.json, exits 1 where a job
was lost, done twice or came out otherwise, where more was made again than the time between two checkpoints and a step,
or where an app that was started again took more than BACK_SECONDS to its next step.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path

from i2v.jobs.service import JobService
from tests.faults.kills import kill_app, kill_worker
from tests.faults.support import latents, run
from tests.jobs_support import settings_in

CHECKPOINT_SECONDS = 0.3  # between checkpoints: jobs are seconds long here, so 5 s as it ships would be none
BACK_SECONDS = 10.0
STEPS = 8
RESULTS = Path(__file__).parent / "results" / "faults.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker-kills", type=int, default=50)
    parser.add_argument("--app-kills", type=int, default=20)
    options = parser.parse_args()
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        settings, probe = settings_in(Path(name) / "worker", checkpoint_seconds=CHECKPOINT_SECONDS)
        with JobService(settings, probe) as service:
            wholes = [latents(run(service, steps=STEPS, seed=seed)[0]) for seed in range(2)]
            kills = [
                kill_worker(service, chance.uniform(0.0, 2.0), wholes[0], steps=STEPS, seed=0)
                for _ in range(options.worker_kills)
            ]
        waits = [chance.uniform(0.0, 2.0) for _ in range(options.app_kills)]
        # Enough for the app never to run out of jobs before it is killed for the last time.
        app = kill_app(Path(name) / "app", waits, 2 * options.app_kills, wholes, STEPS)
    mid_run = [kill for kill in kills if kill.back_seconds]
    within = [kill.redone_seconds <= CHECKPOINT_SECONDS + kill.step_seconds for kill in kills]
    result = {
        "checkpoint_seconds": CHECKPOINT_SECONDS,
        "worker": {
            "kills": len(kills),
            "in_mid_run": len(mid_run),
            "lost": sum(kill.state != "done" for kill in kills),
            "doubled": sum(kill.dones > 1 for kill in kills),
            "different": sum(not kill.same for kill in kills),
            "redone_seconds_most": round(max(kill.redone_seconds for kill in kills), 2),
            "step_seconds_most": round(max(kill.step_seconds for kill in kills), 2),
            "redone_within_bound": sum(within),
            "back_seconds_median": round(statistics.median(kill.back_seconds for kill in mid_run), 1),
            "back_seconds_most": round(max(kill.back_seconds for kill in mid_run), 1),
        },
        "app": {
            "jobs": app.jobs,
            "kills": app.kills,
            "lost": app.lost,
            "doubled": app.doubled,
            "different": app.different,
            "worker_outlived_seconds_most": round(app.outlived_seconds, 2),
            "back_seconds_median": round(statistics.median(app.back_seconds), 1),
            "back_seconds_most": round(max(app.back_seconds), 1),
        },
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    for what in ("worker", "app"):
        print(f"| {what} | |\n|---|---|")
        for key, value in result[what].items():
            print(f"| {key.replace('_', ' ')} | {value} |")
    good = all(result[what][key] == 0 for what in ("worker", "app") for key in ("lost", "doubled", "different"))
    return 0 if good and all(within) and app.kills == len(waits) and max(app.back_seconds) <= BACK_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
