"""A small checkpoint of every family, made once, and clips to train it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from i2v.dryrun.training import DryTrainer
from i2v.training import examples, train
from tests.checkpoints import Size, build_checkpoint
from tests.hunyuan_checkpoints import build_hunyuan, build_hunyuan_i2v
from tests.planning.conftest import small_nano
from tests.training.small_trainings import make_clips

I2VGEN_XL = Size(channels=(32, 64), groups=16, head_dim=32, text_dim=64, vae_channels=(32, 32, 32, 32))


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint folder of a family."""
    models = tmp_path_factory.mktemp("trained_models")
    build = {
        "nano": small_nano,
        "i2vgen_xl": lambda folder: build_checkpoint(folder, I2VGEN_XL),
        "hunyuan_video": build_hunyuan,
        "hunyuan_video_i2v": lambda folder: build_hunyuan_i2v(folder, "token_replace"),
    }
    return cache(lambda family: build[family](models / family))


@pytest.fixture(scope="session", autouse=True)
def _examples_made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trainings of one process share what they encode, which the names of the files tell apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "FOLDER", str(tmp_path_factory.mktemp("examples")))
        patch.setattr(train, "drop_examples", lambda work: None)
        yield


@pytest.fixture(scope="session")
def dry_trainer(model_of: Callable[[str], Path]) -> Callable[[str], DryTrainer]:
    """Of a small checkpoint, made once."""
    return cache(lambda family: DryTrainer(family, model_of(family), "float32"))


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("clips"))
