"""Jobs of about a second, for the bundled model where no other is named. Nothing here loads torch: an app that is
started again needs none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from i2v.jobs.service import JobService
from tests.photos import photograph


def nano(**more: Any) -> dict[str, Any]:
    """With guidance: two batch rows for each step."""
    small = {"width": 64, "height": 64, "frames": 2, "steps": 4, "guidance": 2.0, "seed": 7}
    return {"model": "nano", "prompt": "slow zoom in", **small, **more}


def submit(service: JobService, owner: str = "local", *, clip: Path | None = None, **more: Any) -> str:
    """Have the service make one; its id. Where `more` names a task, the photograph comes with those that take one."""
    picture = photograph() if more.get("task", "i2v") == "i2v" else None
    return service.submit(nano(**more), picture, owner, clip=clip)
