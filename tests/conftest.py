"""What holds for every test."""

from __future__ import annotations

import signal

# A shell that starts a command in the background has it ignore Ctrl-C, and everything it starts inherits that. The
# tests that press Ctrl-C need their programs to hear it, wherever the tests themselves were started from.
signal.signal(signal.SIGINT, signal.default_int_handler)
