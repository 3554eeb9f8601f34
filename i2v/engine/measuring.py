"""How steady the finished frames are, measured while they are written. Whatever goes wrong here costs the report and
never the video."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from i2v.events import Noted, SteadinessMeasured
from i2v.messages import message
from i2v.video.steadiness_files import keep_steadiness
from i2v.video.steadiness_meter import SteadinessMeter

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)


class SteadinessWatch:
    """`add` each frame that is written, then `finish`. Neither raises."""

    def __init__(self, folder: Path, fps: float, seams: Collection[int] = ()) -> None:
        """`folder` is where the report goes. `seams`: the frames, counted from 0, with which windows begin."""
        self._folder = folder
        self._meter: SteadinessMeter | None = None
        self._reason = ""
        try:
            self._meter = SteadinessMeter(fps, seams=seams)
        except Exception as error:
            self._give_up(error)

    def add(self, frame: np.ndarray) -> None:
        """The next frame: (height, width, 3) uint8, RGB."""
        try:
            if self._meter is not None:
                self._meter.add(frame)
        except Exception as error:
            self._give_up(error)

    def finish(self) -> SteadinessMeasured | Noted:
        """Write the report and tell what it says, or why there is none."""
        try:
            if self._meter is not None:
                report = self._meter.report()
                keep_steadiness(self._folder, report)
                return SteadinessMeasured(report.summary)
        except Exception as error:
            self._give_up(error)
        return Noted("info", message("engine.steadiness_not_measured", reason=self._reason))

    def _give_up(self, error: Exception) -> None:
        log.warning("Steadiness is not measured", exc_info=error)
        self._meter, self._reason = None, str(error) or type(error).__name__
