"""The command line beside a running app: it hands its jobs to that app, and steers and lists what is there."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_support import i2v, popen
from page_server import PageServer, page_server
from photos import photograph

from i2v.cli.exits import Exit
from i2v.video.metadata import probe_video
from tests.video_support import film

NANO = ("--width", "64", "--height", "64", "--frames", "2", "--steps", "2", "--seed", "7")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with page_server(tmp_path_factory.mktemp("joined")) as running:
        yield running


def words(server: PageServer, *more: str) -> list[str]:
    places = ["--out", str(server.folder / "outputs"), "--models", str(server.folder / "models"), "--cpu"]
    return ["generate", "--image", str(photograph()), "--prompt", "a cheetah breathes", *NANO, *places, *more]


def listed(folder: Path) -> list[dict]:
    said = i2v(folder, "jobs", "--json", "--out", str(folder / "outputs"))
    assert said.returncode == Exit.DONE, said.stderr
    return json.loads(said.stdout)


@pytest.fixture(scope="module")
def made(server: PageServer, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A generation that the command line handed to the app, the first one there."""
    done = i2v(tmp_path_factory.mktemp("first"), *words(server))
    assert done.returncode == Exit.DONE, done.stderr
    return done


def test_a_video_is_made_by_the_app_that_runs(
    server: PageServer, made: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    assert server.url in made.stderr
    assert "step 2 of 2" in made.stderr
    video = Path(made.stdout.strip())
    assert (probe_video(video).frames, probe_video(video).width) == (2, 64)
    (job,) = listed(server.folder)
    assert (job["id"], job["state"], job["prompt"]) == (video.parent.name, "done", "a cheetah breathes")
    table = i2v(tmp_path, "jobs", "--out", str(server.folder / "outputs"), "--lang", "zh-CN").stdout
    assert table.split() == [job["id"], "完成", "稳定", "a", "cheetah", "breathes"]

    decoded = i2v(tmp_path, "redecode", job["id"], "--fps", "3", "--out", str(server.folder / "outputs"))
    assert decoded.returncode == Exit.DONE, decoded.stderr
    assert "Denoising" not in decoded.stderr
    assert probe_video(Path(decoded.stdout.strip())).fps == 3


def test_another_file_is_written_by_the_app_that_runs(
    server: PageServer, made: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    video, out = Path(made.stdout.strip()), ("--out", str(server.folder / "outputs"))
    job_id, pids = video.parent.name, worker_pids(server, video.parent.name)
    grey = i2v(tmp_path, "export", job_id, "--fps", "5", "--saturation", "0", *out)
    assert grey.returncode == Exit.DONE, grey.stderr
    path = Path(grey.stdout.strip())
    assert path == video.with_name("video-5fps-good-saturation0.mp4")
    assert (probe_video(path).fps, probe_video(path).frames) == (5, 2)
    copied = i2v(tmp_path, "export", job_id, "--to", str(tmp_path / "clip.GIF"), "--quality", "small", *out)
    assert copied.stdout.strip() == str(tmp_path / "clip.GIF"), copied.stderr
    assert (tmp_path / "clip.GIF").read_bytes().startswith(b"GIF89a")
    inside = i2v(tmp_path, "export", job_id, "--to", str(tmp_path), "--format", "webp", *out)
    assert Path(inside.stdout.strip()).parent == tmp_path
    assert Path(inside.stdout.strip()).suffix == ".webp"
    for wrong, said in (("--warmth=2", "from -1 to 1"), ("--format=avi", "mp4, webm, gif, webp")):
        refused = i2v(tmp_path, "export", job_id, wrong, *out)
        assert (refused.returncode, said in refused.stderr) == (Exit.BAD_INPUT, True), refused.stderr
    unwritable = i2v(tmp_path, "export", job_id, "--to", str(tmp_path / "no" / "clip.gif"), *out)
    assert (unwritable.returncode, "Traceback" in unwritable.stderr) == (Exit.BAD_INPUT, False)
    assert worker_pids(server, job_id) == pids


def test_steadiness_is_told_by_the_app_that_runs_and_of_any_file(
    server: PageServer, made: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    video, out = Path(made.stdout.strip()), ("--out", str(server.folder / "outputs"))
    table = tmp_path / "frames.csv"
    told = i2v(tmp_path, "steadiness", video.parent.name, "--json", "--csv", str(table), *out)
    assert told.returncode == Exit.DONE, told.stderr
    report = json.loads(told.stdout)
    assert (report["source"], len(report["frames"]["luma"])) == ("frames", 2)
    assert len(table.read_text().splitlines()) == 3
    before = sorted(video.parent.iterdir())
    of_file = i2v(tmp_path, "steadiness", str(video), "--lang", "zh-CN", *out)
    assert of_file.returncode == Exit.DONE, of_file.stderr
    assert of_file.stdout.splitlines()[0] == "稳定"
    assert "闪烁: " in of_file.stdout
    assert sorted(video.parent.iterdir()) == before
    for named, said in (("nobody", "nobody"), (str(tmp_path / "no.mp4"), "no.mp4")):
        refused = i2v(tmp_path, "steadiness", named, *out)
        assert (refused.returncode, said in refused.stderr) == (Exit.BAD_INPUT, True), refused.stderr
    unwritable = i2v(tmp_path, "steadiness", str(video), "--csv", str(tmp_path / "no" / "x.csv"), *out)
    assert (unwritable.returncode, "Traceback" in unwritable.stderr) == (Exit.BAD_INPUT, False)


def worker_pids(server: PageServer, job_id: str) -> list[int]:
    """The processes that have run any job."""
    return [job["worker_pid"] for job in listed(server.folder) if job["id"] == job_id]


def test_pause_resume_ctrl_c_and_retry_of_a_job_in_the_app(server: PageServer, tmp_path: Path) -> None:
    out = ("--out", str(server.folder / "outputs"))
    process = popen(tmp_path, *words(server, "--steps", "400", "--json"))
    assert process.stdout is not None
    job_id = json.loads(process.stdout.readline())["id"]
    seen = []
    for line in process.stdout:
        seen.append(event := json.loads(line))
        if event["type"] == "step_finished" and event["index"] == 3:
            assert i2v(tmp_path, "pause", job_id, *out).returncode == Exit.DONE
        if event["type"] == "paused":
            assert i2v(tmp_path, "pause", job_id, *out).returncode == Exit.BAD_INPUT
            assert i2v(tmp_path, "resume", job_id, *out).returncode == Exit.DONE
        if event["type"] == "resumed":
            break
    process.send_signal(signal.SIGINT)
    rest = [json.loads(line) for line in process.stdout.read().splitlines()]
    assert process.wait(timeout=120) == Exit.CANCELLED
    assert [event["type"] for event in rest[-2:]] == ["cancelled", "state_changed"]
    assert listed(server.folder)[-1]["state"] == "cancelled"
    paused = next(event["step"] for event in seen if event["type"] == "paused")
    assert seen[-1]["step"] == paused >= 3
    retried = popen(tmp_path, "retry", job_id, "--json", *out)
    assert retried.stdout is not None
    resumed = next(event for line in retried.stdout if (event := json.loads(line))["type"] == "resumed")
    assert resumed["step"] >= paused
    retried.send_signal(signal.SIGINT)
    retried.communicate(timeout=120)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--steps", "0"), Exit.BAD_INPUT, "steps cannot be 0"),
        (("--image", "nothing.png"), Exit.BAD_INPUT, "nothing.png"),
        (("--model", "i2vgen-xl", "--width", "4096", "--height", "4096"), None, "4096"),
    ],
)
def test_a_refusal_of_the_app_is_its_sentence(
    server: PageServer, tmp_path: Path, more: tuple[str, ...], code: Exit | None, said: str
) -> None:
    refused = i2v(tmp_path, *words(server), *more)
    assert said in refused.stderr
    assert refused.returncode == code or (code is None and refused.returncode in (Exit.BAD_INPUT, Exit.NO_ROOM))
    assert refused.stdout == ""
    assert "Traceback" not in refused.stderr


def test_a_clip_is_handed_over_like_a_picture(server: PageServer, tmp_path: Path) -> None:
    """No model here makes a video from one; the app says so, once it has the clip."""
    before = len(listed(server.folder))
    clip = film(tmp_path / "clip.mp4", "-c:v", "libx264", "-preset", "ultrafast")
    refused = i2v(tmp_path, *words(server), "--video", str(clip), "--strength", "0.5")
    assert (refused.returncode, "makes nothing from a video" in refused.stderr) == (Exit.BAD_INPUT, True)
    heavy = film(tmp_path / "heavy.avi", "-c:v", "rawvideo", size="640x360")
    refused = i2v(tmp_path, *words(server), "--video", str(heavy), I2V_MAX_UPLOAD_MB="1")
    assert (refused.returncode, "max_upload_mb" in refused.stderr) == (Exit.BAD_INPUT, True), refused.stderr
    clip.write_text("no film")
    refused = i2v(tmp_path, *words(server), "--video", str(clip))
    assert (refused.returncode, "not a video that can be read" in refused.stderr) == (Exit.BAD_INPUT, True)
    assert len(listed(server.folder)) == before


def test_with_a_password_it_logs_in_and_without_it_says_where_the_page_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "ann")
    monkeypatch.setenv("LOGNAME", "ann")
    with page_server(tmp_path, "--listen") as running:
        refused = i2v(tmp_path, *words(running))
        assert refused.returncode == Exit.BAD_INPUT
        assert running.url.rpartition(":")[2] in refused.stderr
        assert list((tmp_path / "outputs").glob("20*/*")) == []
        password = running.output.read_text().partition("password: ")[2].split()[0]
        made = i2v(tmp_path, *words(running), I2V_PASSWORD=password)
        assert made.returncode == Exit.DONE, made.stderr
        ticket = json.loads((Path(made.stdout.strip()).parent / "job.json").read_text())
        assert ticket["owner"] == "ann"


def test_the_list_is_there_without_the_app_too(tmp_path: Path) -> None:
    assert listed(tmp_path) == []
    nobody = i2v(tmp_path, "resume", "nobody", "--out", str(tmp_path / "outputs"))
    assert (nobody.returncode, "nobody" in nobody.stderr) == (Exit.BAD_INPUT, True)
    gone = i2v(tmp_path, "export", "nobody", "--format", "gif", "--out", str(tmp_path / "outputs"))
    assert (gone.returncode, "nobody" in gone.stderr) == (Exit.BAD_INPUT, True)
    unnamed = i2v(tmp_path, "retry", "--out", str(tmp_path / "outputs"))
    assert (unnamed.returncode, "python -m i2v retry" in unnamed.stderr) == (Exit.BAD_INPUT, True)
