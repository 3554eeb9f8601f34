"""Machines for tests: readings of cards that are not there, and settings that read nothing from this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from i2v.hardware.probe import GIB, Gpu, Host, Probe
from i2v.messages import LOCALES, UserError
from i2v.settings.settings import Settings, load_settings

HOST = Host(
    ram_total_bytes=32 * GIB,
    ram_available_bytes=24 * GIB,
    swap_total_bytes=0,
    swap_free_bytes=0,
    disk_free_bytes=100 * GIB,
    cpu_count=8,
)
NOWHERE = Path("/nonexistent/config.yaml")


def no_card() -> Probe:
    """A machine without a card."""
    return Probe(gpus=(), gpu=None, host=HOST)


def card(free_gib: float | None, total_gib: float | None = None, **more: Any) -> Probe:
    """A machine with one card; None where the driver does not say."""
    free = None if free_gib is None else int(free_gib * GIB)
    total = free if total_gib is None else int(total_gib * GIB)
    gpu = Gpu(index=0, uuid="GPU-1", name="Test card", free_bytes=free, total_bytes=total, **more)
    return Probe(gpus=(gpu,), gpu=gpu, host=HOST)


def settings(
    probe: Probe | None = None, *, config: Path = NOWHERE, environ: Mapping[str, str] | None = None, **overrides: Any
) -> Settings:
    """Settings from nothing but what is given; on a machine without a card by default."""
    return load_settings(probe=probe or no_card(), config_path=config, environ=environ or {}, overrides=overrides)


@contextmanager
def suppress_user_error() -> Iterator[list[str]]:
    """Lets a UserError pass, and nothing else; gives its text in every language."""
    texts: list[str] = []
    try:
        yield texts
    except UserError as error:
        texts += [error.message.render(locale) for locale in LOCALES]
