"""The child that asks a ROCm build of torch for its cards: prints them as JSON and ends.

python -m i2v.worker.rocm_cards
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch


def cards() -> list[dict[str, Any]]:
    """Every card of a ROCm build, as `i2v.hardware.rocm.RocmCard` has it; none for another build of torch."""
    if torch.version.hip is None or not torch.cuda.is_available():
        return []
    return [_card(index) for index in range(torch.cuda.device_count())]


def _card(index: int) -> dict[str, Any]:
    free, total = torch.cuda.mem_get_info(index)
    about = torch.cuda.get_device_properties(index)
    places = [getattr(about, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    pci = "{:04x}:{:02x}:{:02x}.0".format(*places) if None not in places else ""
    return {"index": index, "name": about.name, "total_bytes": total, "free_bytes": free, "pci": pci}


def main() -> int:
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    with answer:
        answer.write(json.dumps(cards()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
