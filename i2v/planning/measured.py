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

# Layers of a video model reach this much of what one large matrix product and one large copy reach: they are many, of
# all shapes, with norms and activations between. The ledger corrects it per card.
LAYER_SHARE = 0.75


@dataclass(frozen=True)
class Measurement:
    """FLOP/s of a large matrix product, bytes/s of a large copy on the card and from the host (from pinned memory and
    not), seconds to launch an operation, bytes that the context took before the first tensor, and whether convolutions
    in half precision come out right."""

    card: str
    torch: str
    half_flops: float
    single_flops: float
    bandwidth: float
    link_pinned: float
    link: float
    launch_seconds: float
    context_bytes: int
    half_convolutions: bool

    def rates(self, memory_bytes: int, bf16: bool) -> Rates:
        """As the planner counts: what layers reach."""
        return Rates(
            name=self.card,
            memory_bytes=memory_bytes,
            half_flops=self.half_flops * LAYER_SHARE,
            single_flops=self.single_flops * LAYER_SHARE,
            bandwidth=self.bandwidth * LAYER_SHARE,
            link=self.link,  # weights are copied from ordinary memory
            launch_seconds=self.launch_seconds,
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
