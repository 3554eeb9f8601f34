"""`python -m i2v export`: a finished video as another file, from its frames. Where the app is running, it writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from i2v.cli.exits import Exit
from i2v.cli.generate import naming_flag
from i2v.cli.joined import open_jobs
from i2v.hardware.probe import MemoryProbe
from i2v.messages import UserError
from i2v.settings.settings import Settings
from i2v.video.files import not_written
from i2v.whole_file import copy_whole


def export(job_id: str, values: Mapping[str, Any], to: Path | None, settings: Settings, probe: MemoryProbe) -> Exit:
    """Write the job's video as `values` ask for into its folder, or to the file or folder `to`, whose name may say the
    format; print the path. Raises UserError."""
    if to is not None and to.suffix and not to.is_dir():
        values = {"format": to.suffix.removeprefix(".").lower(), **values}
    with open_jobs(settings, probe) as jobs:
        try:
            path = jobs.export(job_id, values)
        except UserError as error:
            raise naming_flag(error, values) from error
        if to is not None:
            path = _copied(path, to / f"{job_id}-{path.name}" if to.is_dir() else to)
    print(path)
    return Exit.DONE


def _copied(made: Path, to: Path) -> Path:
    try:
        copy_whole(made, to)
    except OSError as error:
        raise not_written(error, to) from error
    return to
