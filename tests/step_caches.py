"""diffusers' own step cache, and what a run tells of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from diffusers.hooks import FirstBlockCacheConfig
from torch import nn

from i2v.events import Event, Noted


@contextmanager
def cached(networks: Sequence[nn.Module], share: float | None) -> Iterator[None]:
    for network in networks if share is not None else ():
        network.enable_cache(FirstBlockCacheConfig(threshold=share))
    try:
        yield
    finally:
        for network in networks if share is not None else ():
            network.disable_cache()


def told(events: Sequence[Event]) -> tuple[int, int] | None:
    """Passes that were cut short, and all, as the job's record and its page have them."""
    found = [one.message for one in events if isinstance(one, Noted) and one.message.id == "engine.step_cache"]
    return (found[0].params["shortened"], found[0].params["passes"]) if found else None
