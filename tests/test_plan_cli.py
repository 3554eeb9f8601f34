"""`python -m i2v plan`: answers before anything is loaded, for this machine and for others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from cli_support import ROOT, environment, i2v
from one_child import one_planning_child

from i2v.families.spec import UNET_RUNGS
from i2v.jobs.process.dry_child import DryChild

XL = ("--model", "i2vgen-xl", "--width", "512", "--height", "512", "--frames", "16", "--steps", "50")
KEYS = (
    *("verdict", "lossless", "peak_gib", "margin_gib", "context_gib", "budget_gib", "ram_peak_gib", "disk_gib"),
    *("seconds", "load_seconds", "finish_seconds", "finish_gib", "phases", "plan", "ladder", "why", "nearest", "said"),
)


@pytest.fixture(scope="module", autouse=True)
def child() -> Iterator[DryChild]:
    """Answers every command of this file."""
    with one_planning_child() as child:
        yield child


def plan(folder: Path, *words: str) -> tuple[int, dict]:
    done = i2v(folder, "plan", "--json", "--ram", "64", "--models", str(folder / "models"), *words)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_card_that_is_not_here_for_a_model_that_is_not_here(tmp_path):
    code, answer = plan(tmp_path, *XL, "--gpu-name", "RTX 3060", "--vram", "11.2")
    assert code == 0
    assert tuple(answer) == KEYS
    assert (answer["verdict"], answer["lossless"]) == ("fits", True)
    assert answer["budget_gib"] == 11.2
    assert [phase["name"] for phase in answer["phases"]] == ["text", "image", "latents", "denoise", "decode"]
    for phase in answer["phases"]:
        parts = phase["weights_gib"] + phase["activations_gib"] + phase["workspace_gib"] + answer["context_gib"]
        assert phase["peak_gib"] == pytest.approx(parts, abs=0.003)
    assert answer["peak_gib"] == max(phase["peak_gib"] for phase in answer["phases"])
    assert answer["seconds"] == pytest.approx(sum(phase["seconds"] for phase in answer["phases"]), abs=0.1)
    assert answer["disk_gib"] > 4  # it has to be downloaded first


def test_a_model_that_reads_sentences_says_what_it_will_do(tmp_path):
    _, answer = plan(tmp_path, "--prompt", "zoom in while the dog wags its tail")
    assert answer["said"] == [
        "Motion: zoom in.",
        "Not understood: “the dog wags its tail”. This model can not do that.",
    ]
    assert plan(tmp_path, *XL, "--prompt", "zoom in", "--gpu-name", "RTX 3060")[1]["said"] == []


def test_less_memory_takes_longer_down_to_where_nothing_fits(tmp_path):
    answers = [plan(tmp_path, *XL, "--gpu-name", "RTX 3060", "--vram", gib) for gib in ("11", "6", "2", "1")]
    assert [answer["verdict"] for _, answer in answers] == ["fits", "fits", "fits", "wont_fit"]
    seconds = [answer["seconds"] for _, answer in answers[:3]]
    assert seconds == sorted(seconds)
    assert seconds[0] < seconds[2]
    assert [code for code, _ in answers] == [0, 0, 0, 3]
    assert any("1.00" in why or "missing" in why for why in answers[3][1]["why"])


def test_what_more_memory_would_save_is_told_where_somebody_would_notice(tmp_path):
    """Chunks cost a UNet minutes of an hour, and a transformer seconds of many hours."""
    more = re.compile(r"^\d+\.\d\d GiB more on the card would save about \d+ s\.$")
    _, unet = plan(tmp_path, *XL, "--gpu-name", "RTX 3060", "--vram", "2")
    assert [bool(more.match(line)) for line in unet["why"]].count(True) == 1
    video = ("--model", "HunyuanVideo", "--width", "1280", "--height", "720", "--frames", "129")
    code, answer = plan(tmp_path, *video, "--gpu-name", "RTX 3060", "--vram", "6")
    assert (code, answer["verdict"], answer["plan"]["precision"]) == (0, "fits", "bfloat16")
    assert [phase["name"] for phase in answer["phases"]] == ["text", "pooled", "denoise", "decode"]
    assert not any("save" in line for line in answer["why"])


def test_phases_have_names_in_every_language(tmp_path):
    video = ("--model", "HunyuanVideo", "--task", "v2v", "--width", "1280", "--height", "720", "--frames", "129")
    card = ("--gpu-name", "RTX 3060", "--ram", "64", "--models", str(tmp_path / "models"))
    for locale, told in (("en", "phase: denoising"), ("zh-CN", "阶段：去噪")):
        for vram in ("6", "3"):
            assert told in i2v(tmp_path, "plan", *video, *card, "--vram", vram, "--lang", locale).stdout


def test_a_lossy_policy_makes_it_fit_and_says_that_the_picture_is_not_the_same(tmp_path):
    words = (*XL, "--gpu-name", "RTX 3060", "--vram", "3.3", "--offload", "staged")
    code, lossless = plan(tmp_path, *words)
    assert (code, lossless["verdict"], lossless["plan"]["weights"]) == (3, "wont_fit", "full")
    code, balanced = plan(tmp_path, *words, "--policy", "balanced")
    assert (code, balanced["lossless"]) == (0, False)
    assert balanced["plan"]["weights"] in ("float8", "int8")
    assert any("eight bits" in why and "not quite the same" in why for why in balanced["why"])
    _, roomy = plan(tmp_path, *XL, "--gpu-name", "RTX 3060", "--vram", "6", "--policy", "balanced")
    assert (roomy["lossless"], roomy["plan"]["weights"]) == (True, "full")


def test_where_it_does_not_fit_the_nearest_settings_do(tmp_path):
    job = ("--model", "i2vgen-xl", "--width", "1024", "--height", "1024", "--frames", "32", "--gpu-name", "RTX 3060")
    _, answer = plan(tmp_path, *job, "--vram", "2.5")
    assert answer["verdict"] == "wont_fit"
    assert answer["nearest"]
    for near in answer["nearest"]:
        words = (f"--{key}={value}" for key, value in near.items())
        code, _ = plan(tmp_path, "--model", "i2vgen-xl", *words, "--gpu-name", "RTX 3060", "--vram", "2.5")
        assert code == 0


def test_what_is_fixed_stays_and_the_rest_is_planned(tmp_path):
    _, answer = plan(tmp_path, *XL, "--gpu-name", "RTX 4090", "--cfg", "split", "--chunk-frames", "4")
    assert (answer["plan"]["cfg"], answer["plan"]["chunk_frames"]) == ("split", 4)
    assert all(rung["plan"]["chunk_frames"] == 4 for rung in answer["ladder"])


def test_an_answer_from_the_table_needs_no_torch(tmp_path):
    code = (
        "import sys; from i2v.cli.program import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'diffusers', 'transformers'} & set(sys.modules); print(heavy, file=sys.stderr);"
        "raise SystemExit(code)"
    )
    words = ("plan", *XL, "--gpu-name", "RTX 3060", "--ram", "64", "--models", str(tmp_path))
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "set()"


def test_a_new_size_is_run_dry_and_remembered(tmp_path, child):
    ended = child.close.call_count
    words = ("--model", "nano", "--width", "200", "--height", "136", "--frames", "5", "--gpu-name", "T4")
    _, answer = plan(tmp_path, *words)
    assert answer["verdict"] == "fits"
    assert not any("next larger" in why for why in answer["why"])
    assert child.close.call_count == ended + 1
    with mock.patch.object(child, "run", side_effect=AssertionError("asked again for what it knows")):
        assert plan(tmp_path, *words) == (0, answer)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--width", "513"), "513"),
        (("--frames", "0"), "frames"),
        (("--vram", "0"), "vram"),
        (("--vram", "plenty"), "vram"),
        (("--ram", "-3"), "ram"),
        (("--gpu-name", "Voodoo 2"), "Voodoo 2"),
        (("--model", "nonesuch"), "nonesuch"),
        (("--width", "100000", "--height", "64"), "100000"),
    ],
)
def test_what_can_not_be_is_told(tmp_path, words, named):
    done = i2v(tmp_path, "plan", "--models", str(tmp_path), *words)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_zero_bytes_on_this_machine_are_no_crash(tmp_path):
    code, answer = plan(tmp_path, *XL, "--vram", "0.01")
    assert (code, answer["verdict"]) == (3, "wont_fit")


def test_people_get_lines_and_every_plan_that_was_considered(tmp_path):
    done = i2v(tmp_path, "plan", *XL, "--gpu-name", "RTX 3060", "--ram", "64", "--explain", "--models", str(tmp_path))
    assert done.returncode == 0
    assert "GiB" in done.stdout
    assert done.stdout.count("resident cfg=") == done.stdout.count("staged cfg=") == len(UNET_RUNGS)
    assert done.stdout.count("streamed cfg=") >= len(UNET_RUNGS)
    assert os.linesep + "*" in done.stdout


def test_a_task_is_planned_and_one_that_no_model_does_is_refused(tmp_path):
    assert plan(tmp_path, "--task", "i2v")[1]["verdict"] == plan(tmp_path)[1]["verdict"]
    refused = i2v(tmp_path, "plan", "--task", "v2v", "--models", str(tmp_path / "models"))
    assert (refused.returncode, "“v2v”" in refused.stderr) == (2, True)
