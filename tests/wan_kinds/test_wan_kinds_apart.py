"""Checkpoints of the same class are told apart by what their JSON files say."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest

from i2v.families import SPECS
from i2v.families.wan.skeleton import scheduler
from i2v.messages import UserError
from i2v.models.catalogue import find_model, list_models
from i2v.models.verify import has_marks, verify_folder
from tests.test_models import Places
from tests.wan_checkpoints import build_wan


def test_every_checkpoint_is_of_its_family_and_of_no_other(checkpoint, family):
    assert find_model(str(checkpoint), Places(checkpoint.parent)).family == family
    of_class = [spec for spec in SPECS.values() if spec.class_name == SPECS[family].class_name]
    assert [spec.name for spec in of_class if has_marks(checkpoint, spec)] == [family]


def test_a_folder_of_another_kind_is_not_taken_for_it(folders):
    with pytest.raises(UserError) as refused:
        verify_folder(folders("wan22_i2v"), SPECS["wan_i2v"])
    assert refused.value.message.id == "models.other_kind"


def test_the_first_kind_is_told_from_the_large_one_and_from_those_of_later_versions(tmp_path):
    """Of a checkpoint whose index alone is there the large one is not known: it is the small one's until then."""
    small = build_wan(tmp_path / "small")
    assert find_model(str(small), Places(tmp_path)).family == "wan"
    large = shutil.copytree(small, tmp_path / "large")
    config = json.loads((large / "transformer" / "config.json").read_text())
    (large / "transformer" / "config.json").write_text(json.dumps(config | {"num_layers": 40}))
    assert find_model(str(large), Places(tmp_path)).family == "wan_14b"
    shutil.rmtree(large / "transformer")
    assert has_marks(large, SPECS["wan"])
    assert not has_marks(large, SPECS["wan_14b"])


@pytest.mark.parametrize(("name", "spec"), [(name, spec) for name, spec in SPECS.items() if name.startswith("wan")])
def test_the_published_configuration_is_of_its_family(name, spec):
    """Every mark in a configuration that we ship is the one that its checkpoint has."""
    configs = Path(__file__).parents[2] / "i2v" / "families" / name / "configs"
    inside = [mark for mark in spec.marks if mark.file != "model_index.json"]
    assert all(mark.is_on(json.loads((configs / mark.file).read_text())) for mark in inside)


def test_every_kind_stands_in_the_catalogue(tmp_path):
    offered = {entry.family for entry in list_models(Places(tmp_path))}
    assert {name for name in SPECS if name.startswith("wan")} <= offered


@pytest.mark.parametrize("name", ["wan22", "wan22_i2v"])
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 40, 50])
def test_the_steps_of_each_expert_are_known_before_a_run(name, steps):
    """As the published scheduler divides them; diffusers asks each timestep."""
    boundary, made = importlib.import_module(f"i2v.families.{name}.spec").BOUNDARY, scheduler()
    made.set_timesteps(steps)
    high = int((made.timesteps >= boundary * made.config.num_train_timesteps).sum())
    assert SPECS[name].denoise_steps(steps) == {"denoise.high": high, "denoise.low": steps - high}
