"""How fast a disk is read, as far as its kind tells. What is read is not tried out: of a model that is not there yet
there is nothing to read, and a cold read of enough gigabytes would take longer than anybody waits for a plan."""

from __future__ import annotations

import os
from pathlib import Path

# Bytes/s of one reader that maps a file. Makers state 2,000 to 7,000 MB/s for NVMe and 560 for SATA; a mapped file is
# read in the kernel's read-ahead of 128 KiB and not in large requests side by side, for which NVMe's figures stand.
NVME, SATA, SPINNING = 1.5e9, 4.5e8, 1.5e8
DEVICES = Path("/sys/dev/block")


def read_rate(path: Path, devices: Path = DEVICES) -> float:
    """Bytes/s at which files on the disk of `path`, or of its nearest parent that exists, are read. Of a disk whose
    kind cannot be told, as of one that a virtual machine makes of another, that of a SATA one."""
    for place in (path.absolute(), *path.absolute().parents):
        try:
            number = os.stat(place).st_dev
        except OSError:
            continue
        return _rate_of(devices / f"{os.major(number)}:{os.minor(number)}")
    return SATA


def _rate_of(device: Path) -> float:
    try:
        device = device.resolve(strict=True)
        below = sorted((device / "slaves").iterdir()) if (device / "slaves").is_dir() else []
        if below:  # an encrypted or joined disk: as slow as the slowest that it is made of
            return min(map(_rate_of, below))
        disk = device if (device / "queue").is_dir() else device.parent  # a partition lies in its disk's folder
        if disk.name.startswith("nvme"):
            return NVME
        spins = disk.name.startswith("sd") and (disk / "queue/rotational").read_text().strip() == "1"
    except OSError:
        return SATA
    return SPINNING if spins else SATA
