"""The child that measures a card: started once for each card, it writes what it found and ends.

python -m i2v.worker.measure FILE UUID FREE_BYTES
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from i2v.dryrun.measure import measure
from i2v.planning.measured import Measurements


def main(path: str, uuid: str, free_before_bytes: str) -> int:
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    Measurements(Path(path)).put(uuid, measure(device, int(free_before_bytes)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
