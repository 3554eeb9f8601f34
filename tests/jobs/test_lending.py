"""When the card is another's: who has come to need it, and when there is room again."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from i2v.hardware.probe import Gpu, GpuProcess
from i2v.jobs.lane.lending import SHORT_BYTES, SPARE_BYTES, may_return, should_lend

GIB = 2**30
OURS = 7


def card(free_gib: float, **programs: float) -> Gpu:
    processes = tuple(
        GpuProcess(OURS if name == "ours" else 100 + number, name, int(size * GIB))
        for number, (name, size) in enumerate(sorted(programs.items()))
    )
    return Gpu(
        index=0, uuid="GPU-0", name="card", total_bytes=12 * GIB, free_bytes=int(free_gib * GIB),
        used_bytes=int((12 - free_gib) * GIB), processes=processes,
    )  # fmt: skip


def test_the_program_that_took_what_was_left_is_lent_the_card() -> None:
    before = card(5.0, desktop=1.0, ours=6.0, game=0.0)
    assert should_lend(before, card(0.1, desktop=1.0, ours=6.0, game=4.9), OURS) == "game"


def test_a_card_that_we_ourselves_have_filled_is_lent_to_nobody() -> None:
    before = card(5.0, desktop=1.0, ours=6.0)
    assert should_lend(before, card(0.1, desktop=1.1, ours=10.8), OURS) is None


def test_while_there_is_room_nobody_needs_ours() -> None:
    before = card(5.0, ours=6.0, game=0.0)
    assert should_lend(before, card(1.0, ours=6.0, game=4.0), OURS) is None


def test_a_card_that_does_not_tell_is_kept() -> None:
    now = replace(card(0.0, ours=6.0, game=6.0), free_bytes=None)
    assert should_lend(card(6.0, ours=6.0), now, OURS) is None
    assert not may_return(now, GIB)


@given(free=st.integers(0, 12 * GIB), needed=st.integers(0, 12 * GIB))
def test_whoever_returns_is_not_sent_away_at_once(free: int, needed: int) -> None:
    now = replace(card(0.0), free_bytes=free)
    if may_return(now, needed):
        assert free - needed >= SPARE_BYTES > SHORT_BYTES
