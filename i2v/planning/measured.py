"""What a card was found to do when it was first used, and a disk, kept in files; better than a data sheet."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from i2v.planning.rates import LAUNCH_SECONDS, Rates
from i2v.whole_file import write_whole

log = logging.getLogger(__name__)

HOST = "cpu"  # the name of the processor, as a card
# Layers of a video model reach this much of what one large matrix product, one large copy and one large convolution
# reach: they are many, of all shapes, with norms and activations between. The ledger corrects it per card. With these
# figures the times of I2VGen-XL and HunyuanVideo on an H100 are met, see tests/planning/test_recorded_cards.py.
LAYER_SHARE = 0.8
HOST_LAYER_SHARE = 0.75
# An operation of a network takes `rates.LAUNCH_SECONDS` to begin, or so many times what the smallest one in a loop
# takes where that is longer: beside one H100 the smallest took 7 microseconds and those of I2VGen-XL 36, beside another
# 13 and those of transformers 20 to 26 (bench/results/gpu, planner and families).
LAUNCH_TIMES = 2


@dataclass(frozen=True)
class Measurement:
    """FLOP/s of a large matrix product and of a large convolution in half precision, and of one in float32 beside it
    (`wide_convolution_flops`, 0 where nobody measured), bytes/s of a large copy on the
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
    wide_convolution_flops: float = 0.0

    def rates(self, memory_bytes: int, bf16: bool) -> Rates:
        """As the planner counts: what layers reach."""
        share = HOST_LAYER_SHARE if self.card == HOST else LAYER_SHARE
        launching = max(LAUNCH_SECONDS, LAUNCH_TIMES * self.launch_seconds)
        return Rates(
            name=self.card,
            memory_bytes=memory_bytes,
            half_flops=self.half_flops * share,
            single_flops=self.single_flops * share,
            bandwidth=self.bandwidth * share,
            link=self.link,  # what is placed whole is copied from ordinary memory
            link_locked=self.link_pinned,
            convolution_flops=0.0 if self.card == HOST else self.convolution_flops * share,
            wide_convolution_flops=0.0 if self.card == HOST else self._wide_convolutions(bf16) * share,
            launch_seconds=self.launch_seconds if self.card == HOST else launching,
            bf16=bf16,
        )

    def _wide_convolutions(self, bf16: bool) -> float:
        """Where it was not measured: half of those in half precision where the card knows TensorFloat-32."""
        guessed = max(self.single_flops, self.convolution_flops / 2) if bf16 else self.single_flops
        return self.wide_convolution_flops or guessed

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
            return Measurement.from_json(read_values(self.path)[uuid])
        except KeyError:
            return None
        except (ValueError, TypeError) as error:
            log.warning("%s says nothing of use about %s: %s", self.path, uuid, error)
            return None

    def put(self, uuid: str, found: Measurement) -> None:
        """Keep it; a file that can not be written costs another measurement, no more."""
        keep_value(self.path, uuid, asdict(found))


class DiskRates:
    """The file of the disks that were measured here: bytes/s at which mapped files on them are read. A disk is known by
    where it is mounted and by its number, which alone may be another disk's after a restart."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, path: Path) -> float | None:
        """Of the disk of `path`; None where it was not measured."""
        rate = read_values(self.path).get(_disk_of(path))
        return float(rate) if isinstance(rate, int | float) and rate > 0 else None

    def put(self, path: Path, rate: float) -> None:
        """Keep it; a file that can not be written costs another measurement, no more."""
        keep_value(self.path, _disk_of(path), rate)


def _disk_of(path: Path) -> str:
    """Links are followed: the disk is the one on which the bytes are."""
    try:
        place, number = path.resolve(), path.stat().st_dev
        while place.parent != place and place.parent.stat().st_dev == number:
            place = place.parent
        return f"{place} {number}"
    except OSError:
        return ""


def read_values(path: Path) -> dict[str, Any]:
    """What is kept in the file, by name; nothing where it can not be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def keep_value(path: Path, name: str, value: Any) -> None:
    """Add to what is kept in the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({**read_values(path), name: value}, indent=1))
    except OSError as error:
        log.warning("The measurement is not kept: %s", error)
