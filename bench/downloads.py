"""A download under fire: whoever waits for it, or the process that fetches, is killed at random moments.

    python -m bench.downloads --kills 50

A hub on loopback serves a model of 24 MB slowly. Prints a table, writes bench/results/downloads.json, and exits 1 where
a file came out otherwise, where one that was not whole ever had its name, or where the model came more than twice over.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.fetch.support import REPO, SCRIPT
from tests.hub_server import Hub, serve_hub

RESULTS = Path(__file__).parent / "results" / "downloads.json"
SIZES = {"unet/one.safetensors": 12_000_000, "unet/two.safetensors": 8_000_000, "vae/model.safetensors": 4_000_000}
PIECE_SECONDS = 0.15  # for 16 KiB of each file


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    options = parser.parse_args()
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        repository, folder = Path(name) / "hub" / "model", Path(name) / "model"
        folder.mkdir()
        for file, size in SIZES.items():
            (repository / file).parent.mkdir(parents=True, exist_ok=True)
            (repository / file).write_bytes(chance.randbytes(size))
        with serve_hub({REPO: repository}) as hub:
            hub.file_piece_seconds = PIECE_SECONDS
            kills = [0, 0]
            half = 0
            for _ in range(options.kills):
                which = chance.randrange(2)
                kills[which] += _kill(hub, folder, chance.uniform(0.0, 3.0), child=bool(which))
                half += _not_whole(repository, folder)
            hub.file_piece_seconds = 0.0
            subprocess.run([sys.executable, "-c", SCRIPT, hub.url, str(folder)], check=True, capture_output=True)
            different = len(SIZES) - sum((folder / f).read_bytes() == (repository / f).read_bytes() for f in SIZES)
            result = {
                "kills_of_who_waits": kills[0],
                "kills_of_who_fetches": kills[1],
                "not_whole_under_their_names": half,
                "different_at_last": different,
                "served_for_each_byte": round(hub.served_bytes / sum(SIZES.values()), 3),
            }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print("| | |\n|---|---|")
    for key, value in result.items():
        print(f"| {key.replace('_', ' ')} | {value} |")
    return 0 if not half and not different and result["served_for_each_byte"] < 2 else 1


def _kill(hub: Hub, folder: Path, seconds: float, *, child: bool) -> int:
    """Begin a download and kill with signal 9 who waits for it, or the process that fetches, after so many seconds;
    1 where there was one to kill."""
    command = [sys.executable, "-c", SCRIPT, hub.url, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        time.sleep(seconds)
        children = []
        with suppress(OSError):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if child and children:
            with suppress(ProcessLookupError):
                os.kill(int(children[0]), signal.SIGKILL)
        time.sleep(0.2 if child else 0.0)
        process.kill()
        process.wait()
        return 1 if children or not child else 0


def _not_whole(repository: Path, folder: Path) -> int:
    """How many files have their names and other contents than they should."""
    there = [file for file in SIZES if (folder / file).exists()]
    return sum((folder / file).read_bytes() != (repository / file).read_bytes() for file in there)


if __name__ == "__main__":
    sys.exit(main())
