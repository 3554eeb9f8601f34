"""What a run is to do beside its request and plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from i2v.plan import Rung

Work = Literal["generate", "decode"]
CHECKPOINT_SECONDS = 5.0


def never() -> bool:
    """Always False: the run is neither paused nor cancelled."""
    return False


@dataclass(frozen=True)
class Orders:
    """`work`: the whole run, or only decoding the latents (or the checkpoint's prediction) that lie in the job folder.

    `heals`: whether to step down when memory runs out. `ladder`: the plan's own rung and those below it. `healed`:
    rungs that earlier runs of this job took. `cache`: where encoded prompts and pictures are kept, or None.
    `models_dir`: the folder of models, in which LoRAs lie too; `lora_folders`: others of LoRAs.
    `checkpoint_seconds`: how much may have to be done again after a crash, or one step where that is more. `stop_at`:
    the step after which the run is laid down by itself, to be looked at. `disk_patience_seconds`: how long finished
    latents wait in memory for a full disk. `paused` is asked after every step."""

    work: Work = "generate"
    heals: bool = True
    ladder: tuple[Rung, ...] = ()
    healed: tuple[str, ...] = ()
    cache: Path | None = None
    models_dir: Path = Path("models")
    lora_folders: tuple[Path, ...] = ()
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    stop_at: int | None = None
    disk_patience_seconds: float = 600.0
    paused: Callable[[], bool] = never
