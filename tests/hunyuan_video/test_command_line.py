"""HunyuanVideo on the command line, from a sentence and from a video: a whole video comes, tells what it was made from,
and is made again from that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_support import i2v
from safetensors.torch import load_file

from i2v.cli.exits import Exit
from i2v.families.hunyuan_video.spec import SPEC
from i2v.video.metadata import read_metadata
from tests.hunyuan_checkpoints import small_transformer
from tests.lora_files import lora_file
from tests.video_support import film, shown

SMALL = ("--frames", "9", "--width", "128", "--height", "128", "--steps", "2", "--seed", "7")
FRAMES = list(range(9))


class Program:
    """The program with every folder in `folder`."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self.folder, self.checkpoint = folder, checkpoint
        self.outputs = ("--out", str(folder / "outputs"))

    def makes(self, *words: str) -> Path:
        """The video that is made."""
        made = i2v(self.folder, *words, *self.outputs, "--models", str(self.folder / "models"), "--cpu")
        assert made.returncode == Exit.DONE, made.stderr
        video = Path(made.stdout.strip())
        assert list(shown(video)) == FRAMES
        return video

    def generates(self, *words: str) -> Path:
        return self.makes("generate", "--model", str(self.checkpoint), "--prompt", "waves roll in", *SMALL, *words)

    def refuses(self, *words: str) -> str:
        """What is said in place of a video."""
        words = ("generate", "--model", str(self.checkpoint), "--prompt", "waves roll in", *SMALL, *words)
        made = i2v(self.folder, *words, *self.outputs, "--models", str(self.folder / "models"), "--cpu")
        assert (made.returncode, made.stdout) == (Exit.BAD_INPUT, "")
        return made.stderr

    def tells(self, video: Path) -> dict:
        """The request that `show` finds in `video`."""
        return json.loads(i2v(self.folder, "show", str(video)).stdout)["request"]

    def lists(self) -> list[str]:
        """The state of each job, the oldest first."""
        listed = i2v(self.folder, "jobs", "--json", *self.outputs)
        return [job["state"] for job in json.loads(listed.stdout)]


@pytest.fixture
def program(tmp_path: Path, checkpoint: Path) -> Program:
    return Program(tmp_path, checkpoint)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return film(tmp_path / "clip.mp4", "-pix_fmt", "yuv420p", size="160x128", rate="24", seconds=1)


def latents(video: Path) -> list:
    return [tensor.tolist() for _, tensor in sorted(load_file(video.with_name("latents.safetensors")).items())]


def test_a_sentence_becomes_a_video(program: Program) -> None:
    video = program.generates("--task", "t2v")
    told = program.tells(video)
    assert (told["task"], told["inputs"], told["adapters"]) == ("t2v", [], [])
    by_what_is_given = program.generates()
    assert program.tells(by_what_is_given) == told
    assert shown(by_what_is_given) == shown(video)


def test_the_same_latents_in_other_windows_are_another_video_that_says_so(program: Program) -> None:
    video = program.generates("--vae-window", "5x16x16")
    told = read_metadata(video)
    assert (told["plan"]["vae_window"], told["plan"]["lossless"]) == ("5x16x16", False)
    assert told["window_psnr_db"] == SPEC.windows.others["5x16x16"]
    assert told["request"]["options"]["vae_window"] == "5x16x16"
    smaller = program.makes("redecode", video.parent.name, "--vae-window", "3x8x8")
    assert latents(smaller) == latents(video)
    assert shown(smaller) != shown(video)
    told = read_metadata(smaller)
    assert (told["plan"]["vae_window"], told["plan"]["lossless"], "window_psnr_db" in told) == ("3x8x8", False, False)


def test_a_video_becomes_another_and_is_made_again_from_what_its_job_kept(
    program: Program, clip: Path, tmp_path: Path
) -> None:
    lora = lora_file(tmp_path / "style.safetensors", small_transformer())
    video = program.generates("--video", str(clip), "--strength", "0.5", "--lora", f"{lora}:0.5")
    told = program.tells(video)
    assert (told["task"], [one["strength"] for one in told["inputs"]]) == ("v2v", [0.5])
    assert [(one["source"], one["weight"]) for one in told["adapters"]] == [(str(lora), 0.5)]
    clip.unlink()
    nearer = program.makes("retry", video.parent.name, "--strength", "0.25")
    told_again = program.tells(nearer)
    assert [one["strength"] for one in told_again.pop("inputs")] == [0.25]
    assert told_again == {name: value for name, value in told.items() if name != "inputs"}
    decoded = program.makes("redecode", video.parent.name)
    assert shown(decoded) == shown(video)
    plain = program.makes("retry", video.parent.name, "--lora", "")
    assert program.tells(plain)["adapters"] == []
    assert latents(decoded) == latents(video)
    assert len({str(latents(one)) for one in (video, nearer, plain)}) == 3
    assert program.lists() == ["done"] * 4


def test_a_scheduler_is_chosen_and_stands_in_the_video(program: Program, clip: Path) -> None:
    guided = ("--true-guidance", "2", "--negative", "a garden", "--guidance-curve", "falling")
    made = [program.generates("--video", str(clip), "--scheduler", "flow_unipc", *guided, "--flow-shift", "9")]
    made.append(
        program.makes("retry", made[0].parent.name, "--scheduler", "Flow_DPMPP_2M", "--guidance-rescale", "0.5")
    )
    told = [program.tells(video) for video in made]
    assert [one["scheduler"] for one in told] == ["flow_unipc", "flow_dpmpp_2m"]
    assert [one["guidance_curve"] for one in told] == ["falling", "falling"]
    assert [one["guidance_rescale"] for one in told] == [0.0, 0.5]
    assert [one["flow_shift"] for one in told] == [9.0, 9.0]
    assert latents(made[0]) != latents(made[1])


def test_what_has_no_place_is_refused_with_what_to_do(program: Program, clip: Path) -> None:
    assert "For the task “t2v” HunyuanVideo takes no video." in program.refuses("--task", "t2v", "--video", str(clip))
    assert "HunyuanVideo makes nothing from a picture." in program.refuses("--image", "photo.jpg")
    assert "there are: none." in program.refuses("--lora", "style")
    refused = program.refuses("--scheduler", "ddim")
    assert "is not run with the scheduler “ddim”. It is offered with: flow_euler, flow_dpmpp_2m, flow_unipc." in refused
    assert program.lists() == []
