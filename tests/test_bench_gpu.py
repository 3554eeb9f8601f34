"""The programs that measure on a real card, proved at small size on the simulated one; and what the report makes of
their files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench import report
from bench.gpu import heal, hunyuan, i2vgen, probe, tables
from bench.gpu.__main__ import SHARES, main
from bench.gpu.contenders import Ours, Peer, Run, encode, relative_difference, run
from bench.gpu.models import configs_folder, random_model
from bench.gpu.nano import PART_BYTES, write_parts
from bench.gpu.plots import Series, line_plot, nice_top
from bench.gpu.record import Clock, Record
from bench.gpu.rig import CudaRig, SmallRig
from bench.gpu.scale import FULL, SMALL, Dry
from bench.gpu.suite import Bench, OutOfTime
from i2v.plan import Plan, everywhere
from i2v.planning.known import Known
from i2v.planning.ledger import Ledger
from i2v.planning.planner import candidates
from i2v.units import GIB
from tests.warm_support import shared

ROOT = Path(__file__).parents[1]
MEASURED = [name for name in SHARES if name != "nano"]  # nano trains; see tests/nano/test_bench.py
MACHINE = {"small": True, "card": "simulated", "torch": "1", "program": "a"}
# As `python -m bench.gpu`, and then what it has imported.
ABSENT = ("gradio", "imageio_ffmpeg", "i2v.models.download", "i2v.models.fetch.look_up")
RUN = f"""
import runpy, sys
sys.path.insert(0, {str(ROOT)!r})
sys.argv = ["bench.gpu", *sys.argv[1:]]
try:
    runpy.run_module("bench.gpu", run_name="__main__", alter_sys=True)
