"""Every setting there is: its kind, its default, who may set it. `config.yaml` documents each for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from i2v.family_settings import FAMILY_SETTINGS, FamilySetting
from i2v.plan import ATTENTIONS, CFG_MODES, OFFLOADS, POLICIES, PRECISIONS
from i2v.request import AUTO, FITS
from i2v.settings.values import (
    Area,
    CardId,
    Choice,
    File,
    Folder,
    Folders,
    Kind,
    Number,
    Switch,
    Text,
    Url,
    Whole,
    Window,
)

# The models' noise schedules have 1000 levels; of more than half as many steps the last ones would not reach its end.
MAX_STEPS = 500
MAX_SIDE = 8192  # pixels; a family's own limit is lower
MAX_DAYS = 36500
MAX_DISK_GIB = 2**20

PRECISION_ALIASES = {
    "fp32": "float32",
    "fp16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
}
LANGUAGE_ALIASES = {"zh": "zh-CN", "zh_cn": "zh-CN", "zh-hans": "zh-CN", "chinese": "zh-CN", "english": "en"}


@dataclass(frozen=True)
class Key:
    """One setting. `auto`: the word "auto" is allowed and undoes what a weaker source said. `preset_owned`: the
    preset gives the value where nobody else does. `flag`: the command line's name where it is not the key's."""

    kind: Kind
    default: Any = AUTO
    auto: bool = False
    preset_owned: bool = False
    flag: str | None = None


def _owned(kind: Kind) -> Key:
    return Key(kind, auto=True, preset_owned=True)


def _of_families(one: FamilySetting) -> Key:
    kind = Whole(int(one.low), int(one.high), auto=True) if one.whole else Number(one.low, one.high, auto=True)
    return Key(kind, None, auto=True)


KEYS: dict[str, Key] = {
    "preset": Key(Text(), auto=True),
    "precision": _owned(Choice(PRECISIONS, PRECISION_ALIASES, auto=True)),
    "chunk_frames": _owned(Whole(0, 1024, auto=True)),
    "chunk_pixels": _owned(Whole(0, 2**24, auto=True)),
    "chunk_tokens": _owned(Whole(0, 2**20, auto=True)),
    "cfg": _owned(Choice(CFG_MODES, auto=True)),
    "offload": _owned(Choice(OFFLOADS, auto=True)),
    "decode_frames": _owned(Whole(0, 1024, auto=True)),
    "decode_rows": _owned(Whole(0, 1024, auto=True)),
    "vae_window": _owned(Window(auto=True)),
    "max_pixels": _owned(Area(64 * 64, MAX_SIDE * MAX_SIDE, auto=True)),
    "max_frames": _owned(Whole(1, 1024, auto=True)),
    "max_steps": _owned(Whole(1, MAX_STEPS, auto=True)),
    "policy": Key(Choice(POLICIES), "lossless"),
    "step_cache": Key(Number(0, 1), 0.0),
    **{name: _of_families(one) for name, one in FAMILY_SETTINGS.items()},
    "attention": Key(Choice(ATTENTIONS), "native"),
    "model": Key(Text(), auto=True),
    "fit": Key(Choice(FITS), "crop"),
    "models_dir": Key(Folder(), "models", flag="--models"),
    "model_folders": Key(Folders(), ()),
    "outputs_dir": Key(Folder(), "outputs", flag="--out"),
    "logs_dir": Key(Folder(), "logs"),
    "host": Key(Text(), "127.0.0.1"),
    "port": Key(Whole(1, 65535), 7860),
    "password": Key(Text(), None),
    "admin_password": Key(Text(), None),
    "guest_password": Key(Text(), None),
    "tls_cert": Key(File(), None),
    "tls_key": Key(File(), None),
    "language": Key(Choice((AUTO, "en", "zh-CN"), LANGUAGE_ALIASES), AUTO, flag="--lang"),
    "max_upload_mb": Key(Whole(1, 4096), 1024),
    "max_picture_megapixels": Key(Whole(1, 1000), 200),
    "max_queue": Key(Whole(1, 1000), 20),
    "max_queue_per_owner": Key(Whole(1, 1000), 20),
    "max_jobs_per_minute": Key(Whole(1, 1000), 30),
    "checkpoint_seconds": Key(Number(0, 3600), 5),
    "hang_seconds": Key(Number(1, 86400, auto=True), None, auto=True),
    "lend_card": Key(Switch(), False),
    "preload": Key(Switch(), True),
    "bin_days": Key(Number(0, MAX_DAYS), 30),
    "bin_gib": Key(Number(0, MAX_DISK_GIB), 20),
    "latents_gib": Key(Number(0, MAX_DISK_GIB), 10),
    "cache_gib": Key(Number(0, MAX_DISK_GIB), 5),
    "hf_endpoint": Key(Url(), None),
    "offline": Key(Switch(), False),
    "gpu": Key(CardId(), None, auto=True),
    "cpu": Key(Switch(), False),
    "simulate_gib": Key(Number(0.25, 1024), None, flag="--simulate"),
}
PRESET_KEYS = tuple(name for name, key in KEYS.items() if key.preset_owned)


def flag_of(name: str) -> str:
    """The command line's flag for a setting: `chunk_frames` -> `--chunk-frames`."""
    return KEYS[name].flag or "--" + name.replace("_", "-")
