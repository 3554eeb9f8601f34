"""A finished video goes on from its last frame: the earlier frames are there to the bit, and none twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from photos import photograph

from i2v.events import Done
from i2v.families import SPECS
from i2v.jobs.job.again import longer_by
from i2v.jobs.job.folder import BEFORE, VIDEO
from i2v.jobs.service import JobService
from i2v.messages import UserError
from i2v.request import GenerationRequest
from i2v.video.join import put_before
from i2v.video.metadata import read_made_here, read_metadata
from tests import warm_support
from tests.jobs_support import settings_in
from tests.video_support import moving_frames, shown, write_video

pytestmark = pytest.mark.drives

NANO = {"model": "nano", "prompt": "pan right", "width": 64, "height": 64, "frames": 6, "fps": 8, "steps": 2, "seed": 3}


def written(path: Path, frames: int, *, width: int = 96, fps: float = 8) -> Path:
    """A video whose metadata says how many frames it has."""
    return write_video(path, moving_frames(frames, width), fps, count=frames)


def pictures(video: Path) -> list[str]:
    """The digest of every frame as it is coded, in order, one for each moment."""
    frames = shown(video)
    assert list(frames) == list(range(len(frames)))
    return list(frames.values())


@pytest.mark.parametrize(("first", "second"), [(1, 1), (13, 9), (9, 40)])
def test_frames_are_joined_as_they_were_coded_and_shown_one_after_the_other(tmp_path, first, second):
    earlier, video = written(tmp_path / "an earlier' one.mp4", first), written(tmp_path / "video.mp4", second)
    expected = [*pictures(earlier), *pictures(video)]
    assert put_before(earlier, video) == first + second
    assert pictures(video) == expected
    assert read_metadata(video) == {"count": second}
    assert len(pictures(earlier)) == first


@pytest.mark.parametrize("other", [{"width": 64}, {"fps": 12}])
def test_videos_that_differ_are_not_joined(tmp_path, other):
    earlier, video = written(tmp_path / "before.mp4", 3), written(tmp_path / "video.mp4", 3, **other)
    whole = video.read_bytes()
    with pytest.raises(UserError) as refused:
        put_before(earlier, video)
    assert refused.value.message.id == "video.not_joined"
    assert (video.read_bytes(), sorted(os.listdir(tmp_path))) == (whole, ["before.mp4", "video.mp4"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobService]:
    folder = tmp_path_factory.mktemp("extended")
    with JobService(*settings_in(folder), start=warm_support.shared().start) as service:
        yield service


def done(service: JobService, job_id: str) -> Done:
    """The end of a job that goes well."""
    ended = [event for _, event in service.attach(job_id) if isinstance(event, Done)]
    assert ended, service.status(job_id).error
    return ended[0]


def test_a_video_is_extended_again_and_again(service):
    first = service.submit(NANO, photograph())
    done(service, first)
    begun = pictures(service.result(first))
    second = service.extend(first, {"seconds": 1})
    assert done(service, second).frames == 6 + 8
    status = service.status(second)
    assert (status.request.num_frames, status.request.before) == (9, BEFORE)
    assert status.request.seed != NANO["seed"]
    longer = pictures(status.folder / VIDEO)
    assert longer[:6] == begun
    assert len(set(longer)) == 14, "a frame is there twice"
    assert read_made_here(status.folder / VIDEO)[1] == status.request

    third = service.extend(second, {"seconds": "0.5"})
    done(service, third)
    assert pictures(service.result(third))[:14] == longer
    assert len(pictures(service.result(third))) == 14 + 4

    again = service.redecode(second)
    assert done(service, again).frames == 14
    assert pictures(service.result(again)) == longer
    slower = service.redecode(second, {"fps": 4})
    assert done(service, slower).frames == 9
    assert service.status(slower).request.before is None


@pytest.mark.parametrize(("seconds", "said"), [(0, "0"), ("soon", "soon"), (1e9, "600"), (None, "null")])
def test_a_length_that_is_none_is_refused(service, seconds, said):
    job_id = service.jobs()[0].id
    before = len(service.jobs())
    with pytest.raises(UserError) as refused:
        service.extend(job_id, {"seconds": seconds})
    assert "seconds" in refused.value.message.render()
    assert len(service.jobs()) == before


def test_only_a_finished_video_is_extended(service):
    with pytest.raises(UserError) as refused:
        service.extend("nobody")
    assert refused.value.message.id == "jobs.unknown"


def test_a_clip_that_was_made_of_words_goes_on_from_a_picture():
    request = GenerationRequest(
        model="m", prompt="p", width=64, height=64, num_frames=17, fps=8, num_inference_steps=2, guidance_scale=1.0,
        seed=3, task="t2v",
    )  # fmt: skip
    values = longer_by(request, 2, SPECS["i2vgen_xl"])
    assert (values["task"], values["frames"], values["seed"]) == ("i2v", 17, None)
