"""All that happens to decoded frames on their way to the encoder, stage after stage, frame by frame."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i2v.finishing.deflicker import Deflicker
from i2v.finishing.interpolate import Interpolate
from i2v.finishing.match_colours import MatchColours
from i2v.finishing.stage import FinishingStage, Frame
from i2v.finishing.upscale import Upscale
from i2v.request import Finish


class Finishing:
    """The stages that `finish` asks for, for one pass over one clip. `photograph`: as the video shows it, None where it
    begins with none; `still`: True where nothing in it is to move, None where that is not known."""

    def __init__(self, finish: Finish, photograph: Frame | None = None, still: NDArray[np.bool_] | None = None) -> None:
        self.stages: tuple[FinishingStage, ...] = tuple(_stages(finish, photograph, still))
        self._decoding_seconds = 0.0

    @property
    def decoding_seconds(self) -> float:
        """How long the frames so far took to come, before any stage."""
        return self._decoding_seconds

    def frames(self, decoded: Iterator[Frame]) -> Iterator[Frame]:
        """The finished frames of `decoded` ones."""
        finished = self._timed(decoded)
        for stage in self.stages:
            finished = stage.frames(finished)
        return finished

    def told(self) -> dict[str, Any]:
        """What each stage has changed, by its name."""
        return {stage.name: stage.told() for stage in self.stages}

    def _timed(self, decoded: Iterator[Frame]) -> Iterator[Frame]:
        while True:
            began = time.perf_counter()
            frame = next(decoded, None)
            self._decoding_seconds += time.perf_counter() - began
            if frame is None:
                return
            yield frame


def _stages(finish: Finish, photograph: Frame | None, still: NDArray[np.bool_] | None) -> Iterator[FinishingStage]:
    if finish.deflicker:
        yield Deflicker()
    if finish.match_colours:
        yield MatchColours(photograph, still)
    if finish.interpolate > 1:
        yield Interpolate(finish.interpolate)
    if finish.upscale > 1:
        yield Upscale(finish.upscale)
