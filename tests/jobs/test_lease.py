"""One service per outputs folder, and the next one as soon as it is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import types
from contextlib import suppress
from pathlib import Path

import pytest

from i2v.jobs.list import lease as lease_module
from i2v.jobs.list.lease import Lease, holder
from i2v.messages import UserError

ROOT = Path(__file__).parents[2]
# Holds the lease, with a child that outlives it and inherits what it can; says the child's pid, then waits.
HOLDER = """
import subprocess, sys
from pathlib import Path
from i2v.jobs.list.lease import Lease
lease = Lease(Path(sys.argv[1]))
lease.tell("http://127.0.0.1:7861")
child = subprocess.Popen(["sleep", "60"], close_fds=False)
print(child.pid, flush=True)
sys.stdin.read()
"""


def refused(outputs: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        Lease(outputs)
    return caught.value


def test_a_second_holder_is_told_who_has_it(tmp_path: Path) -> None:
    with Lease(tmp_path) as lease:
        said = refused(tmp_path).message
        assert (said.id, said.params["pid"]) == ("jobs.outputs_taken", os.getpid())
        lease.tell("http://127.0.0.1:7860/a/longer/address")
        lease.tell("http://127.0.0.1:7860")
        said = refused(tmp_path).message
        assert said.id == "jobs.outputs_taken_at"
        assert said.params == {"folder": str(tmp_path), "pid": os.getpid(), "address": "http://127.0.0.1:7860"}
    lease.release()
    with Lease(tmp_path):
        assert holder(tmp_path) == {"pid": os.getpid(), "address": ""}


def test_the_lease_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        try:
            said = refused(tmp_path).message
            assert (said.params["pid"], said.params["address"]) == (process.pid, "http://127.0.0.1:7861")
            process.kill()
            process.wait()
            os.kill(child, 0)  # its child lives on, and does not hold the lease for it
            Lease(tmp_path).release()
        finally:
            os.kill(child, 9)


def test_of_many_at_once_one_gets_it(tmp_path: Path) -> None:
    got: list[Lease] = []
    ready = threading.Barrier(8)

    def take() -> None:
        ready.wait()
        with suppress(UserError):
            got.append(Lease(tmp_path))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    got[0].release()


@pytest.mark.parametrize("words", ["", "{", "[]", '{"pid": "x", "address": ""}', "{}"])
def test_a_lease_that_says_nothing_readable_still_holds(
    tmp_path: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_PATIENCE_SECONDS", 0.05)
    with Lease(tmp_path):
        (tmp_path / ".i2v" / "lease").write_text(words)
        assert refused(tmp_path).message.id == "jobs.outputs_taken"
    with Lease(tmp_path):
        assert holder(tmp_path) is not None


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / ".i2v").touch()
    assert refused(tmp_path).message.id == "jobs.outputs_not_writable"


def test_a_file_system_without_locks_is_no_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    Lease(tmp_path).release()
    assert "keeps no locks" in caplog.text


def test_windows_locks_a_byte_that_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked: list[tuple[int, int, int]] = []

    def locking(descriptor: int, mode: int, count: int) -> None:
        at = os.lseek(descriptor, 0, os.SEEK_CUR)
        if locked:
            raise PermissionError(13, "Permission denied")
        locked.append((at, mode, count))

    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setattr(lease_module.sys, "platform", "win32")
    with Lease(tmp_path):
        assert refused(tmp_path).message.params["pid"] == os.getpid()
    assert locked == [(1 << 30, 2, 1)]
