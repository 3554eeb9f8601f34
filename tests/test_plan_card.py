"""The plan card: what its first line says, and in which colour."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from i2v.messages import message
from i2v.plan import Plan
from i2v.planning.planner import Planner
from i2v.ui.create.asking import question
from i2v.ui.create.plan_card import plan_card
from i2v.ui.shown.format import takes
from tests.planning.support import card, job, made_up


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "about 1 s"),
        (16, "about 16 s"),
        (90, "about 90 s"),
        (91, "about 2 min"),
        (5400, "about 90 min"),
        (40_669, "about 11 h"),
        (3 * 86_400, "about 3 days"),
    ],
)
def test_a_predicted_time_is_said_in_one_unit(seconds: float, said: str) -> None:
    assert takes(seconds).render("en") == said
    assert takes(seconds).render("zh-CN").startswith("约 ")


@pytest.mark.parametrize(
    ("steps", "device", "model", "verdict", "said"),
    [
        (2, "cuda", "i2vgen-xl", "fits", "<strong>Fits</strong>"),
        (10**6, "cuda", "i2vgen-xl", "slow", "<strong>Fits, but very slow</strong>"),
        (10**6, "cpu", "i2vgen-xl", "slow", "without a graphics card; Nano takes about 20 s</strong>"),
        (10**6, "cpu", "nano", "slow", "<strong>Fits, but very slow</strong>"),
    ],
)
def test_a_job_of_many_hours_is_no_calm_green(steps: int, device: str, model: str, verdict: str, said: str) -> None:
    request = replace(job(steps=steps), model=model)
    planned = Planner(card(12), made_up).plan(request, Plan(device="cuda"))
    shown = plan_card(replace(planned, plan=replace(planned.plan, device=device)), (), "en", 20.4)
    assert f'class="i2v-plan {verdict}">' in shown
    brief = said.replace("strong>", "b>")
    assert re.search(rf'class="i2v-brief"[^>]*>{brief}.*about .* · 512 × 512, 2 s</div>', shown) or "Nano" in said
    assert said in shown


@pytest.mark.parametrize(
    ("seconds", "scouts", "asked"),
    [
        (3500.0, 0, ""),
        (40_000.0, 0, "This run will take about 11 h. Start it?"),
        (3500.0, 3, ""),
        (3700.0, 3, message("ui.ask_long_scouts").render()),
    ],
)
def test_the_page_asks_before_runs_of_hours(seconds: float, scouts: int, asked: str) -> None:
    assert question(seconds, "en", scouts) == asked


@pytest.mark.parametrize(("total_gib", "folds"), [(80, True), (8, False)])
def test_bars_that_stay_far_below_what_is_free_are_folded(total_gib: float, folds: bool) -> None:
    planned = Planner(card(total_gib), made_up).plan(job(steps=2), Plan(device="cuda"))
    used = planned.prediction.peak.peak_bytes / planned.prediction.budget_bytes
    assert (used < 0.2) is folds
    shown = plan_card(planned, (), "en")
    before, bars, _ = shown.partition('<div class="i2v-phases"')
    assert bars
    assert ('data-fold="plan-memory"' in before) is folds
