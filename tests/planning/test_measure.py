"""The self-measurement, on the processor: figures that a computer can have, kept and read again."""

from __future__ import annotations

import torch

from i2v.planning.measure import measure
from i2v.planning.measured import Measurement, Measurements
from i2v.units import GIB

FOUND = Measurement("RTX 3060", "2.13.0", 4e13, 1e13, 3e11, 2.4e10, 1.2e10, 6e-6, GIB // 3)


def test_a_processor_is_measured_as_a_card_would_be():
    found = measure(torch.device("cpu"))
    assert 1e9 < found.single_flops < 1e13
    assert 1e8 < found.bandwidth < 1e12
    assert 1e8 < found.link < 1e12
    assert 1e-7 < found.launch_seconds < 1e-3


def test_what_was_measured_is_kept_by_card(tmp_path):
    kept = Measurements(tmp_path / "cache" / "cards.json")
    kept.put("GPU-1", FOUND)
    kept.put("GPU-2", Measurement(**{**vars(FOUND), "card": "RTX 4090"}))
    assert Measurements(kept.path).get("GPU-1") == FOUND
    assert kept.get("GPU-2").card == "RTX 4090"
    assert kept.get("GPU-3") is None


def test_a_damaged_file_is_measured_over(tmp_path):
    kept = Measurements(tmp_path / "cards.json")
    for text in ("{", "[1]", '{"GPU-1": 3}', '{"GPU-1": {"card": "x"}}', '{"GPU-1": null}'):
        kept.path.write_text(text)
        assert kept.get("GPU-1") is None
        kept.put("GPU-1", FOUND)
        assert kept.get("GPU-1") == FOUND


def test_rates_that_are_none_are_not_believed(tmp_path):
    kept = Measurements(tmp_path / "cards.json")
    kept.put("GPU-1", Measurement(**{**vars(FOUND), "half_flops": 0.0}))
    assert kept.get("GPU-1") is None