finally:
    print("imported", *(name for name in {ABSENT} if name in sys.modules), "end")
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Every suite at small size in one process: the folder of its files, and what it printed."""
    out, script = tmp_path_factory.mktemp("measured"), tmp_path_factory.mktemp("script") / "run.py"
    script.write_text(RUN)
    command = [sys.executable, f"{script}", "--suite", ",".join(MEASURED), "--minutes", "30", "--out", f"{out}"]
    with open(os.devnull) as nothing, open(script.with_suffix(".log"), "w+") as log:
        files = {0: nothing.fileno(), 1: log.fileno(), 2: log.fileno()}
        code = shared().start([*command, "--small"], os.environ, files).wait(600)
        log.seek(0)
        said = log.read()
    assert code == 0, said
    return SimpleNamespace(folder=out, said=said)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = configs_folder(True, tmp_path_factory.mktemp("configs"))
    return Bench(SmallRig(), SMALL, tmp_path_factory.mktemp("out"), folder, Dry(folder, True))


def read(folder: Path, suite: str) -> dict:
    return json.loads((folder / f"{suite}.json").read_text())


def rows(measured, suite: str) -> dict[str, dict]:
    return {row["case"]: row for row in read(measured.folder, suite)["rows"]}


@pytest.mark.parametrize("suite", MEASURED)
def test_every_suite_writes_a_whole_file_that_says_where_it_was_measured(measured, suite):
    content = read(measured.folder, suite)
    assert content["ended"] == "whole"
    assert content["rows"]
    assert content["small"]
    assert content["torch"] == torch.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", content["date"])
    assert {"card", "driver", "diffusers", "program"} <= content.keys()


def test_nothing_that_is_not_on_a_lent_machine_is_imported(measured):
    assert measured.said.splitlines()[-1] == "imported end"


def test_ours_makes_stocks_latents_and_holds_no_more_than_its_card(measured):
    found = list(rows(measured, "i2vgen").values())
    ours = [row for row in found if row["who"] == "ours" and not row["error"]]
    assert {cap for row in ours for cap in row["caps_bytes"]} == {0, *SMALL.caps[1:]}
    assert len({str(row["plan"]) for row in ours}) > 1
    for row in ours:
        assert row["from_stock"] < 1e-5
        assert row["from_float32"] < 1e-5
        assert row["cap_bytes"] is None or row["peak"]["reserved_bytes"] <= row["cap_bytes"]
        assert row["predicted_peak_bytes"] >= row["peak"]["allocated_bytes"]
        assert len(row["step_seconds"]) == 2  # two rounds
    smallest = min(ours, key=lambda row: row["peak"]["reserved_bytes"])
    stock = next(row for row in found if row["who"] == "diffusers, resident")
    assert smallest["peak"]["allocated_bytes"] < 0.7 * stock["peak"]["allocated_bytes"]
    assert stock["ratio_to_stock"] == 1
    # The planner says no plan fits the smallest card; diffusers needs the largest.
    assert [row["caps_bytes"] for row in found if row.get("error") == "no plan fits"] == [[SMALL.caps[0]]]
    assert stock["runs_in_bytes"] == SMALL.caps[-1]


def test_on_the_simulated_card_predictions_are_exact_and_the_ledger_has_every_run(measured):
    found = [row for row in rows(measured, "planner").values() if "phases" in row]
    latents = 4 * 8 * 8 * 8 * 4
    for row in found:
        encode, denoise, decode = (p["predicted_bytes"] - p["measured_bytes"] for p in row["phases"])
        assert (encode, denoise) == (0, 0)
        assert 0 <= decode <= latents  # a dry run ends within a step, whose prediction is then still held
    entries = Ledger(measured.folder / "ledger.jsonl").entries()
    assert len(entries) == len(found) > 4
    summary = read(measured.folder, "planner")["notes"]["summary"]
    assert summary["memory_measured_to_predicted"] == [1, 1]
    assert summary["out_of_memory"] == 0
    assert summary["worst_regret"] >= 0


def test_a_robbed_run_heals_without_making_a_step_again(measured):
    found = rows(measured, "heal")
    for phase in ("denoise", "decode"):
        assert {rung["phase"] for rung in found[phase]["healed"]} == {phase}
        assert found[phase]["steps_made"] == heal.STEPS
        assert found[phase]["latents_difference"] < 1e-5
        assert found[phase]["frames_largest_difference"] <= 1
    assert not found["undisturbed"]["healed"]


def test_hunyuan_video_is_stocks_on_a_card_that_it_fills_and_is_refused_one_that_is_too_small(measured):
    found = rows(measured, "hunyuan")
    small, filled, whole = (f"128x160x9 ours, {cap or 'all'} bytes" for cap in hunyuan.SMALL_CASES[0].caps)
    assert found[small]["error"] == "no plan fits"
    for name in (filled, whole):
        row = found[name]
        assert not row["error"]
        assert row["from_stock"] < 1e-5
        held = max(row[part]["reserved_bytes"] for part in ("encode", "denoise", "decode"))
        assert row["cap_bytes"] is None or held <= row["cap_bytes"]
        assert row["predicted_phases_bytes"]["denoise"] == row["denoise"]["allocated_bytes"]
        assert row["predicted_phases_bytes"]["decode"] == row["decode"]["allocated_bytes"]
    assert found[filled]["plan"] != found[whole]["plan"]
    for peer in ("diffusers, resident", "diffusers, group offload"):
        assert found[f"128x160x9 {peer}"]["from_stock"] < 1e-5


def test_the_profile_names_items_that_make_up_no_more_than_the_step(measured):
    found = rows(measured, "limits")
    assert sum(item["share"] for item in found["profile"]["items"]) <= 1
    assert len(found["profile"]["items"]) >= 3
    shares = [row["denoise"]["share_of_matrix_rate"] for row in found.values() if row.get("denoise")]
    assert all(0 < share < 1 for share in shares)
    flops = {row["denoise"]["flops"] for row in found.values() if row.get("denoise")}
    assert len(flops) == 1  # chunks and passes do the same work


def test_the_report_shows_small_results_only_when_asked(measured, tmp_path):
    assert tables.document(measured.folder) == [tables.NOT_MEASURED]
    text = "\n".join(tables.document(measured.folder, small=True))
    for suite in MEASURED:
        assert f"`{suite}`: measured on simulated, driver None, torch {torch.__version__}" in text
    stock = next(row for row in rows(measured, "i2vgen").values() if row["who"] == "diffusers, resident")
    assert f"| {stock['seconds_per_step']:.3f} | 1.00 |" in text
    drawn = tables.plots(measured.folder, small=True)
    assert sorted(drawn) == ["simulated-peak.svg", "simulated-time-64x64x8.svg"]
    for name, svg in drawn.items():
        ElementTree.fromstring(svg)
        assert f"(bench/results/gpu/{name})" in text
    for line in (line for line in text.splitlines() if line.startswith("|")):
        assert line.endswith("|")
    for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_the_document_follows_the_files_and_says_when_there_are_none(measured, tmp_path, monkeypatch):
    folder = tmp_path / "gpu"
    folder.mkdir()
    monkeypatch.setattr(report, "GPU", folder)
    document = "<!-- table: gpu -->\nsomething old\n<!-- end -->"
    assert report.render(document) == "<!-- table: gpu -->\nNot measured yet.\n<!-- end -->"
    content = read(measured.folder, "i2vgen") | {"small": False, "card": "Made Up 1"}
    (folder / "i2vgen.json").write_text(json.dumps(content))
    assert "### Made Up 1" in report.render(document)
    wanted = report.stale_plots(folder)
    assert [path.name for path in wanted] == ["made-up-1-peak.svg", "made-up-1-time-64x64x8.svg"]
    for path, svg in wanted.items():
        path.write_text(svg)
    assert not report.stale_plots(folder)
    next(iter(wanted)).write_text("<svg/>")
    assert len(report.stale_plots(folder)) == 1


def test_without_time_every_file_is_there_and_whole(tmp_path, monkeypatch):
    assert main(["--suite", "all", "--minutes", "0.00001", "--out", f"{tmp_path}", "--small"]) == 0
    for suite in (name for name in MEASURED if SHARES[name]):
        assert read(tmp_path, suite)["ended"] == "out of time"
        assert not read(tmp_path, suite)["rows"]


def test_a_suite_whose_time_ends_keeps_the_cases_it_had(bench, tmp_path):
    """A clock that moves only when it is asked."""
    moments = iter(range(10))
    clock = Clock(2.5 / 60, lambda: next(moments))
    record = Record(tmp_path, "probe", bench.rig.described())
    with pytest.raises(OutOfTime):
        probe.suite(bench, record, clock)
    assert [row["case"] for row in read(tmp_path, "probe")["rows"]] == ["context", "own memory"]


def test_a_run_that_is_killed_leaves_valid_files(tmp_path):
    """Rows are put as fast as they can be, and the process is killed wherever it is."""
    script = """
