"""The queue of downloads: one at a time, kept on the disk, gone on with at the byte where it stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from i2v.downloads import retries
from i2v.downloads.list import LIST, KeptList, read_list
from i2v.downloads.service import Downloads
from i2v.downloads.state import Download, Rate
from i2v.families.i2vgen_xl.spec import SPEC
from i2v.messages import LOCALES, UserError, message
from tests.downloads.support import (
    NAME,
    OTHER,
    OTHER_ID,
    REPO,
    STOP,
    UNET_FP16,
    came_once,
    come_so_far,
    ended,
    part_bytes,
    settings_for,
    size,
    state,
    whole,
)
from tests.hub_server import Hub
from tests.jobs_support import wait_until
from tests.model_folders import make_checkpoint

pytestmark = pytest.mark.drives

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from pathlib import Path
from i2v.downloads.service import Downloads
from tests.jobs_support import settings_in
downloads = Downloads(settings_in(Path(sys.argv[1]), hf_endpoint=sys.argv[2])[0])
downloads.add(sys.argv[3])
sys.stdin.read()
"""


def kill_fetching() -> None:
    """End the process that fetches, without a word to it. What other tests have started may have ended meanwhile."""
    with_words = psutil.process_iter(["ppid", "cmdline"])
    (child,) = (
        one
        for one in with_words
        if one.info["ppid"] == os.getpid() and "i2v.models.fetch.child" in (one.info["cmdline"] or ())
    )
    child.send_signal(signal.SIGKILL)


@pytest.fixture
def downloads(hub: Hub, tmp_path: Path) -> Iterator[Downloads]:
    queue = Downloads(settings_for(tmp_path, hub))
    yield queue
    queue.close()


def test_a_model_comes_and_is_told_of(downloads: Downloads, hub: Hub, tmp_path: Path) -> None:
    changes: list[str] = []
    downloads.on_change(lambda: changes.append(state(downloads)))
    hub.file_stalls_after = STOP
    added = downloads.add(NAME)
    assert (added.id, added.model, added.hub_id, added.state) == (NAME, NAME, REPO, "waiting")
    assert added.total_bytes > 2**30, "what the family says it takes, until the hub was asked"
    come_so_far(tmp_path)
    wait_until(lambda: downloads.of(REPO).done_bytes >= STOP / 2)
    coming = downloads.of(NAME)
    assert (coming.state, downloads.add(REPO).id) == ("coming", NAME)
    assert len(downloads.all()) == 1
    assert coming.done_bytes < coming.total_bytes < 2**20
    downloads.pause(NAME)
    hub.file_stalls_after = None
    downloads.resume(NAME)
    assert ended(downloads) == "done"
    done = downloads.of(NAME)
    assert (done.done_bytes, done.route, done.bytes_per_second) == (done.total_bytes, "mirror", None)
    assert done.total_bytes == size(tmp_path)
    assert whole(tmp_path, hub)
    wait_until(lambda: changes and changes[-1] == "done")
    assert {"coming", "paused", "done"} <= set(changes)


def test_what_is_here_needs_no_download(downloads: Downloads, hub: Hub, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "models" / NAME, SPEC)
    assert downloads.add(NAME).state == "done"
    assert downloads.add("nano").state == "done"
    assert downloads.all() == []
    assert hub.fetched == []
    with pytest.raises(UserError) as told:
        downloads.add("nothing")
    assert told.value.message.id == "models.unknown"


def test_one_at_a_time_and_a_paused_one_lets_the_next_come(downloads: Downloads, hub: Hub, tmp_path: Path) -> None:
    hub.file_stalls_after = STOP
    downloads.add(NAME)
    come_so_far(tmp_path)
    downloads.add(OTHER)
    assert [(one.id, one.state) for one in downloads.all()] == [(NAME, "coming"), (OTHER_ID, "waiting")]
    assert part_bytes(tmp_path, OTHER_ID) == 0
    assert downloads.pause(NAME)
    assert not downloads.pause(NAME)
    come_so_far(tmp_path, OTHER_ID)
    assert [one.state for one in downloads.all()] == ["paused", "coming"]
    hub.file_stalls_after = None
    assert downloads.pause(OTHER_ID)
    assert downloads.resume(OTHER_ID)
    assert ended(downloads, OTHER) == "done"
    assert state(downloads) == "paused"
    assert downloads.add(NAME).state == "paused", "somebody has laid it down"
    assert downloads.resume(NAME)
    assert ended(downloads) == "done"
    assert whole(tmp_path, hub)
    assert whole(tmp_path, hub, OTHER, OTHER_ID)
    assert came_once(hub, size(tmp_path) + size(tmp_path, OTHER_ID))


