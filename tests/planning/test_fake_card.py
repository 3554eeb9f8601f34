"""Every family's phases on a card that is not there: fake tensors of another device than the processor. What would fail
on a card, or wait for it, is seen here without one."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
from torch.nn import functional

from i2v.families.nano import model as nano_model
from i2v.families.nano import splat
from i2v.memory.chunking import MOST_ROWS
from i2v.plan import Plan, everywhere
from tests.planning.fake_card import ELSEWHERE, FakeCard, Watch, watched
from tests.planning.support import job, runner

WHOLE = Plan(device="cuda", precision="float16", places=everywhere("resident"), cfg="batch", decode_frames=4)
SMALL = replace(WHOLE, places=everywhere("staged"), cfg="split", chunk_frames=1, decode_frames=1)
TWO_CHUNKS = {"nano": 300, "i2vgen_xl": 50}  # latent pixels at once
PLANS = {
    "whole": WHOLE,
    "streamed": replace(SMALL, places=everywhere("streamed")),
    "chunks": SMALL,
    "float32": replace(WHOLE, precision="float32"),
    "bfloat16 from int8": replace(SMALL, precision="bfloat16", weights="int8", lossless=False),
    "float16 from float8": replace(WHOLE, weights="float8", lossless=False),
    "on the host": replace(WHOLE, encode_on_host=True, decode_on_host=True),
}


def run(folder, family: str, plan: Plan, width: int = 48, height: int = 32, steps: int = 1, frames: int = 2) -> Watch:
    """All phases of so many frames."""
    plan = replace(plan, chunk_pixels=TWO_CHUNKS[family] if plan.chunk_frames else 0)
    return watched(runner(family, folder, plan.precision, plan.weights), job(width, height, frames, steps), plan)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("family", ["nano", "i2vgen_xl"])
def test_a_card_takes_every_phase_and_waits_in_no_step(small_models, family, name):
    """Of one step; and of the next, which has another before it, under the plan that has the fewest operations."""
    watch = run(small_models[family], family, PLANS[name], steps=2 if name == "whole" else 1)
    assert watch.waits == []
    assert all(watch.sums_in_order)


@pytest.mark.parametrize("name", ["whole", "on the host"])
def test_a_card_takes_a_clip_in_windows_whose_rest_is_on_the_host(small_models, name):
    """What leaves the card in a step is each window's answer and the anchors."""
    watch = run(small_models["i2vgen_xl"], "i2vgen_xl", PLANS[name], width=24, height=16, frames=17)
    assert set(watch.waits) == {"aten._to_copy.default"}


@pytest.mark.parametrize("cfg", ["split", "batch"])
def test_a_card_gets_no_more_rows_of_attention_than_its_grid_has(small_models, monkeypatch, cfg):
    """At a size where a whole step would have 65,536 of them, or twice as many."""
    rows, attend = set(), functional.scaled_dot_product_attention

    def attended(query, *args, **kwargs):
        rows.add(query.shape[0])
        return attend(query, *args, **kwargs)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", attended)
    run(small_models["i2vgen_xl"], "i2vgen_xl", replace(WHOLE, cfg=cfg), 1024, 1024)
    assert max(rows) == MOST_ROWS


def test_what_a_card_would_not_take_is_seen(small_models, monkeypatch):
    """The watch can fail: a tensor left on the host, a number asked of the card, sums in any order."""
    folder = small_models["nano"]
    monkeypatch.setattr(FakeCard, "place", lambda card, module: None)
    with pytest.raises(RuntimeError, match="same device"):
        run(folder, "nano", WHOLE)
    monkeypatch.undo()
    guide = nano_model.guide
    monkeypatch.setattr(nano_model, "guide", lambda *args, **more: guide(*args, **more).cpu().to(ELSEWHERE))
    monkeypatch.setattr(splat, "_in_order", lambda device: nullcontext())
    watch = run(folder, "nano", WHOLE)
    assert len(watch.waits) == 1
    assert set(watch.sums_in_order) == {False}
