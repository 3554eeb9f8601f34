"""A LoRA is deleted from the shelf: asked about first, with the jobs that need it, and not while one is at work with
it; and the field offers those alone that the chosen model takes by its size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from jobs_support import SCRIPTED, settings_in
from model_folders import make_checkpoint
from PIL import Image
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from i2v.families import SPECS
from i2v.jobs.service import JobService
from i2v.messages import LOCALES
from i2v.models.adapters import FOLDER
from i2v.models.lora_removal import own_lora, remove_lora
from i2v.settings.settings import Settings
from i2v.ui.create.choices import loras_for_model, seen_now
from i2v.ui.create.choose_loras import loras_for, rows_for
from i2v.ui.create.lora_rows import LoraQuestion
from i2v.ui.create.remove_loras import asked_about, erased, kept_without, without
from i2v.ui.gate.access import ADMIN, GUEST, LOCAL
from i2v.ui.gate.own import OwnJobs
from tests.lora_files import MUSUBI, named, pairs
from tests.refused import refusal

WAN, WIDER = (named(pairs({"blocks.0.self_attn.q": (width, width)}, 4, 0), MUSUBI) for width in (16, 24))
MODEL = "mine"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """With a model of Wan, a LoRA for it with a picture, one in a folder, and one for a wider model."""
    settings = settings_in(tmp_path)[0]
    model = make_checkpoint(settings.models_dir / MODEL, SPECS["wan"])
    save_arrays({"blocks.0.attn1.to_q.weight": np.zeros((16, 16), np.float16)}, model / WEIGHTS)
    shelf = settings.models_dir / FOLDER
    (shelf / "in").mkdir(parents=True)
    save_file(WAN, shelf / "paper.safetensors")
    save_file(WAN, shelf / "in" / "ink.safetensors", {"a": "other bytes"})
    save_file(WIDER, shelf / "wide.safetensors")
    Image.new("RGB", (8, 8)).save(shelf / "paper.preview.png")
    return settings


@pytest.fixture
def service(settings: Settings, tmp_path: Path) -> Iterator[JobService]:
    with JobService(settings, settings_in(tmp_path)[1], worker_command=SCRIPTED) as running:
        running.pause_queue()
        yield running


def submit(service: JobService, *loras: str) -> str:
    asked = {"model": MODEL, "prompt": "go", "width": 128, "height": 128, "frames": 5, "steps": 2, "lora": list(loras)}
    return service.submit({**asked, "task": "t2v"}, None)


def test_deleting_is_asked_about_with_the_jobs_that_need_it(service: JobService, settings: Settings) -> None:
    own, shelf = OwnJobs(service, LOCAL), settings.models_dir / FOLDER
    using = submit(service, "paper:0.5"), submit(service, str(shelf / "paper.safetensors"))
    other = submit(service, "in/ink")
    question = asked_about(own, "paper", service, settings)
    said = " ".join(line.render("en") for line in question.means)
    assert all(job in said for job in using)
    assert other not in said
    for locale in LOCALES:
        html = unescape(rows_for(MODEL, settings, locale, question))
        assert html.count('role="alert"') == 1
        assert html.index('data-act="keep" data-id="paper"') < html.index('data-act="erase" data-id="paper"')
        assert 'data-act="remove" data-id="paper"' not in html
        assert 'data-act="remove" data-id="wide"' in html
    assert erased(own, "paper", service, settings).render("en") == "Deleted: paper"
    assert sorted(path.name for path in shelf.rglob("*.*")) == ["ink.safetensors", "wide.safetensors"]
    erased(own, "in/ink", service, settings)
    assert refusal(asked_about, own, "in/ink", service, settings) == "models.adapter_missing"


def test_what_a_job_is_at_work_with_stays_also_where_it_began_after_the_question(
    service: JobService, settings: Settings
) -> None:
    own, job = OwnJobs(service, LOCAL), submit(service, "in/ink")
    asked_about(own, "in/ink", service, settings)
    assert service._board.change(job, "running", expected=("queued",))
    assert refusal(erased, own, "in/ink", service, settings) == "ui.lora_at_work"
    assert refusal(asked_about, own, "in/ink", service, settings) == "ui.lora_at_work"
    assert (settings.models_dir / FOLDER / "in" / "ink.safetensors").is_file()
    erased(own, "paper", service, settings)


@pytest.mark.parametrize(("who", "told"), [(GUEST, "ui.guest_only_looks"), ("ann", "ui.admin_only")])
def test_only_who_steers_everything_deletes(service: JobService, settings: Settings, who: str, told: str) -> None:
    for act in (asked_about, erased):
        assert refusal(act, OwnJobs(service, who), "paper", service, settings) == told
    erased(OwnJobs(service, ADMIN), "paper", service, settings)


def test_only_what_is_on_the_shelf_is_deleted(settings: Settings, tmp_path: Path) -> None:
    away = tmp_path / "away.safetensors"
    save_file(WAN, away)
    shelf = settings.models_dir / FOLDER
    for name in (str(away), "../mine/model_index.json", "../../away", "paper.preview.png", "", "."):
        assert refusal(own_lora, name, settings.models_dir) == "models.adapter_missing"
    link = shelf / "link.safetensors"
    link.symlink_to(away)
    remove_lora(own_lora("link", settings.models_dir))
    assert away.is_file()
    assert not link.is_symlink()


def test_a_lora_that_is_another_programs_has_no_button(settings: Settings, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs" / "loras"
    theirs.mkdir(parents=True)
    save_file(WAN, theirs / "away.safetensors", {"a": "b"})
    html = rows_for(MODEL, replace(settings, model_folders=(theirs.parent,)), "en")
    assert 'data-lora="away"' in html
    assert 'data-act="remove" data-id="away"' not in html


def test_a_question_about_one_that_is_folded_away_is_seen(settings: Settings) -> None:
    for number in range(6):
        save_file(WIDER, settings.models_dir / FOLDER / f"wide {number}.safetensors", {"a": str(number)})
    assert "<details" in rows_for(MODEL, settings, "en")
    for name, opened in (("wide 3", True), ("paper", False)):
        html = rows_for(MODEL, settings, "en", LoraQuestion(name, ()))
        assert ('<details class="i2v-loras-others" open>' in html) is opened


def test_what_was_chosen_is_chosen_no_more() -> None:
    files = {"paper", "ink", "a:b", "a"}
    assert without(["paper:0.5", "ink", "paper"], "paper", files) == ["ink"]
    assert without(["a:b:0.5", "a:0.5", "a"], "a", files) == ["a:b:0.5"]
    assert without(None, "a", files) == []
    assert kept_without({"one": ["a", "ink"], "two": "a"}, "a", files) == {"one": ["ink"], "two": []}
    assert kept_without(None, "a", files) == {}


def test_the_field_offers_what_goes_on_the_model_by_its_size(settings: Settings) -> None:
    assert loras_for_model(MODEL, settings) == ["in/ink", "paper"]
    assert seen_now(SPECS["wan"], {"model": MODEL}, settings, "en")["loras"] == ["in/ink", "paper"]
    away = "Wan2.1-T2V-1.3B-Diffusers"  # of what is not here the size is not known
    assert loras_for_model(away, settings) == ["in/ink", "paper", "wide"]
    assert loras_for_model("svd", settings) == loras_for_model(3, settings) == []
    assert loras_for({}, MODEL, ["wide:0.5", "paper:0.5", "/elsewhere/x"], settings) == ["paper:0.5", "/elsewhere/x"]
