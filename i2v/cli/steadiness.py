"""`python -m i2v steadiness`: how steady a finished job's video is, or any video file."""

from __future__ import annotations

import json
from pathlib import Path

from i2v.cli.exits import Exit
from i2v.cli.joined import open_jobs
from i2v.hardware.probe import MemoryProbe
from i2v.settings.settings import Settings
from i2v.video.files import not_written
from i2v.video.steadiness import Steadiness
from i2v.video.steadiness_files import measure_video
from i2v.video.steadiness_words import findings, measured_with, told
from i2v.whole_file import write_whole


def steadiness(
    named: str, to: Path | None, settings: Settings, probe: MemoryProbe, *, as_json: bool, locale: str
) -> Exit:
    """Print the report of the video file or job that is `named`; write a line for each frame to `to`. Beside a video
    file nothing is written. Raises UserError."""
    if Path(named).is_file() or Path(named).name != named or Path(named).suffix:  # a job's id is a bare word
        report = measure_video(Path(named))
    else:
        with open_jobs(settings, probe) as jobs:
            report = Steadiness.from_json(jobs.steadiness(named))
    if to is not None:
        try:
            write_whole(to, report.csv())
        except OSError as error:
            raise not_written(error, to) from error
    print(json.dumps(report.to_json(), allow_nan=False) if as_json else _text(report, locale))
    return Exit.DONE


def _text(report: Steadiness, locale: str) -> str:
    lines = [findings(report, locale)]
    lines += [f"{line.name.render(locale)}: {line.value.render(locale)}" for line in told(report)]
    return "\n".join([*lines, measured_with(report).render(locale)])