def test_closed_in_mid_download_it_goes_on_at_the_next_start(hub: Hub, tmp_path: Path) -> None:
    hub.file_stalls_after = STOP
    first = Downloads(settings_for(tmp_path, hub))
    first.add(NAME)
    come_so_far(tmp_path)
    first.close()
    with pytest.raises(UserError) as told:
        first.add(OTHER)
    assert told.value.message.id == "downloads.closed"
    hub.file_stalls_after = None
    left = Downloads(settings_for(tmp_path, hub), go_on=False)
    assert (state(left), part_bytes(tmp_path)) == ("waiting", STOP)
    left.close()
    again = Downloads(settings_for(tmp_path, hub))
    assert ended(again) == "done"
    again.close()
    assert whole(tmp_path, hub)
    assert came_once(hub, size(tmp_path))
    last = Downloads(settings_for(tmp_path, hub))
    assert last.all() == [], "what has come is no news at the next start"
    last.close()


def test_killed_in_mid_download_it_goes_on_at_the_next_start(hub: Hub, tmp_path: Path) -> None:
    hub.file_stalls_after = STOP
    words = [sys.executable, "-c", SCRIPT, str(tmp_path), hub.url, NAME]
    process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE)
    come_so_far(tmp_path)
    other = Downloads(settings_for(tmp_path, hub))
    assert other.all() == [], "the list is another program's"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    hub.file_stalls_after = None
    assert json.loads((tmp_path / "models" / LIST).read_text())[0]["state"] == "coming"
    other.add(OTHER)  # takes the list over, since nobody has it now
    assert [one.id for one in other.all()] == [NAME, OTHER_ID]
    assert ended(other) == ended(other, OTHER) == "done"
    other.close()
    assert whole(tmp_path, hub)
    assert [one.id for one in read_list(tmp_path / "models")] == [NAME, OTHER_ID]


def test_what_another_program_brings_is_seen_and_goes_on_here_when_that_has_ended(hub: Hub, tmp_path: Path) -> None:
    hub.file_stalls_after = STOP
    first, other = Downloads(settings_for(tmp_path, hub)), Downloads(settings_for(tmp_path, hub))
    assert other.elsewhere() == []
    first.add(NAME)
    come_so_far(tmp_path)
    told: list[int] = []
    other.on_change(lambda: told.append(len(other.all())))
    assert [(one.id, one.state) for one in other.elsewhere()] == [(NAME, "coming")]
    assert (other.all(), told) == ([], [])
    first.close()
    assert first.elsewhere() == []
    hub.file_stalls_after = None
    assert other.elsewhere() == []
    assert told[:1] == [1]
    assert ended(other) == "done"
    other.close()
    assert whole(tmp_path, hub)
    assert came_once(hub, size(tmp_path))


def test_the_process_that_fetches_is_killed(downloads: Downloads, hub: Hub, tmp_path: Path) -> None:
    hub.file_stalls_after = STOP
    downloads.add(NAME)
    come_so_far(tmp_path)
    hub.file_stalls_after = None
    kill_fetching()
    assert ended(downloads) == "done"
    assert whole(tmp_path, hub)


def test_a_cancelled_one_leaves_what_was_there_before(downloads: Downloads, hub: Hub, tmp_path: Path) -> None:
    own = tmp_path / "models" / NAME / "vae" / "notes.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    kept = own.with_name("config.json")
    kept.write_bytes((hub.repos[REPO] / "vae" / "config.json").read_bytes())
    os.utime(kept, (1e9, 1e9))
    hub.file_stalls_after = STOP
    downloads.add(NAME)
    come_so_far(tmp_path)
    assert downloads.cancel(NAME)
    assert state(downloads) == "gone"
    left = {"vae", "vae/notes.txt", "vae/config.json"}
    place = tmp_path / "models" / NAME

    def found() -> set[str]:
        # `walk` takes no notice of what goes meanwhile, as `rglob` does.
        walked = [Path(inside) / name for inside, folders, files in os.walk(place) for name in (*folders, *files)]
        names = {path.relative_to(place).as_posix() for path in walked}
        return {name for name in names if not name.startswith(".i2v-fetched")}

    wait_until(lambda: found() == left, 20)
    with pytest.raises(UserError) as told:
        downloads.cancel(NAME)
    assert told.value.message.id == "downloads.unknown"
    hub.file_stalls_after = None
    downloads.add(NAME)
    assert ended(downloads) == "done"
    assert downloads.cancel(NAME), "off the list"
    assert (place / UNET_FP16).is_file(), "a whole model stays"


def test_a_waiting_or_paused_one_is_cancelled_at_once(downloads: Downloads, hub: Hub, tmp_path: Path) -> None:
    hub.file_stalls_after = STOP
    downloads.add(NAME)
    come_so_far(tmp_path)
    downloads.pause(NAME)
    downloads.add(OTHER)
    come_so_far(tmp_path, OTHER_ID)
    downloads.add(NAME)
    assert downloads.cancel(NAME)
    assert not (tmp_path / "models" / NAME).exists()
    assert state(downloads, OTHER) == "coming"


