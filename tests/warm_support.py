"""Warm parents for tests: the real one, which all tests of a process share, and light ones."""

from __future__ import annotations

import atexit
import os
import sys
from functools import cache
from pathlib import Path

from i2v.jobs.process.warm import WarmParent

CHECKPOINTS = Path(__file__).with_name("checkpoints.py")
LIGHT = Path(__file__).with_name("light_parent.py")
PAGES = Path(__file__).with_name("page_parent.py")


@cache
def shared() -> WarmParent:
    """The real one, kept to the end of the test process: its imports take as long as many a test."""
    warm = WarmParent()
    atexit.register(warm.close)
    return warm


def small_checkpoint(folder: Path) -> Path:
    """An untrained I2VGen-XL checkpoint (tests/checkpoints.py) in `folder`, made by a process forked from the real warm
    parent, so that this one needs no torch for it."""
    command = [sys.executable, str(CHECKPOINTS), str(folder)]
    assert shared().start(command, os.environ, {0: 0, 1: 1, 2: 2}).wait(120) == 0
    return folder


@cache
def pages() -> WarmParent:
    """One that forks apps with their page, for all tests of a process."""
    warm = WarmParent((sys.executable, str(PAGES)))
    atexit.register(warm.close)
    return warm


def light(how: str = "well") -> WarmParent:
    """One that has imported nothing, so that it is there at once. The caller closes it."""
    return WarmParent((sys.executable, str(LIGHT), how))
