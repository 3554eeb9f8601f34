"""What a card was found to do when it was first used, kept in a file; better than its data sheet."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from i2v.planning.rates import Rates
from i2v.whole_file import write_whole

log = logging.getLogger(__name__)

HOST = "cpu"  # the name of the processor, as a card
# Layers of a video model reach this much of what one large matrix product, one large copy and one large convolution
# reach: they are many, of all shapes, with norms and activations between. The ledger corrects it per card. With these
# figures the times of I2VGen-XL and HunyuanVideo on an H100 are met, see tests/planning/test_recorded_cards.py.
LAYER_SHARE = 0.8
HOST_LAYER_SHARE = 0.75
# How much longer an operation of a network takes to begin than the smallest one in a loop; see `rates.LAUNCH_SECONDS`.
LAUNCH_TIMES = 5


@dataclass(frozen=True)
class Measurement:
    """FLOP/s of a large matrix product and of a large convolution in half precision, bytes/s of a large copy on the
    card and from the host (from pinned memory and not), seconds to launch an operation, bytes that the context took
    before the first tensor, and whether convolutions in half precision come out right."""

    card: str
    torch: str
    half_flops: float
    single_flops: float
    convolution_flops: float
    bandwidth: float
    link_pinned: float
    link: float
    launch_seconds: float
    context_bytes: int
    half_convolutions: bool

    def rates(self, memory_bytes: int, bf16: bool) -> Rates:
        """As the planner counts: what layers reach."""
        share, launches = (HOST_LAYER_SHARE, 1) if self.card == HOST else (LAYER_SHARE, LAUNCH_TIMES)
        return Rates(
            name=self.card,
            memory_bytes=memory_bytes,
            half_flops=self.half_flops * share,
            single_flops=self.single_flops * share,
            bandwidth=self.bandwidth * share,
            link=self.link,  # what is placed whole is copied from ordinary memory
            link_locked=self.link_pinned,
            convolution_flops=0.0 if self.card == HOST else self.convolution_flops * share,
            launch_seconds=self.launch_seconds * launches,
            bf16=bf16,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Measurement:
        """Raises ValueError, TypeError or KeyError for anything else."""
        found = cls(**values)
        numbers = [value for name, value in asdict(found).items() if name not in ("card", "torch", "half_convolutions")]
        if (
            not isinstance(found.half_convolutions, bool)
            or not all(isinstance(n, int | float) and n >= 0 for n in numbers)
            or found.half_flops <= 0
        ):
            raise ValueError("not rates")
        return found


class Measurements:
    """The file of all cards that were measured here, by UUID."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, uuid: str) -> Measurement | None:
        """What this card did; None where it was not measured or the file can not be read."""
        try:
            return Measurement.from_json(self._read()[uuid])
        except KeyError:
            return None
        except (ValueError, TypeError) as error:
            log.warning("%s says nothing of use about %s: %s", self.path, uuid, error)
            return None

    def put(self, uuid: str, found: Measurement) -> None:
        """Keep it; a file that can not be written costs another measurement, no more."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps({**self._read(), uuid: asdict(found)}, indent=1))
        except OSError as error:
            log.warning("The measurement is not kept: %s", error)

    def _read(self) -> dict[str, Any]:
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}
