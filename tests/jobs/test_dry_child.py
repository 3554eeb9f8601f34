"""The planning child and the end of the app: nobody waits for a dry run that nobody needs any more."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from i2v.jobs.dry_child import DryChild
from i2v.messages import UserError
from i2v.plan import Plan
from tests.planning.support import job


def test_closing_waits_for_no_dry_run_and_none_begins_after_it() -> None:
    child, ended = DryChild(), []

    def ask() -> None:
        for number in range(8):  # one after the other, as the planner asks for its rungs
            try:
                child.run("i2vgen_xl", None, replace(job(), width=1024, height=1024, num_frames=30 + number), Plan())
            except UserError as error:
                ended.append(error.message.id)
                return

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(1.0)
    child.close()
    asking.join(120)
    assert ended == ["planning.child_ended"]
    with pytest.raises(UserError) as refused:
        child.run("nano", None, job(), Plan())
    assert refused.value.message.id == "jobs.closed"
    child.warm_up()  # says nothing, starts nothing
