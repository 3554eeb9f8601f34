"""How steady a finished job's video is: as it was measured while its frames were written, else from the video."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

from i2v.jobs.job.record import JobStatus
from i2v.video.steadiness import Steadiness
from i2v.video.steadiness_files import keep_steadiness, kept_steadiness, kept_summary, measure_video

log = logging.getLogger(__name__)

_ONE_AT_A_TIME = threading.Lock()


def steadiness_of(video: Path) -> Steadiness:
    """The report beside `video`, measured where there is none. A disk that does not take it costs only the time of
    measuring again. Raises UserError for a video that cannot be read."""
    with _ONE_AT_A_TIME:  # it takes seconds of a processor, and two must not measure the same
        report = kept_steadiness(video.parent)
        if report is None:
            report = measure_video(video)
            try:
                keep_steadiness(video.parent, report)
            except OSError as error:
                log.warning("The steadiness report of %s could not be written: %s", video, error)
        return report


def told_with_steadiness(job: JobStatus) -> dict[str, Any]:
    """What a client is told of the job, with the report's summary as `steadiness` where it was measured."""
    report = kept_summary(job.folder) if job.state == "done" else None
    return {**job.to_json(), "steadiness": report and report.summary}
