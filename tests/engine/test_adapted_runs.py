"""Runs with LoRAs: told, in the video, in what the run is known by; one loaded model for jobs with and without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from i2v.engine.checkpoint import LATENTS, identity_of
from i2v.engine.engine import Engine
from i2v.engine.orders import Orders
from i2v.engine.preview import PreviewWriter
from i2v.events import Event, Noted
from i2v.messages import UserError
from i2v.models.adapters import FOLDER, content_of
from i2v.models.entry import ASSETS, ModelEntry
from i2v.plan import Plan, everywhere
from i2v.request import Adapter, first_image
from i2v.units import GIB
from i2v.video.metadata import read_made_here
from tests import lora_family
from tests.latents import load_latents
from tests.lora_files import named, pairs
from tests.planning.support import job

REQUEST = replace(job(48, 32, 3, 2), inputs=first_image("input.png"), prompt="zoom in")
PLAN = Plan(device="simulated", places=everywhere("staged"), memory_cap_bytes=GIB)


@pytest.fixture(autouse=True)
def _family(monkeypatch):
    lora_family.add_family(monkeypatch)
    monkeypatch.setattr(PreviewWriter, "due", lambda self: False)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder of models with two LoRAs in it."""
    unet = lora_family.load(ASSETS / "nano", torch.float32).unet
    shapes = {name: tuple(one.weight.shape) for name, one in unet.named_modules() if lora_family.NAMES.layer(name)}
    for seed, name in enumerate(("one", "two")):
        _write(tmp_path / "models" / FOLDER / f"{name}.safetensors", shapes, seed)
    return tmp_path / "models"


def _write(path: Path, shapes, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(named(pairs(shapes, 4, seed)), path)


@pytest.fixture
def make(models, tmp_path):
    """Runs a job with LoRAs on an engine, and gives its latents; its events are `make.events`."""
    engines = {"kept": Engine()}
    entry = ModelEntry("nano", lora_family.NAME, "nano", ASSETS / "nano", None, True, 0, None)

    def make(*adapters: Adapter, plan: Plan = PLAN, engine: str = "kept", name: str = "job") -> torch.Tensor:
        make.events = []
        folder = make.folder = tmp_path / f"{name}{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        Image.new("RGB", (48, 32), "green").save(folder / "input.png")
        make.request = replace(REQUEST, adapters=adapters)
        engines.setdefault(engine, Engine()).run(
            make.request, plan, entry=entry, job_folder=folder, emit=make.events.append, cancelled=lambda: False,
            orders=Orders(models_dir=models),
        )  # fmt: skip
        return load_latents(folder / LATENTS)

    return make


def notes(events: list[Event]) -> list[str]:
    return [one.message.params["adapters"] for one in events
            if isinstance(one, Noted) and one.message.id == "engine.adapters"]  # fmt: skip


def test_one_loaded_model_serves_jobs_with_and_without(make) -> None:
    one, two = Adapter("one", 0.5), Adapter("two", -1.0)
    plain = make()
    assert notes(make.events) == []
    both = make(one, two)
    assert notes(make.events) == ["one × 0.5, two × -1"]
    _, made_from = read_made_here(make.folder / "video.mp4")
    assert made_from == make.request
    single = make(one)
    assert torch.equal(make(), plain)
    assert torch.equal(make(one, two), both)
    assert not torch.equal(both, plain)
    assert not torch.equal(both, single)
    assert torch.equal(make(one, engine="another"), single)


def test_where_weights_lie_changes_nothing(make) -> None:
    one = Adapter("one", 0.5)
    wanted = make(one)
    for residency in ("resident", "streamed"):
        assert torch.equal(make(one, plan=replace(PLAN, places=everywhere(residency))), wanted), residency
    assert torch.equal(make(one, plan=replace(PLAN, keep_loaded=False)), wanted)


def test_a_lora_that_cannot_be_used_ends_one_job_and_not_the_next(make, models: Path) -> None:
    plain = make()
    file = models / FOLDER / "misfit.safetensors"
    _write(file, {"down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": (3, 5)}, 0)
    for adapter, told in (
        (Adapter("misfit"), "models.adapter_shape"),
        (Adapter("gone"), "models.adapter_missing"),
        (Adapter("one", digest="of other contents"), "models.adapter_changed"),
    ):
        with pytest.raises(UserError) as refused:
            make(Adapter("two"), adapter)
        assert refused.value.message.id == told
        assert not (make.folder / LATENTS).exists()
    assert torch.equal(make(), plain)


def test_progress_is_known_by_contents_and_weights_of_loras_and_not_by_their_place(
    models: Path, tmp_path: Path
) -> None:
    def identity(*adapters: Adapter):
        return identity_of(replace(REQUEST, adapters=adapters), PLAN, tmp_path, ASSETS / "nano", "nano").request

    digests = [content_of(models / FOLDER / f"{name}.safetensors") for name in ("one", "two")]
    one = Adapter("one", 0.5, digests[0])
    assert identity(one) == identity(replace(one, source="/elsewhere/one.safetensors"))
    others = [(), (replace(one, weight=0.6),), (replace(one, digest=digests[1]),), (one, one)]
    assert len({identity(*adapters) for adapters in ((one,), *others)}) == 5
