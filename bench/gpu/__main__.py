"""Measure on the NVIDIA card of this machine, as much as fits into the minutes given; see bench/gpu/README.md.

    python -m bench.gpu --suite all --minutes 9 --out DIR
    python -m bench.gpu --suite i2vgen,planner --minutes 9 --out DIR --after EARLIER
    python -m bench.gpu --suite all --minutes 2 --out DIR --small     # no card: small models on a simulated one

Suites run in the order in which they are named; "all" is the order of worth. DIR/<suite>.json is whole after each case.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import tempfile
import threading
import traceback
from functools import partial
from pathlib import Path

from bench.gpu import autoencoders, convolutions, families, heal, hunyuan, i2vgen, limits, nano, planner, probe
from bench.gpu.contenders import text_of
from bench.gpu.models import configs_folder
from bench.gpu.record import Clock, Record
from bench.gpu.rig import CudaRig, Rig, SmallRig
from bench.gpu.scale import FULL, SMALL, Dry
from bench.gpu.suite import Bench, OutOfTime, Suite

# In order of worth, each with its share of the time; what one leaves over, the next ones have.
SHARES = {"probe": 0.05, "i2vgen": 0.45, "planner": 0.25, "heal": 0.1, "limits": 0.15}
SHARES |= dict.fromkeys(("hunyuan", "families", "autoencoders", "convolutions", "nano"), 0.0)  # only by their names
GRACE_SECONDS = 20  # beyond its minutes, after which a suite that does not come to an end is ended


def main(argv: list[str] | None = None) -> int:
    args = _arguments(argv)
    names = [name for name in SHARES if SHARES[name]] if args.suite == "all" else args.suite.split(",")
    unknown = [name for name in names if name not in SHARES]
    if unknown:
        raise SystemExit(f"No such suite: {', '.join(unknown)}. There are: all, {', '.join(SHARES)}.")
    clock = Clock(args.minutes)
    logging.disable(logging.WARNING)  # the engine tells of rungs, diffusers of its pipeline's age
    end = _end_in_any_case(clock.left_seconds + GRACE_SECONDS)
    try:
        return _run_all(names, clock, args)
    finally:
        end.cancel()
        logging.disable(logging.NOTSET)


def _run_all(names: list[str], clock: Clock, args: argparse.Namespace) -> int:
    """Suite after suite; 1 where one met an error that nobody foresaw."""
    rig: Rig = SmallRig() if args.small else CudaRig()
    print(", ".join(f"{key} {value}" for key, value in rig.described().items()), flush=True)
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        configs = configs_folder(args.small, Path(temporary))
        bench = Bench(rig, SMALL if args.small else FULL, args.out, configs, Dry(configs, args.small))
        for number, name in enumerate(names):
            parts = [SHARES[later] or 1.0 for later in names[number:]]
            own = clock.share(parts[0] / sum(parts))
            failed += not _run(name, bench, own, clock, args)
    return 1 if failed else 0


def _run(name: str, bench: Bench, clock: Clock, whole: Clock, args: argparse.Namespace) -> bool:
    """One suite, to its end or that of its time; whether it went without an error that nobody foresaw."""
    suites: dict[str, Suite] = {
        "probe": probe.suite,
        "i2vgen": i2vgen.suite,
        "planner": planner.suite,
        "heal": heal.suite,
        "limits": limits.suite,
        "hunyuan": hunyuan.suite,
        "families": families.suite,
        "autoencoders": autoencoders.suite,
        "convolutions": convolutions.suite,
        "nano": partial(nano.suite, data=args.data),
    }
    record = Record(args.out, name, bench.rig.described(), args.after)
    print(f"== {name}: {clock.left_seconds / 60:.1f} of {whole.left_seconds / 60:.1f} minutes", flush=True)
    try:
        suites[name](bench, record, clock)
    except OutOfTime:
        record.end("out of time")
    except Exception as error:
        # The next suite may go well, and a machine is lent only for minutes.
        traceback.print_exc()
        record.end(text_of(error)["error"])
        return False
    else:
        record.end("whole")
    return True


def _end_in_any_case(seconds: float) -> threading.Timer:
    """End the process after so long, whatever it is doing. Result files are whole at any moment."""

    def end() -> None:
        print("The minutes are over; what was measured is in the files.", flush=True)
        os._exit(3)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="all", help=f"all, or some of {', '.join(SHARES)}, joined by commas")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the result files")
    parser.add_argument("--after", type=Path, help="result files of an earlier run, whose cases are not run again")
    parser.add_argument("--data", type=Path, help="for nano: what tools.train_nano.prepare made")
    parser.add_argument("--small", action="store_true", help="small models on a simulated card")
    return parser.parse_args(argv)


if __name__ == "__main__":
    gc.freeze()  # each run ends with a collection, which would look at all that was imported
    sys.exit(main())
