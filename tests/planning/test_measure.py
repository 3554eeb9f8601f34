"""The self-measurement, on the processor: figures that a computer can have, kept and read again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from i2v.dryrun import measure as measure_module
from i2v.dryrun.measure import half_convolutions_work, measure
from i2v.planning.measured import Measurement, Measurements
from i2v.units import GIB

FOUND = Measurement("RTX 3060", "2.13.0", 4e13, 1e13, 2e13, 3e11, 2.4e10, 1.2e10, 6e-6, GIB // 3, True)


def test_a_processor_is_measured_as_a_card_would_be():
    found = measure(torch.device("cpu"))
    assert 1e9 < found.single_flops < 1e13
    assert 1e8 < found.bandwidth < 1e12
    assert 1e8 < found.link < 1e12
    assert 1e-7 < found.launch_seconds < 1e-3


@pytest.mark.parametrize(
    "spoil",
    [lambda out: out * float("nan"), lambda out: out / 0, lambda out: out * 0, lambda out: out * 1.1],
    ids=["not a number", "infinite", "nothing", "too large"],
)
def test_convolutions_that_come_out_wrong_in_half_precision_are_seen(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[torch.Tensor], torch.Tensor]
):
    monkeypatch.setattr(measure_module, "CONVOLUTIONS", ((32, 8, (3, 3)), (32, 8, (3, 1))))  # processors are slow at it
    assert half_convolutions_work(torch.device("cpu"))
    own = functional.conv2d

    def broken(input, weight, *rest, **options):
        out = own(input, weight, *rest, **options)
        return spoil(out) if input.dtype == torch.float16 and weight.shape[-2:] == (3, 1) else out

    monkeypatch.setattr(functional, "conv2d", broken)
    assert not half_convolutions_work(torch.device("cpu"))


def test_a_measurement_without_that_is_made_anew(tmp_path):
    kept = Measurements(tmp_path / "cards.json")
    kept.put("GPU-1", FOUND)
    kept.path.write_text(kept.path.read_text().replace('"half_convolutions": true', '"half_convolutions": 1'))
    assert kept.get("GPU-1") is None
    kept.path.write_text(kept.path.read_text().replace('"half_convolutions"', '"other"'))
    assert kept.get("GPU-1") is None


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
