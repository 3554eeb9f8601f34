"""Memory that runs out in a run of HunyuanVideo-1.5 from a picture, in any phase and step: the run goes on to the same
latents."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from i2v.engine.healing import lowest
from tests.faulty_cards import FaultyInPhases
from tests.hunyuan_runs import FAULTS, FAULTY_PLANS, Runs
from tests.hunyuan_video_15_checkpoints import JOB, PICTURE


@pytest.mark.parametrize("name", ["resident", "streamed"])
def test_faults_in_every_phase_and_step_of_one_run_heal(from_picture, tmp_path, name):
    asked = replace(JOB, task="i2v", inputs=(PICTURE,), num_frames=5)
    run = Runs("hunyuan_video_15_i2v", from_picture, tmp_path)
    card = FaultyInPhases(lambda: run.events, FAULTS)
    assert run.heal(asked, FAULTY_PLANS[name], name, card) == list(FAULTS)
    assert card.left == []
    plans = [FAULTY_PLANS[name], *run.plans]
    assert all(lowest(before, after) == after != before for before, after in itertools.pairwise(plans))
