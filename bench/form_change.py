"""What one change of the form costs the app: processor time of the page's whole answer to it.

    python -m bench.form_change

Asks as the page does (`ui.create.answers.Answers.at_once`: plan card, model's note, hints, shape, length), on a card of
12 GB of which others hold some, with 3,000 runs in the ledger: a size of the table, sizes between those of the table,
which are bounded, and one that does not fit, for which smaller ones are looked for. Prints a table, writes
bench/results/form_change.json, exits 1 beyond the target. The first answer, which reads table and ledger, is not
counted.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from i2v.hardware.probe import MemoryProbe, Probe
from i2v.jobs.asked.plans import Plans
from i2v.jobs.service import JobService
from i2v.plan import Plan
from i2v.planning.ledger import Entry, Ledger, PhaseMeasured, Setup
from i2v.settings.settings import load_settings
from i2v.ui.create.answers import Answers
from i2v.ui.create.form import FIELDS
from i2v.ui.serve import leave_out_what_stays
from tests.machines import card

TARGET_MS = 60.0
RUNS_IN_LEDGER = 3000
TIMES = 10
RESULTS = Path(__file__).parent / "results" / "form_change.json"
FORM: dict[str, Any] = {
    "model": "i2vgen-xl", "prompt": "the clouds drift", "negative": "", "frames": 16, "fps": 8, "steps": 50,
    "guidance": 9.0, "seed": "", "preset": "auto",
}  # fmt: skip


def _size(width: int, height: int, frames: int) -> dict[str, Any]:
    return {"width": width, "height": height, "frames": frames}


# What is free on the card, in GiB, and the changes.
CASES: dict[str, tuple[float, list[dict[str, Any]]]] = {
    "a size of the table": (11.2, [_size(512, 512, 16)] * TIMES),
    "a size between": (11.2, [_size(520 + 8 * number, 392, 12 + number) for number in range(TIMES)]),
    "a size that does not fit": (2.0, [_size(904 + 8 * number, 1000, 32) for number in range(TIMES)]),
}


class Fixed(MemoryProbe):
    """A machine on which as much is free as is said."""

    def __init__(self, reading: Probe) -> None:
        self.reading = reading

    def read(self) -> Probe:
        return self.reading


def written(ledger: Ledger) -> None:
    """3,000 runs of this and other models."""
    for number in range(RUNS_IN_LEDGER):
        setup = Setup("i2vgen_xl" if number % 3 else "nano", "float16", f"card {number % 7}", "2.13.0", "9")
        phases = tuple(PhaseMeasured(name, 2**30, 2**30 + number, 10.0, 11.0) for name in ("denoise", "decode"))
        ledger.add(Entry(setup, Plan(device="cuda").to_json(), phases))


def answers_on(machine: Fixed, folder: Path) -> Answers:
    """The page's callbacks on `machine`, without a page around them."""
    overrides: Mapping[str, Any] = {"outputs_dir": folder / "outputs", "logs_dir": folder, "models_dir": folder}
    settings = load_settings(probe=machine.read(), environ={}, config_path=folder / "none.yaml", overrides=overrides)
    written(Ledger(folder / "planner" / "ledger.jsonl"))
    service = JobService(settings, machine, plans=Plans(folder / "planner"))
    form, panel = SimpleNamespace(), SimpleNamespace(outputs=(None,) * 3)
    leave_out_what_stays()  # as the app does before it answers
    return Answers(service, settings, form, panel)  # type: ignore[arg-type]


def answered_ms(answers: Answers, change: Mapping[str, Any]) -> float:
    """Milliseconds of processor time of one answer."""
    raw = [{**FORM, **change}.get(name) for name in FIELDS]
    began = time.process_time()
    answers.at_once(None, "en", *raw, "picture", "standard", (1600, 1200), None, None, None)
    return (time.process_time() - began) * 1000


def main() -> int:
    found: dict[str, float] = {}
    machine = Fixed(card(12, 12))
    with tempfile.TemporaryDirectory() as folder:
        answers = answers_on(machine, Path(folder))
        with closing(answers.service):
            for case, (free_gib, sizes) in CASES.items():
                machine.reading = card(free_gib, 12)
                answered_ms(answers, sizes[0])
                found[case] = round(max(answered_ms(answers, size) for size in sizes), 1)
    print(f"{'a change to':28} {'longest of ' + str(TIMES):>14}   target {TARGET_MS:.0f} ms")
    for case, taken in found.items():
        print(f"{case:28} {taken:11.1f} ms")
    RESULTS.write_text(json.dumps({"longest_ms": found, "target_ms": TARGET_MS}, indent=1) + "\n", encoding="utf-8")
    return int(max(found.values()) > TARGET_MS)


if __name__ == "__main__":
    sys.exit(main())
