"""Jobs of about a second for the bundled model. Nothing here loads torch: an app that is started again needs none."""

from __future__ import annotations

from typing import Any

from i2v.jobs.service import JobService
from tests.photos import photograph


def nano(**more: Any) -> dict[str, Any]:
    """With guidance: two batch rows for each step."""
    small = {"width": 64, "height": 64, "frames": 2, "steps": 4, "guidance": 2.0, "seed": 7}
    return {"model": "nano", "prompt": "slow zoom in", **small, **more}


def submit(service: JobService, owner: str = "local", **more: Any) -> str:
    """Have the service make one; its id."""
    return service.submit(nano(**more), photograph(), owner)
