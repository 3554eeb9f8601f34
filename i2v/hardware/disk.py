"""How fast a disk is read: as far as its kind tells, since of a model that is not there yet there is nothing to read;
and as measured on files that are there."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cache
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


STRETCH_BYTES, STRETCHES = 32 * 2**20, 8
ENOUGH_BYTES = 64 * 2**20  # less tells nothing of gigabytes
MOST_SECONDS = 2.0


def measured_read_rate(files: Sequence[Path]) -> float | None:
    """Bytes/s at which the disk of `files` gives what is mapped of them and not in RAM, as found by reading some of it;
    a second or two. None where the system does not forget what it has of them, or they are too small."""
    if not (hasattr(os, "posix_fadvise") and hasattr(os, "RWF_NOWAIT")):
        return None
    read_bytes, took = 0, 0.0
    try:
        for file, offset in _stretches(files):
            size, seconds = _read_cold(file, offset, MOST_SECONDS - took)
            read_bytes, took = read_bytes + size, took + seconds
            if took >= MOST_SECONDS:
                break
    except (OSError, ValueError):
        return None
    return read_bytes / took if read_bytes >= ENOUGH_BYTES or took >= MOST_SECONDS else None


def _stretches(files: Sequence[Path]) -> Iterator[tuple[Path, int]]:
    """Where to read: evenly over all of the files."""
    places = [
        (file, offset) for file in files for offset in range(0, file.stat().st_size - STRETCH_BYTES + 1, STRETCH_BYTES)
    ]
    step = max(1, len(places) // STRETCHES)
    yield from places[::step][:STRETCHES]


def _read_cold(file: Path, offset: int, most_seconds: float) -> tuple[int, float]:
    """How many bytes of the stretch at `offset` were read in how many seconds; none where the system has kept it: it
    was written just now, or another program has it mapped."""
    with file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), offset, STRETCH_BYTES, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        if any(_in_ram(opened.fileno(), offset + at) for at in (0, STRETCH_BYTES // 2, STRETCH_BYTES - 1)):
            return 0, 0.0
        with mmap.mmap(opened.fileno(), STRETCH_BYTES, offset=offset, prot=mmap.PROT_READ) as mapped:
            for at in range(0, STRETCH_BYTES, 2**20):
                mapped[at : at + 2**20 : mmap.PAGESIZE]  # a byte of each page, so that nothing but reading takes time
                if (seconds := time.perf_counter() - began) >= most_seconds:
                    break
    return at + 2**20, seconds


def _in_ram(opened: int, offset: int) -> bool:
    try:
        return os.preadv(opened, [bytearray(1)], offset, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False


SAMPLES = 32  # of a file: what was read of it last is in RAM, in long stretches


def cold_bytes(file: Path) -> int:
    """About how many bytes of `file` are not in RAM, by looking at some of its pages, which reads none of them. All of
    them where the system does not tell; 0 where there is no such file."""
    try:
        size = file.stat().st_size
        if size == 0:
            return 0
        pages = -(-size // mmap.PAGESIZE)
        places = {pages * number // SAMPLES for number in range(SAMPLES)}
        with file.open("rb") as opened:
            cold = sum(not _page_in_ram(opened.fileno(), number, size) for number in places)
    except OSError:
        return 0
    return size * cold // len(places)


def _page_in_ram(opened: int, number: int, size: int) -> bool:
    """Whether that page of a file of `size` bytes is; False where the system does not tell."""
    if sys.platform != "linux":
        return False
    place = number * mmap.PAGESIZE
    length = min(mmap.PAGESIZE, size - place)
    with mmap.mmap(opened, length, offset=place, access=mmap.ACCESS_COPY) as page:
        first, told = ctypes.c_char.from_buffer(page), ctypes.c_ubyte()
        address = ctypes.c_void_p(ctypes.addressof(first))
        failed = _libc().mincore(address, ctypes.c_size_t(length), ctypes.byref(told))
        del first  # while it is there the page cannot be given back
    return not failed and bool(told.value & 1)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
