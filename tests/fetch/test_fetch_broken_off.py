"""Downloads that are killed, that two begin at once, that fill the disk: they go on where they stopped."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from i2v.models.fetch.child import fetch_all
from i2v.models.fetch.contents import digest_if_right
from i2v.models.fetch.fetch import FetchFailed, fetch, missing_bytes
from i2v.models.fetch.look_up import look_up
from i2v.models.fetch.orders import FetchLine, FetchOrder
from i2v.models.fetch.parts import left_alone
from i2v.models.fetch.published import Published
from i2v.models.fetch.record import RECORD, Fetched, FetchedFile, read_record, write_record
from i2v.models.fetch.routes import Route
from i2v.models.fetch.sources import Source
from i2v.models.fetch.troubles import Trouble, trouble_of
from tests.fetch.support import REPO, SCRIPT, SHORT, SIZES, Fetching, kinds
from tests.hub_server import Hub
from tests.jobs.support import small_disk

pytestmark = pytest.mark.drives


def test_killed_at_any_moment_it_goes_on(hub: Hub, fetching: Fetching) -> None:
    """The process that fetches is killed with signal 9 when whoever waits has enough."""
    published, draw = look_up(REPO, hub.url), random.Random(3)
    hub.file_piece_seconds = 0.02
    for count in sorted(draw.randrange(1, sum(SIZES.values())) for _ in range(8)):
        fetching.stop_at(count, hub, published)
    fetching(hub, published=published)
    assert fetching.whole()
    assert hub.served_bytes < 1.5 * sum(SIZES.values())


def test_it_ends_with_whoever_started_it(hub: Hub, fetching: Fetching) -> None:
    hub.file_stalls_after = 60_000
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, hub.url, str(fetching.folder)], stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if int(line) > 50_000:
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert len(children) == 1
    until = time.monotonic() + 20
    while any(_alive(int(child)) for child in children):
        assert time.monotonic() < until
        time.sleep(0.05)
    hub.file_stalls_after = None
    fetching(hub)
    assert fetching.whole()
    assert hub.served_bytes < 1.1 * sum(SIZES.values())  # what was on its way when it was killed


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_two_at_once_fetch_once(hub: Hub, fetching: Fetching) -> None:
    published = look_up(REPO, hub.url)
    hub.file_piece_seconds = 0.01
    other = threading.Thread(target=fetching, args=(hub,), kwargs={"published": published})
    other.start()
    fetching(hub, published=published)
    other.join()
    assert fetching.whole()
    assert hub.served_bytes == sum(SIZES.values())


def test_others_can_see_that_files_are_coming(hub: Hub, fetching: Fetching) -> None:
    published, seen = look_up(REPO, hub.url), []

    def look(done: int, total: int) -> None:
        with left_alone(fetching.folder) as alone:
            seen.append(alone)

    fetch(published, fetching.folder, [Route("plain", hub.url)], on_progress=look)
    assert set(seen) == {False}
    with left_alone(fetching.folder) as alone:
        assert alone


def told_short(fetching: Fetching, hub: Hub, published: Published) -> int:
    """How many bytes are short, as is told; 0 where nothing is."""
    try:
        fetching(hub, published=published)
    except FetchFailed as failed:
        return failed.short_bytes if failed.last.kind == "disk_full" else -1
    return 0


def test_a_disk_that_fills_at_any_write(hub: Hub, repository: Path, tmp_path: Path) -> None:
    """It has room for a little more at each try: what came stays, what is missing is told, and at last all is there."""
    published = look_up(REPO, hub.url)
    with small_disk(tmp_path / "disk", 64) as disk:
        fetching = Fetching(repository, disk / "model")
        fetching.folder.mkdir()
        short = []
        for kib in range(64, 640, 64):
            subprocess.run(["mount", "-o", f"remount,size={kib}k", disk], check=True)
            if not missing_bytes(published, fetching.folder):
                break
            with suppress(OSError):  # not even the record or the lock could be written
                short.append(told_short(fetching, hub, published))
                assert short[-1] == missing_bytes(published, fetching.folder)
        assert fetching.whole()
        assert len(short) >= 4
        assert short[-1] == 0
        assert short == sorted(set(short), reverse=True)


def caught_by(call: Callable[..., object], *args: object) -> Trouble | None:
    """What keeps the system from doing it; None where nothing does."""
    try:
        call(*args)
    except OSError as error:
        return trouble_of(error, "")
    return None


def test_a_disk_that_fills_at_every_page(hub: Hub, repository: Path, tmp_path: Path) -> None:
    """The disk grows by 4 KiB for each try, so that every page that is written is once the one that finds no room."""
    published = look_up(REPO, hub.url)
    source = Source(published, hub.url, xet=False)
    told: list[FetchLine] = []
    arrived, full = 0, 0
    with small_disk(tmp_path / "disk", 8) as disk:
        folder = disk / "model"
        folder.mkdir()
        order = FetchOrder(published, folder, hub.url, xet=False, at_once=2, seconds_between_tries=0.0)
        for kib in range(8, 800, 4):
            subprocess.run(["mount", "-o", f"remount,size={kib}k", disk], check=True)
            told.clear()
            trouble = caught_by(fetch_all, order, source, told.append)
            if trouble is not None:  # not even the lock could be written
                assert trouble.kind == "disk_full"
                continue
            found = {line.trouble["kind"] for line in told if line.trouble}
            for file in published.files:
                assert not (folder / file.name).exists() or digest_if_right(folder / file.name, file)
            was, arrived = arrived, sum(SIZES.values()) - missing_bytes(published, folder)
            assert arrived >= was, "what has come stays"
            if not found:
                break
            assert found == {"disk_full"}
            full += 1
        assert arrived == sum(SIZES.values())
        assert full > sum(SIZES.values()) // 4096 - 8


def test_a_disk_that_fills_while_a_record_is_written_leaves_the_one_before(tmp_path: Path) -> None:
    files = tuple(FetchedFile(f"unet/{number}.safetensors", number, f"sha256:{'0' * 64}", 1) for number in range(300))
    with small_disk(tmp_path / "disk", 8) as disk:
        before = Fetched(REPO, "1", "plain", files[:1])
        write_record(disk, before)
        full = 0
        for kib in range(8, 200, 4):
            subprocess.run(["mount", "-o", f"remount,size={kib}k", disk], check=True)
            trouble = caught_by(write_record, disk, Fetched(REPO, "2", "plain", files))
            if trouble is None:
                break
            assert trouble.kind == "disk_full"
            assert read_record(disk) == before
            assert [path.name for path in disk.iterdir()] == [RECORD], "nothing half is left"
            full += 1
        assert full > 5
        assert read_record(disk).files == files


def test_it_stops_before_the_disk_is_full(hub: Hub, repository: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 600) as disk:
        fetching = Fetching(repository, disk / "model")
        fetching.folder.mkdir()
        hub.file_piece_seconds = 0.05
        with pytest.raises(FetchFailed) as failed:
            fetching(hub, limits=replace(SHORT, least_free_bytes=400 * 1024))
        assert kinds(failed) == ["disk_full"]
        free = os.statvfs(disk)
        assert free.f_bavail * free.f_frsize > 200 * 1024


def test_a_models_folder_that_is_a_link_to_another_disk(hub: Hub, repository: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2048) as disk:
        (tmp_path / "models 链接").symlink_to(disk)
        fetching = Fetching(repository, tmp_path / "models 链接" / "model")
        fetching.folder.mkdir()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(FetchFailed) as refused:
            fetching(hub)
        assert kinds(refused) == ["not_writable"]
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        fetching(hub)
        assert fetching.whole()
