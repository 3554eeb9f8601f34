"""A warm parent that has imported nothing, so that it is there at once: `light_parent.py HOW --socket FD --parent PID`.

`HOW` is `well`, or what is wrong with it: `threads` (one runs beside), `installation` (torch cannot be imported),
`full` (it has no memory for a fork), `ends` (before it is ready), `slow` (it is never ready).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from i2v.worker import warm


def main(how: str, *arguments: str) -> int:
    warm.IMPORTED, warm.OF_EACH_FAMILY = (), ()
    match how:
        case "threads":
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        case "installation":
            warm.IMPORTED = ("of.no.such.name",)
        case "full":
            warm._fork_away = lambda ours, theirs: None
        case "ends":
            os._exit(3)
        case "slow":
            time.sleep(600)
    return warm.main(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
