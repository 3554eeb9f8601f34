"""What passes between the app and its warm parent over their socket. Both sides import this file.

A question is its length in four bytes, sent with the file descriptors, and then so much JSON (`ForkRequest`). An
answer is a line of JSON: `{"pid": PID}`, or `{"error": TEXT}`. One line comes unasked, when everything is imported:
`{}`, or an error. A forked process begins once the app has been told of it.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_SIZE_BYTES = 4
_MOST_FILES = 16


@dataclass(frozen=True)
class ForkRequest:
    """A process to be forked. `command` is what stands after `python` on a command line: a script or `-m MODULE`, and
    its arguments. `numbers` are the descriptors by which the process knows the files that are sent along, in their
    order."""

    command: Sequence[str]
    environment: Mapping[str, str]
    numbers: Sequence[int]


def send(asking: socket.socket, asked: ForkRequest, files: Sequence[int]) -> None:
    """Send a question with its open files. Raises OSError."""
    text = json.dumps(asdict(asked)).encode()
    socket.send_fds(asking, [len(text).to_bytes(_SIZE_BYTES)], list(files))
    asking.sendall(text)


def receive(asking: socket.socket) -> tuple[ForkRequest, list[int]] | None:
    """The next question and its files, which are the caller's to close; None when the other end is closed."""
    size, files, _, _ = socket.recv_fds(asking, _SIZE_BYTES, _MOST_FILES)
    if not size:
        return None
    with asking.makefile("rb") as reading:
        values = json.loads(reading.read(int.from_bytes(size)))
    return ForkRequest(**values), list(files)


def answer(asking: socket.socket, **values: Any) -> None:
    """Send an answer. Raises OSError."""
    asking.sendall(json.dumps(values).encode() + b"\n")
