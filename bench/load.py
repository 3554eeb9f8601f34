"""Many viewers at once: how long the page takes to answer while a job runs, and what that costs the job.

    taskset -c 0,1 python -m bench.load --viewers 50

Starts the real app, runs the same job alone and with viewers in turn, each asking /status once a second, while other
jobs are submitted. Prints a table, writes bench/results/load.json, exits 1 beyond the targets.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from i2v.events import StepFinished
from i2v.jobs.job.history import read_history
from tests.page_server import PageServer, page_server
from tests.photos import photograph

MEDIAN_MS, P95_MS, SLOWED_SHARE = 100.0, 300.0, 0.10
ROUNDS = 2
JOB = {"model": "nano", "prompt": "zoom in", "width": 64, "height": 64, "frames": 4, "steps": 60, "guidance": 1.0}
SUBMIT_EVERY_SECONDS = 4.0
RESULTS = Path(__file__).parent / "results" / "load.json"


async def call(client: httpx.AsyncClient, endpoint: str, *data: Any) -> Any:
    """What a named endpoint answers."""
    answer = await client.post(f"/gradio_api/run/{endpoint}", json={"data": list(data)})
    answer.raise_for_status()
    return answer.json()["data"][0]


async def submit(client: httpx.AsyncClient, **more: Any) -> str:
    with photograph().open("rb") as file:
        uploaded = (await client.post("/gradio_api/upload", files={"files": ("photo.jpg", file)})).json()[0]
    picture = {"path": uploaded, "meta": {"_type": "gradio.FileData"}}
    return await call(client, "submit", picture, {**JOB, "seed": 7, **more})


async def viewer(client: httpx.AsyncClient, job_id: str, over: asyncio.Event, seen: list[float]) -> None:
    """Ask once a second until the job is over."""
    await asyncio.sleep(random.random())
    while not over.is_set():
        began = time.perf_counter()
        await call(client, "status", job_id)
        taken = time.perf_counter() - began
        seen.append(taken)
        await asyncio.sleep(max(0.0, 1.0 - taken))


async def one_round(url: str, viewers: int) -> tuple[str, list[float], list[float]]:
    """Run the job to its end: its id, and the seconds each answer and each submission took."""
    answers: list[float] = []
    submissions: list[float] = []
    over = asyncio.Event()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        job_id = await submit(client)
        watching = [asyncio.create_task(viewer(client, job_id, over, answers)) for _ in range(viewers)]
        last = time.monotonic()
        while (await call(client, "status", job_id))["state"] not in ("done", "failed", "cancelled"):
            await asyncio.sleep(0.5)
            if viewers and time.monotonic() - last >= SUBMIT_EVERY_SECONDS:
                last = began = time.monotonic()
                other = await submit(client, steps=1)
                submissions.append(time.monotonic() - began)
                await call(client, "cancel", other)
        over.set()
        await asyncio.gather(*watching)
    return job_id, answers, submissions


def step_seconds(server: PageServer, job_id: str) -> float:
    """The median step of a finished job."""
    folder = next((server.folder / "outputs").glob(f"2*/{job_id}"))
    steps = [one.event for one in read_history(folder) if isinstance(one.event, StepFinished)]
    return statistics.median(step.seconds for step in steps if step.phase == "denoise")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--steps", type=int, default=JOB["steps"])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    JOB["steps"] = options.steps
    alone, watched, answers, submissions = [], [], [], []
    with tempfile.TemporaryDirectory() as name, page_server(Path(name)) as server:
        asyncio.run(one_round(server.url, 0))  # the worker starts, the model is loaded
        for _ in range(options.rounds):
            alone.append(step_seconds(server, asyncio.run(one_round(server.url, 0))[0]))
            job_id, more_answers, more_submissions = asyncio.run(one_round(server.url, options.viewers))
            watched.append(step_seconds(server, job_id))
            answers += more_answers
            submissions += more_submissions
    result = {
        "viewers": options.viewers,
        "answers": len(answers),
        "answer_ms_median": round(1000 * statistics.median(answers), 1),
        "answer_ms_p95": round(1000 * statistics.quantiles(answers, n=20)[-1], 1),
        "answer_ms_most": round(1000 * max(answers), 1),
        "submissions": len(submissions),
        "submission_ms_median": round(1000 * statistics.median(submissions), 1),
        "step_ms_alone": round(1000 * min(alone), 1),
        "step_ms_watched": round(1000 * min(watched), 1),
        "slowed_share": round(min(watched) / min(alone) - 1, 3),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print("| | |\n|---|---|")
    for key, value in result.items():
        print(f"| {key.replace('_', ' ')} | {value} |")
    met = (result["answer_ms_median"] < MEDIAN_MS, result["answer_ms_p95"] < P95_MS)
    return int(not all(met) or result["slowed_share"] >= SLOWED_SHARE)


if __name__ == "__main__":
    sys.exit(main())
