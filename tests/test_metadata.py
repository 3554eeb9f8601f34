"""The request stands in the video and comes back unchanged, whatever was typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from i2v.messages import UserError
from i2v.request import GenerationRequest
from i2v.video import ffmpeg
from i2v.video.metadata import is_cut, probe_video, read_made_here, read_metadata
from i2v.video.writer import VideoWriter
from tests.photos import photograph


def stored(path: Path, metadata: dict[str, object]) -> Path:
    with VideoWriter(path, width=16, height=16, fps=8, metadata=metadata) as video:
        video.write(np.zeros((16, 16, 3), dtype=np.uint8))
    return path


@given(text=st.text(alphabet=st.characters(exclude_categories=())) | st.text(alphabet="\\=;#\n\r\"'{}\0 n\ud800"))
@settings(max_examples=60, deadline=None)
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.mp4"
    metadata = {"prompt": text, text: 1}
    assert read_metadata(stored(path, metadata)) == metadata


@pytest.mark.parametrize("prompt", ["🙂" * 10_000, "城" * 10_000, "\\" * 10_000, "a\n=b;#" * 2_000])
def test_ten_thousand_characters_come_back(tmp_path: Path, prompt: str) -> None:
    metadata = {"prompt": prompt, "negative": prompt}
    assert read_metadata(stored(tmp_path / "long.mp4", metadata)) == metadata


def test_a_whole_request_comes_back(tmp_path: Path) -> None:
    request = GenerationRequest(
        model="small",
        prompt='A rose, "slowly" opening\n\tin the wind; 玫瑰 🌹',
        width=512,
        height=512,
        num_frames=16,
        fps=16,
        num_inference_steps=50,
        guidance_scale=9.5,
        seed=2**53 - 1,
    )
    path = stored(tmp_path / "v.mp4", request.to_json())
    assert GenerationRequest.from_json(read_metadata(path)) == request


def test_it_is_json_in_the_comment_that_players_show(tmp_path: Path) -> None:
    path = stored(tmp_path / "v.mp4", {"prompt": "城市"})
    assert json.dumps({"prompt": "城市"}, ensure_ascii=False, separators=(",", ":")).encode() in path.read_bytes()
    assert "comment" in ffmpeg.run("-i", str(path)).stderr


def test_a_video_from_elsewhere_has_no_request() -> None:
    foreign = photograph().parents[1] / "videos" / "a.mp4"
    assert probe_video(foreign).codec == "h264"
    with pytest.raises(UserError) as caught:
        read_metadata(foreign)
    assert caught.value.message.id == "video.no_metadata"


@pytest.mark.parametrize("comment", ["hello", '["a list"]', "{broken", "\\"])
def test_a_foreign_comment_is_no_request(tmp_path: Path, comment: str) -> None:
    path, copy = stored(tmp_path / "v.mp4", {}), tmp_path / "copy.mp4"
    copied = ffmpeg.run("-i", str(path), "-c", "copy", "-metadata", f"comment={comment}", str(copy))
    assert copied.returncode == 0
    with pytest.raises(UserError) as caught:
        read_metadata(copy)
    assert caught.value.message.id == "video.no_metadata"


@pytest.mark.parametrize(
    "metadata",
    [
        {"prompt": "a cat", "seed": 5, "type": "another program"},
        {"request": {"prompt": "a cat"}},
        {"request": "a cat"},
        {"workflow": {"nodes": []}, "request": None},
    ],
)
def test_another_programs_json_holds_no_request(tmp_path: Path, metadata: dict[str, object]) -> None:
    path = stored(tmp_path / "v.mp4", metadata)
    with pytest.raises(UserError) as caught:
        read_made_here(path)
    assert caught.value.message.id == "video.no_metadata"


def test_a_cut_mp4_is_told_from_a_whole_one_and_from_other_files(tmp_path: Path) -> None:
    path = stored(tmp_path / "v.mp4", {"prompt": "x"})
    whole = path.read_bytes()
    assert not is_cut(path)
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        assert is_cut(path) == (length >= 8), length
    for behind in (b"\0\0\0\x08free", b"junk", b"junk" * 50, bytes(500)):
        path.write_bytes(whole + behind)
        assert not is_cut(path)
    assert not is_cut(photograph())


@pytest.mark.parametrize("read", [read_metadata, probe_video])
def test_what_is_no_video_is_said(tmp_path: Path, read: object) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video " * 99)
    # A playlist would make the reader open the files or addresses it names.
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n")
    expected = {
        tmp_path / "empty.mp4": "video.not_a_video",
        tmp_path / "text.mp4": "video.not_a_video",
        tmp_path / "list.mp4": "video.not_a_video",
        photograph(): "video.not_a_video",
        tmp_path / "none.mp4": "video.missing",
        tmp_path: "video.missing",
    }
    for path, message_id in expected.items():
        with pytest.raises(UserError) as caught:
            read(path)
        assert caught.value.message.id == message_id, path


def test_a_cut_off_video_is_said(tmp_path: Path) -> None:
    path = stored(tmp_path / "v.mp4", {"prompt": "x"})
    path.write_bytes(path.read_bytes()[:300])
    for read in (read_metadata, probe_video):
        with pytest.raises(UserError) as caught:
            read(path)
        assert caught.value.message.id == "video.incomplete"
