"""`python -m i2v train`: what may be typed, and from a folder of clips to a file on the shelf."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from i2v.cli.program import main
from i2v.training.request import TrainingPlan, TrainingRequest, event_from_json, event_to_json
from tests.training.small_trainings import FPS, FRAMES, SIDE


def words(clips: Path, model: Path, tmp_path: Path, *more: str) -> list[str]:
    size = ("--width", f"{SIDE}", "--height", f"{SIDE}", "--frames", f"{FRAMES}", "--fps", f"{FPS}")
    folders = ("--out", f"{tmp_path / 'outputs'}", "--models", f"{tmp_path / 'models'}", "--lang", "en")
    return ["train", "--clips", f"{clips}", "--model", f"{model}", *size, *folders, *more]


@pytest.mark.drives
def test_a_folder_of_clips_becomes_a_lora_on_the_shelf(
    model_of: Callable[[str], Path], clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """On a simulated card: it is planned for, and what was foretold is what the steps then hold."""
    asked = words(clips, model_of("hunyuan_video"), tmp_path, "--steps", "3", "--batch", "2", "--rank", "2")
    code = main([*asked, "--name", "squares", "--simulate", "1", "--json"])
    out, _ = capfd.readouterr()
    told = [event_from_json(json.loads(line)) for line in out.splitlines()]
    assert code == 0
    assert [event_to_json(one) for one in told] == [json.loads(line) for line in out.splitlines()]
    kinds = [one.type for one in told]
    assert kinds[0] == "foretold"
    assert kinds[-5:] == ["begun", "stepped", "stepped", "stepped", "trained"]
    assert max(one.peak_bytes for one in told if one.type == "stepped") <= told[0].tensor_bytes
    file = tmp_path / "models/loras/squares.safetensors"
    assert told[-1].file == str(file)
    assert file.is_file()
    work = tmp_path / "outputs/training/squares"
    assert {one.name for one in work.iterdir()} >= {"loss.csv", "plan.json", "progress.safetensors"}
    assert not (work / "cache").exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("--rank", "0"), "--rank"),
        (("--steps", "many"), "--steps"),
        (("--recompute", "most"), "--recompute"),
        (("--name", "../out"), "“../out”"),
        (("--precision", "float16"), "float16"),
        (("--clip", "x"), "--clips"),
    ],
)
def test_a_slip_is_named_and_nothing_is_written(
    model_of: Callable[[str], Path],
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    typed: tuple[str, ...],
    said: str,
) -> None:
    assert main(words(clips, model_of("hunyuan_video"), tmp_path, *typed)) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert said in error
    assert not (tmp_path / "outputs").exists()
    assert not (tmp_path / "models/loras").exists()


def test_clips_are_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--out", str(tmp_path), "--lang", "en"]) == 2
    assert "--clips" in capsys.readouterr().err


def test_requests_and_plans_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    request = TrainingRequest("m", "nano", "f", "c", "w", "l", 64, 64, 5, 8, 0, validation_image="p")
    assert TrainingRequest.from_json({**json.loads(json.dumps(request.to_json())), "later": 1}) == request
    plan = TrainingPlan(device="cuda", precision="bfloat16", recomputed=(1, 4), memory_cap_bytes=7)
    assert TrainingPlan.from_json({**json.loads(json.dumps(plan.to_json())), "later": 1}) == plan
