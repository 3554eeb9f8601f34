"""The driver that trains on a card: at tiny size, on the made library."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from bench.gpu import nano
from bench.gpu.models import configs_folder
from bench.gpu.record import Clock, Record
from bench.gpu.rig import SmallRig
from bench.gpu.scale import SMALL, Dry
from bench.gpu.suite import Bench, OutOfTime
from tools.train_nano.network import make_unet


def test_a_trained_nano_comes_out_in_the_time_given(data, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("tools.train_nano.reading.make_tokenizer", lambda: tokenizer)
    configs = configs_folder(True, tmp_path / "configs")
    bench = Bench(SmallRig(), SMALL, tmp_path, configs, Dry(configs, True))
    record = Record(tmp_path, "nano", bench.rig.described())
    nano.suite(bench, record, Clock(0.02, lambda: 0.0), data)  # a clock that stands: the start takes seconds
    row = json.loads((tmp_path / "nano.json").read_text())["rows"][0]
    assert row["error"] == ""
    assert json.loads(row["progress"])["step"] >= 1
    weights = {}
    for name in row["files"]:
        weights |= load_file(tmp_path / name)
    assert sum(one.numel() for one in weights.values()) == row["parameters"]
    assert all(one.dtype == torch.float16 and one.isfinite().all() for one in weights.values())
    unet = {name.removeprefix("unet."): one.float() for name, one in weights.items() if name.startswith("unet.")}
    made = make_unet(nano.SMALL_CHANNELS)
    assert unet.keys() == made.state_dict().keys()
    made.load_state_dict(unet)


def test_when_reading_took_all_the_time_nothing_is_trained(data, tmp_path, monkeypatch):
    moments = iter((0.0, 0.0, 0.0, 9.0, 9.0))
    monkeypatch.setattr("tools.train_nano.reading.main", lambda argv: 0)
    configs = configs_folder(True, tmp_path / "configs")
    bench = Bench(SmallRig(), SMALL, tmp_path, configs, Dry(configs, True))
    record = Record(tmp_path, "nano", bench.rig.described())
    with pytest.raises(OutOfTime):
        nano.suite(bench, record, Clock(0.1, lambda: next(moments)), data)
    assert not record.rows()


def test_without_its_data_it_says_so(tmp_path):
    configs = configs_folder(True, tmp_path / "configs")
    bench = Bench(SmallRig(), SMALL, tmp_path, configs, Dry(configs, True))
    record = Record(tmp_path, "nano", bench.rig.described())
    nano.suite(bench, record, Clock(1), None)
    assert "--data" in record.rows()[0]["error"]
