"""One planning child for many tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from i2v.jobs.asked import plans
from i2v.jobs.process.dry_child import DryChild
from tests.warm_support import shared


@contextmanager
def one_planning_child() -> Iterator[DryChild]:
    """Inside of it all `Plans` ask the same child, since each takes seconds to start; its `close` only counts."""
    child = DryChild(shared().start)
    close = child.close
    with mock.patch.object(plans, "DryChild", return_value=child), mock.patch.object(child, "close"):
        yield child
    close()
