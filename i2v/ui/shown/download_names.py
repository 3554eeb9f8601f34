"""What a file is called when it is saved: after the wish, the day and the seed, so that many in one folder differ."""

from __future__ import annotations

import re

from i2v.request import GenerationRequest

MOST_LETTERS = 48  # of the wish


def download_name(request: GenerationRequest, job_id: str, file: str) -> str:
    """The name for `file` of a job, whose id begins with its day: `waves-roll-in-2026-11-26-seed-7.mp4`. A file beside
    the video keeps its own name at the end."""
    words = "-".join(re.findall(r"\w+", request.prompt.lower()))[:MOST_LETTERS].strip("-_")
    day = f"{job_id[:4]}-{job_id[4:6]}-{job_id[6:8]}"
    stem, dot, ending = file.rpartition(".")
    beside = "" if stem == "video" else f"-{stem}"
    return "-".join(filter(None, [words, day, f"seed-{request.seed}"])) + f"{beside}{dot}{ending}"