import sys
from pathlib import Path
from bench.gpu.record import Record
record = Record(Path(sys.argv[1]), "suite", {})
for number in range(10**9):
    record.put(f"case {number % 60}", {"number": number, "text": "x" * 500})
    if number == 60:
        print("going", flush=True)
"""
    command = [sys.executable, "-c", script, f"{tmp_path}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"going\n"
        for _ in range(200):  # as a kill at any of these moments would leave it
            assert len(read(tmp_path, "suite")["rows"]) == 60
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    content = read(tmp_path, "suite")
    assert content["ended"] == "broken off"
    assert len(content["rows"]) == 60


def test_an_earlier_runs_cases_are_taken_over_only_from_the_same_machine_and_program(tmp_path):
    first = Record(tmp_path / "first", "suite", MACHINE)
    first.put("one", {"value": 1})
    first.note(seen=True)
    again = Record(tmp_path / "again", "suite", MACHINE, tmp_path / "first")
    assert again.get("one") == {"case": "one", "value": 1}
    assert again.notes == {"seen": True}
    for name in ("card", "torch", "program"):
        other = Record(tmp_path / "other", "suite", {**MACHINE, name: "another"}, tmp_path / "first")
        assert not other.rows()
    assert not Record(tmp_path / "none", "suite", MACHINE, tmp_path / "missing").rows()


def test_a_row_is_put_in_its_own_place(tmp_path):
    record = Record(tmp_path, "suite", MACHINE)
    for case, value in (("one", 1), ("two", 2), ("one", 3)):
        record.put(case, {"value": value})
    assert [(row["case"], row["value"]) for row in read(tmp_path, "suite")["rows"]] == [("one", 3), ("two", 2)]
    with pytest.raises(ValueError, match="JSON"):
        record.put("three", {"value": float("nan")})


def test_a_layer_of_zeros_would_be_seen(bench):
    """Every parameter is drawn: no layer is an identity, and another prompt gives another answer."""
    model = random_model(bench.configs, "float32", torch.device("cpu"))
    assert all(parameter.any() for module in model.modules.values() for parameter in module.parameters())
    job = SMALL.job(SMALL.sizes[0], 1)
    same, _, _ = encode(bench.rig, model, job, Plan(device="simulated"))
    other, _, _ = encode(bench.rig, model, replace(job, prompt="a lake"), Plan(device="simulated"))
    assert not torch.equal(same["prompt"], other["prompt"])
    one, two = (run(bench.rig, Peer("diffusers, resident", model), job, c, decode=False).latents for c in (same, other))
    assert relative_difference(one, two) > 1e-4


def test_the_reference_has_all_the_bits_of_float32(bench, monkeypatch):
    """TF32, which torch lets cuDNN use, is no finer than the float16 that is judged."""
    model = random_model(bench.configs, "float16", torch.device("cpu"))
    seen = {}

    def looked(rig, contender, job, conditioning, **_):
        seen["tf32"] = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
        seen["types"] = {tensor.dtype for tensor in conditioning.values()} | {contender._model.unet.dtype}
        return Run()

    monkeypatch.setattr(i2vgen, "run", looked)
    conditioning = {"prompt": torch.zeros(1, dtype=torch.float16)}
    i2vgen.float32_latents(bench, model, conditioning, SMALL.sizes[0])
    assert seen == {"tf32": (False, False), "types": {torch.float32}}
    assert torch.backends.cudnn.enabled


def test_running_out_of_memory_and_of_time_are_results(bench):
    model = random_model(bench.configs, "float32", torch.device("cpu"))
    job = SMALL.job(SMALL.sizes[0], 2)
    plan = Plan(device="simulated", places=everywhere("staged"), cfg="split")
    conditioning, _, _ = encode(bench.rig, model, job, plan)
    assert run(bench.rig, Ours(model, plan), job, conditioning, cap_bytes=2**22).error == "out of memory in denoise"
    late = run(bench.rig, Ours(model, plan), job, conditioning, room_for=lambda seconds: False)
    assert late.error == "out of time"
    assert len(late.step_seconds) == 1
    assert run(bench.rig, Ours(model, plan), job, conditioning).error == ""  # nothing is left standing on the card


def test_a_capped_card_counts_the_context(monkeypatch):
    """Without a card: the arithmetic of a rig whose figures are given."""
    fractions = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (140 * GIB, 140 * GIB))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: fractions.append(share))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    rig = CudaRig.__new__(CudaRig)
    rig.device, rig.context_bytes = torch.device("cuda", 0), GIB // 2
    rig.before = replace(
        SmallRig().gpus()[0], name="NVIDIA H200", simulated=False, used_bytes=GIB, total_bytes=140 * GIB
    )
    with rig.card(6 * GIB) as card:
        assert card.memory_cap_bytes == 5.5 * GIB
    assert fractions == [5.5 / 140, 1.0]
    machine = rig.machine(6 * GIB)
    assert (machine.budget_bytes, machine.context_bytes) == (6 * GIB, GIB // 2)


def test_the_full_scale_is_what_was_promised():
    assert list(FULL.sizes) == [(512, 512, 16), (768, 768, 16), (1024, 1024, 16)]
    assert [cap / GIB for cap in FULL.caps] == [4, 6, 8, 12, 16, 24]
    assert FULL.precisions == ("float16", "bfloat16")
    assert FULL.steps == 10
    # The shipped table has every plan of every size, so that no card waits for a dry run.
    known = Known()
    for size in FULL.sizes:
        for plan in candidates(Plan(device="cuda", precision="float16"), ()):
            assert known.whole("i2vgen_xl", FULL.job(size), plan) is not None


def test_weights_come_out_in_files_that_may_travel(tmp_path):
    from safetensors.torch import load_file

    tensors = {f"layer {n}": torch.full((2_000_000,), n, dtype=torch.float16) for n in range(9)}
    names = write_parts(tmp_path, tensors)
    assert names == ["nano-1.safetensors", "nano-2.safetensors", "nano-3.safetensors"]
    back = {}
    for name in names:
        assert (tmp_path / name).stat().st_size < PART_BYTES + 2**16
        back |= load_file(tmp_path / name)
    assert all(torch.equal(back[name], one) for name, one in tensors.items())


def test_the_axis_ends_at_a_round_number_above_what_it_shows():
    assert [nice_top(value) for value in (0.7, 1, 4.2, 20.6, 26)] == pytest.approx([1, 1, 5, 30, 30])
    gap = line_plot("a & b", ["1", "2", "3"], [Series("one", [1.0, None, 2.0])])
    assert "a &amp; b" in gap
    assert "polyline" not in gap  # nothing is drawn across a missing value
