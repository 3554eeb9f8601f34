"""The run and its encoder are killed at random moments while frames come: what is on the disk plays every time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from i2v.video.metadata import read_metadata
from i2v.video.rescue import growing_path, partial_path, rescue_video
from i2v.video.writer import LAG_FRAMES
from tests.video_support import moving_frames, shown, write_video

pytestmark = pytest.mark.drives

FRAMES = 40
ROUNDS = 5
# Tells of a frame once the file is at most LAG_FRAMES behind it: the encoder's own time is not what is tested.
CHILD = f"""
import time
from pathlib import Path
from i2v.video.rescue import growing_path, whole_fragments
from i2v.video.writer import LAG_FRAMES, VideoWriter
from tests.video_support import moving_frames

path = Path("video.mp4")
with VideoWriter(path, width=96, height=64, fps=16, metadata={{"prompt": "x"}}) as video:
    print(video._process.pid, flush=True)
    for written, frame in enumerate(moving_frames({FRAMES}), start=1):
        video.write(frame)
        until = time.monotonic() + 30
        while whole_fragments(growing_path(path))[1] < written - LAG_FRAMES:
            assert time.monotonic() < until, "more frames are held back than LAG_FRAMES says"
            time.sleep(0.002)
        print(written, flush=True)
        time.sleep(0.01)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    return shown(write_video(tmp_path_factory.mktemp("whole") / "video.mp4", moving_frames(FRAMES)))


@pytest.mark.parametrize("encoder_too", [True, False], ids=["with its encoder", "alone"])
@pytest.mark.parametrize("number", range(ROUNDS))
def test_killed_while_frames_come(tmp_path: Path, whole: dict[int, str], number: int, encoder_too: bool) -> None:
    # The last round comes to the end of the frames; the others stop anywhere, the first perhaps before any.
    chance = random.Random(number)
    stop_at = FRAMES if number == ROUNDS - 1 else chance.randrange(number * 8, number * 8 + 8)
    told = _killed_after(tmp_path, stop_at, chance.uniform(0, 0.012), encoder_too)
    video = tmp_path / "video.mp4"
    assert os.listdir(tmp_path) == [growing_path(video).name]
    rescued = rescue_video(video)
    assert (rescued or 0) >= (told - LAG_FRAMES if encoder_too else told)
    if rescued is None:
        assert os.listdir(tmp_path) == []
        return
    assert os.listdir(tmp_path) == [partial_path(video).name]
    left = shown(partial_path(video))
    assert len(left) == rescued
    if encoder_too:
        assert left.items() <= whole.items()
    assert left.keys() >= set(range(rescued - 3))
    assert read_metadata(partial_path(video)) == {"prompt": "x"}


def _killed_after(folder: Path, stop_at: int, seconds: float, encoder_too: bool) -> int:
    """Kill the child `seconds` after it told of frame `stop_at`; the last frame that it told of."""
    root = str(Path(__file__).parents[2])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    encoder = psutil.Process(int(child.stdout.readline()))
    try:
        for number in range(stop_at):
            assert child.stdout.readline() == f"{number + 1}\n"
        time.sleep(seconds)
    finally:
        if encoder_too:
            encoder.kill()
        child.kill()
        rest = child.stdout.read().split()
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
    # Alone, the encoder notices that no frame comes any more, and ends in order.
    with suppress(psutil.NoSuchProcess):
        while encoder.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
    return max([stop_at, *map(int, rest)])
