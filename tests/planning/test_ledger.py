"""The ledger: what it remembers corrects the next prediction; what is wrong with it does no harm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from i2v.plan import Plan
from i2v.planning.ledger import NO_CORRECTION, Entry, Ledger, PhaseMeasured, Setup, correction_from
from i2v.planning.planner import Planner
from i2v.units import GIB
from tests.planning.support import card, job, made_up

SETUP = Setup("i2vgen_xl", "float16", "RTX 3060", "2.13.0+cu130", "9.26")
PLAN = Plan(device="cuda", precision="float16")


def entry(setup: Setup = SETUP, more_bytes: int = 0, pace: float = 1.0) -> Entry:
    return Entry(setup, {"cfg": "split"}, (PhaseMeasured("denoise", 3 * GIB, 3 * GIB + more_bytes, 100, 100 * pace),))


def test_what_was_measured_corrects_memory_and_time_of_its_phase(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for more, pace in ((50, 1.4), (200, 1.6), (-500, 1.5)):
        ledger.add(entry(more_bytes=more, pace=pace))
    correction = ledger.correction(SETUP)
    plain, corrected = (
        Planner(card(12), made_up, c).forced(job(), PLAN).phases[1] for c in (NO_CORRECTION, correction)
    )
    assert corrected.peak_bytes - plain.peak_bytes == 200
    assert corrected.seconds == pytest.approx(plain.seconds * 1.5)


@pytest.mark.parametrize("key", ["model", "precision", "card", "torch", "cudnn", "attention"])
def test_another_set_up_is_not_corrected(tmp_path, key):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.add(entry(more_bytes=2**30))
    other = Setup(**{**vars(SETUP), key: "another"})
    assert ledger.correction(other) == NO_CORRECTION


def test_lines_of_something_else_are_left_where_they_are(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.add(entry())
    with ledger.path.open("ab") as file:
        file.write(b'not json\n{"setup": 3}\n[]\nnull\n\xff\xfe\n{"half": ')
    before = ledger.path.read_bytes()
    assert ledger.entries() == [entry()]
    assert ledger.path.read_bytes() == before


def test_only_recent_runs_are_listened_to(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.add(entry(more_bytes=GIB, pace=9))
    for _ in range(9):
        ledger.add(entry())
    assert ledger.correction(SETUP).extra_bytes("denoise") == 0
    assert ledger.correction(SETUP).time_factor("denoise") == 1


def test_a_run_that_others_slowed_down_does_not_teach_that_the_machine_is_slow(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.add(replace(entry(pace=6), slowdown=4.0))
    assert ledger.entries()[0].slowdown == 4
    assert ledger.correction(SETUP).time_factor("denoise") == pytest.approx(1.5)
    plain = Entry.from_json({**entry(pace=6).to_json(), "slowdown": 0})  # edited by somebody
    assert correction_from([plain]).time_factor("denoise") == 6


def test_a_ledger_that_is_not_there_or_cannot_be_written_corrects_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    ledger = Ledger(tmp_path / "file" / "ledger.jsonl")
    ledger.add(entry())
    assert ledger.correction(SETUP) == NO_CORRECTION
