"""What every suite is given: the card, the scale, the models, and the time there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.gpu.models import random_model
from bench.gpu.record import Clock, Record
from bench.gpu.rig import Rig
from bench.gpu.scale import Dry, Scale
from i2v.families.i2vgen_xl.model import I2VGenXL
from i2v.planning.measured import Measurement

MODEL_SECONDS = 20  # to draw a model of full size and bring it to the host; a plan, not a measurement


class OutOfTime(Exception):
    """There is no room for the next case."""


@dataclass
class Bench:
    """`out` is where result files go. One model is kept at a time."""

    rig: Rig
    scale: Scale
    out: Path
    configs: Path
    dry: Dry
    _model: tuple[str, I2VGenXL] | None = field(default=None, init=False)
    _measurement: Measurement | None = field(default=None, init=False)

    def model(self, precision: str, clock: Clock) -> I2VGenXL:
        """The model in `precision`. Raises OutOfTime."""
        if self._model is None or self._model[0] != precision:
            self.need(clock, MODEL_SECONDS)
            self._model = None
            self._model = precision, random_model(self.configs, precision, self.rig.device)
        return self._model[1]

    def forget_model(self) -> None:
        """Give the host its memory back."""
        self._model = None

    def measurement(self, clock: Clock) -> Measurement:
        """What the card was measured to do. Raises OutOfTime."""
        if self._measurement is None:
            self.need(clock, 5)
            self._measurement = self.rig.measure()
        return self._measurement

    def need(self, clock: Clock, seconds: float) -> None:
        """Raises OutOfTime where there is no room for a case that is planned to take so long at full size."""
        if not clock.room_for(min(seconds, 1.0) if self.scale.small else seconds):
            raise OutOfTime


Suite = Callable[[Bench, Record, Clock], None]
