"""The form: what it starts with, what it hands on, and how a job comes back into it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from gradio.utils import get_upload_folder
from hypothesis import given
from hypothesis import strategies as st
from jobs_support import settings_in, small_picture, values
from page_support import scripted_service

from i2v.families import SPECS
from i2v.jobs.asked.adapters import parted
from i2v.jobs.service import JobService
from i2v.messages import LOCALES, UserError, message
from i2v.plan import POLICIES, PRECISIONS
from i2v.request import Adapter, PlanOptions
from i2v.ui import texts
from i2v.ui.api import uploaded_path
from i2v.ui.create import choices, form
from i2v.ui.page import _Page


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with scripted_service(tmp_path) as running:
        yield running


def test_empty_fields_are_left_to_us_and_the_rest_arrives() -> None:
    raw = dict.fromkeys(form.FIELDS) | {"prompt": "waves", "seed": "", "chunk_frames": "0", "steps": 5}
    assert form.request_values(list(raw.values()), SPECS["nano"]) == {
        "prompt": "waves",
        "chunk_frames": "0",
        "steps": 5,
    }


def test_of_every_family_just_what_it_obeys_is_sent() -> None:
    assert {name for spec in SPECS.values() for names in spec.knobs.values() for name in names} == set(choices.KNOBS)
    filled = dict.fromkeys(form.FIELDS, "1") | {"task": "v2v", "lora": ["snow"], "scheduler": "auto", "betas": "auto"}
    for spec in SPECS.values():
        own = {name for names in spec.knobs.values() for name in names}
        own |= {"lora"} if spec.lora_names else set()
        own |= {"scheduler"} if spec.scheduler_steps else set()
        own |= {"betas"} if spec.betas else set()
        own |= {"step_cache"} if spec.step_cache else set()
        own |= {"two_stages"} if spec.two_stages else set()
        own |= set(spec.own_settings)
        for true_guidance, twice in ((None, False), (1, False), (1.5, True)):
            asked = filled | {"true_guidance": true_guidance}
            sent = set(form.request_values(list(asked.values()), spec))
            read = (
                {"negative", "guidance_rescale", "guidance_curve"} if twice or spec.guidance == "second pass" else set()
            )
            told = {"true_guidance"} if spec.guidance == "embedded" and true_guidance else set()
            assert sent & set(choices.CHOICES) == own | read | told
            assert sent - set(choices.CHOICES) == set(form.FIELDS) - set(choices.CHOICES)


@given(st.text(), st.floats(-4, 4))
def test_a_lora_in_the_form_is_read_as_it_was(name: str, weight: float) -> None:
    (typed,) = choices.typed_loras([Adapter(name, weight)])
    source, said = parted(typed, lambda one: one == name)
    assert (source, 1.0 if said is None else float(said)) == (name, weight)


@pytest.mark.parametrize("shape", [(600, 900), (1920, 1080), (20, 20), (1000, 1), (6000, 4000)])
def test_the_size_follows_the_picture_at_the_same_number_of_pixels(shape: tuple[int, int], tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    for spec in SPECS.values():
        plain = form.default_numbers(spec, settings)
        fitted = form.default_numbers(spec, settings, shape)
        width, height = fitted["width"], fitted["height"]
        spec.check(task=spec.usual_task, width=width, height=height, num_frames=fitted["frames"])
        if spec.only_size is not None:
            continue
        assert (width > height) == (shape[0] > shape[1])
        if 0.5 <= shape[0] / shape[1] <= 2:
            assert abs(width / height / (shape[0] / shape[1]) - 1) < 0.1
            assert 0.8 <= width * height / (plain["width"] * plain["height"]) <= 1


def test_auto_says_what_it_stands_for_under_each_preset(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    for preset in ("cpu", "06gb", "80gb"):
        under = settings.with_overrides(PlanOptions(preset=preset))
        labels = form.auto_labels(under, "en")
        assert labels["precision"][0] == (f"auto ({under.precision})", "auto")
        assert labels["chunk_frames"] == f"auto ({under.chunk_frames or 'all'})"
        assert [value for _, value in labels["precision"][1:]] == list(PRECISIONS)
    assert form.auto_labels(settings, "zh-CN")["chunk_frames"].startswith("自动")


def test_a_job_comes_back_into_the_form_as_it_was_asked(tmp_path: Path) -> None:
    from i2v.jobs.asked.prepare import build_request

    settings, _ = settings_in(tmp_path)
    asked = values(model="nano", chunk_frames=2, cfg="split", negative="fog", image=str(small_picture(tmp_path)))
    request = build_request(asked, settings)
    again = build_request(
        {**form.request_values(form.form_values(request), SPECS["nano"]), "image": asked["image"]}, settings
    )
    assert replace(again, seed=request.seed) == request


def test_only_uploads_count_as_pictures(tmp_path: Path) -> None:
    uploaded = Path(get_upload_folder()) / "abc" / "photo.jpg"
    assert uploaded_path({"path": str(uploaded)}) == uploaded.resolve()
    assert uploaded_path(None) is None
    for bad in (str(tmp_path / "x.jpg"), f"{get_upload_folder()}/../x.jpg", "a\0b", 7, None):
        with pytest.raises(UserError):
            uploaded_path({"path": bad})


@pytest.mark.parametrize("locale", LOCALES)
def test_fixed_labels_reach_the_browser_in_each_language(locale: str) -> None:
    table = texts.build_i18n().translations_dict[locale]
    assert table["ui.generate"] == message("ui.generate").render(locale)
    assert all("{" not in label for label in table.values())


def test_the_policy_field_starts_with_the_settings_own(service: JobService, tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path, policy="smallest")
    choices = form.auto_labels(settings, "en")["policy"]
    assert [value for _, value in choices] == ["auto", *POLICIES]
    assert choices[0][0] == f"auto ({choices[3][0]})"
    page = _Page(service, *settings_in(tmp_path, policy="smallest"))
    field = page.form.fields["policy"]
    assert (field.value, field.choices) == ("auto", choices)