def test_a_disk_that_is_too_small_is_told(
    downloads: Downloads, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as small:
        small.setattr(shutil, "disk_usage", lambda _path: usage(2**40, 2**40, 2**28))
        downloads.add(NAME)
        assert ended(downloads) == "failed"
    failed = downloads.of(NAME)
    assert failed.error.id == "models.disk_too_small"
    assert hub.served_bytes == 0
    assert failed.error == read_list(tmp_path / "models")[0].error
    assert downloads.resume(NAME)
    assert ended(downloads) == "done"
    assert downloads.of(NAME).error is None


def test_a_failed_one_is_tried_again_by_whoever_asks_for_it(downloads: Downloads, hub: Hub, tmp_path: Path) -> None:
    hub.file_status = 404
    downloads.add(NAME)
    assert ended(downloads) == "failed"
    assert not downloads.pause(NAME)
    hub.file_status = None
    assert downloads.add(NAME).state == "waiting"
    assert ended(downloads) == "done"
    assert not downloads.resume(NAME)


def test_one_that_broke_off_is_tried_again_by_itself(
    downloads: Downloads, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "RETRY_SECONDS", (0.5, 1000.0))
    hub.file_stalls_after = STOP
    downloads.add(NAME)
    come_so_far(tmp_path)
    wait_until(lambda: downloads.of(NAME).done_bytes >= STOP / 2)
    hub.file_status = 503
    kill_fetching()
    wait_until(lambda: state(downloads) == "waiting", 60)
    told = downloads.of(NAME)
    assert (told.state, told.note.id, told.error) == ("waiting", "downloads.broke_off", None)
    assert all("{" not in told.note.render(locale) for locale in LOCALES)
    wait_until(lambda: state(downloads) == "coming", 60)
    wait_until(lambda: state(downloads) == "waiting", 60)
    hub.file_status = hub.file_stalls_after = None
    assert downloads.resume(NAME), "somebody does not want to wait so long"
    assert ended(downloads) == "done"
    assert whole(tmp_path, hub)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "{}", '["x"]', "[[]]", "null", '[{"id": "x"}]', "[" * 5000],
)
def test_a_list_that_is_none_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / LIST).write_text(text)
    assert read_list(tmp_path) == []


@pytest.mark.parametrize("bad", [{"id": "../x"}, {"id": ".."}, {"id": ""}, {"state": "stolen"}, {"error": 3}])
def test_a_list_names_no_folder_outside(bad: dict, tmp_path: Path) -> None:
    row = Download(
        "x", "x", "a/x", "f", "X", 1.0, "failed", error=message("models.unknown", name="x", known="")
    ).to_json()
    (tmp_path / LIST).write_text(json.dumps([row]))
    assert [one.to_json() for one in read_list(tmp_path)] == [row]
    (tmp_path / LIST).write_text(json.dumps([row | bad]))
    assert read_list(tmp_path) == []


def test_one_program_keeps_the_list(tmp_path: Path) -> None:
    first, second = KeptList(tmp_path), KeptList(tmp_path)
    assert not first.take(), "nothing to keep yet"
    assert first.take(make=True)
    assert not second.take(make=True)
    second.write([])
    assert not (tmp_path / LIST).exists()
    first.release()
    assert second.take(make=True)
    second.release()


def test_a_network_that_stays_away_is_asked_less_and_less() -> None:
    waits, now = retries.Retries(), 0.0
    assert waits.broke_off("x", now, came=False) is None, "it never worked: somebody should hear that"
    assert waits.is_due("x", now)
    seconds = waits.broke_off("x", now, came=True)
    asked = []
    while seconds is not None:
        asked.append(seconds)
        assert not waits.is_due("x", now + seconds - 1)
        assert waits.next_in(now) == seconds
        now += seconds
        assert waits.is_due("x", now)
        waits.begins("x")
        seconds = waits.broke_off("x", now, came=len(asked) == 3)
    assert asked[:8] == [60, 120, 300, 60, 120, 300, 600, 1800]
    assert 10 < now / 3600 < 14
    waits.broke_off("x", now, came=True)
    waits.forget("x")
    assert (waits.waits("x"), waits.next_in(now)) == (False, None)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate()
    assert rate.bytes_per_second is None
    for second in range(100):
        rate.add(second, 1000 * second if second < 50 else 50_000 + 10 * (second - 50))
        if second == 40:
            assert (rate.bytes_per_second, rate.seconds_left(5000)) == (1000, 5)
    assert rate.bytes_per_second == 10
    for second in range(100, 130):
        rate.add(second, 50_490)
    assert (rate.bytes_per_second, rate.seconds_left(10)) == (0, None)
