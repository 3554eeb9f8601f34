"""The small pictures of lists, made beside the page and kept in the job folders: a list never waits for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from i2v.jobs.job.folder import VIDEO
from i2v.messages import UserError
from i2v.ui.shown.panels import file_url
from i2v.video.clip_still import small_first_image
from i2v.video.stills import small_frame, small_picture

log = logging.getLogger(__name__)

POSTER = "poster.webp"
SMALL_PICTURE = "input-small.webp"
PREVIEW = "preview.webp"
"""What the engine leaves of the decoded frames."""


class Posters:
    """Any thread may call. One picture is made at a time, so that a running job keeps its processor."""

    def __init__(self) -> None:
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="posters")
        self._lock = threading.Lock()
        self._asked: set[Path] = set()
        self._settled: set[Path] = set()

    def poster(self, folder: Path) -> str | None:
        """The address of the small first frame of the job's video; of its last preview as long as there is none, and
        None without that."""
        preview = folder / PREVIEW
        made = self._address(folder / VIDEO, folder / POSTER, small_frame)
        return made or (file_url(preview) if preview.is_file() else None)

    def coming(self, folder: Path) -> bool:
        """Whether this job's poster is still to be seen: neither shown yet, nor known to be impossible."""
        with self._lock:
            return folder / POSTER not in self._settled

    def source(self, folder: Path, picture: str | None, clip: str | None) -> str | None:
        """The address of the job's photograph, small, or of its clip's first frame; None as long as there is none, and
        for a job that has neither."""
        if picture:
            return self._address(Path(picture), folder / SMALL_PICTURE, small_picture)
        return self._address(Path(clip), folder / SMALL_PICTURE, small_first_image) if clip else None

    def _address(self, source: Path, target: Path, make: Callable[[Path, Path], None]) -> str | None:
        there = target.is_file()
        with self._lock:
            new = not there and target not in self._asked
            self._asked.add(target)  # once: what cannot be made is not tried at every look
            if there:
                self._settled.add(target)
        if new:
            self._maker.submit(self._make, source, target, make)
        return file_url(target) if there else None

    def _make(self, source: Path, target: Path, make: Callable[[Path, Path], None]) -> None:
        try:
            make(source, target)
        except (UserError, OSError, ValueError) as error:
            log.warning("No small picture of %s: %s", source, error)
            with self._lock:
                self._settled.add(target)
