"""What holds for every test."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# A shell that starts a command in the background has it ignore Ctrl-C, and everything it starts inherits that. The
# tests that press Ctrl-C need their programs to hear it, wherever the tests themselves were started from.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test judges time, so neither does hypothesis: a machine busy with other work is no fault of ours.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
