"""The page without a browser: pictures that come in, what a reload brings back, and what only some models obey."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from jobs_support import MODEL, settings_in, small_picture, values
from page_support import SHAPE, is_skip, scripted_service, uploaded_picture
from PIL import Image
from safetensors.numpy import save_file
from tabs_support import finish, resting_service

from i2v.families import SPECS
from i2v.jobs.service import JobService
from i2v.request import Adapter, GenerationRequest
from i2v.ui.create import form
from i2v.ui.create.choices import CHOICES
from i2v.ui.create.clip import SHOWN
from i2v.ui.create.restore import refilled, same_again
from i2v.ui.gallery.opened import about, side_by_side
from i2v.ui.page import _Page
from i2v.ui.serve import build_app
from i2v.ui.shown.view import JobView
from i2v.video.picture import load_picture
from tests.model_folders import make_checkpoint
from tests.video_support import moving_frames, write_video

LITTLE = "little"
"""A model of HunyuanVideo's family, whose files hold next to nothing."""
OURS = "transformer_blocks.0.attn.to_q"
OF_GUIDANCE = {"negative", "guidance_rescale", "guidance_curve"}
OF_A_UNET = {*OF_GUIDANCE, "lora", "scheduler", "cfg", "chunk_frames", "chunk_pixels", "decode_frames"}
OF_LITTLE = {
    "lora", "true_guidance", "scheduler", "flow_shift", "chunk_tokens", "decode_frames", "vae_window", "step_cache",
}  # fmt: skip


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with scripted_service(tmp_path) as running:
        yield running


def test_a_picture_that_browsers_cannot_show_is_shown_as_it_was_read(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    sent = uploaded_picture(tmp_path, "shown")
    shown = page._pictured(None, "en", "auto", "small", {"path": str(sent)})
    assert (shown[0], is_skip(shown[1])) == ("", True)
    for suffix in ("tif", "jp2", "tga", "ppm"):
        strange = sent.with_name(f"{'长' * 60}.{suffix}")
        load_picture(sent).save(strange)
        told, picture, _, *size = page._pictured(None, "en", "auto", "small", {"path": str(strange)})
        assert told == ""  # and what was said of an earlier picture goes
        assert size == shown[3:]
        with Image.open(picture) as copy:
            assert copy.format == "PNG"
            np.testing.assert_array_equal(np.asarray(copy), np.asarray(load_picture(strange)))


def test_a_file_that_is_no_picture_leaves_the_good_one(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    good = uploaded_picture(tmp_path, "good")
    bad = good.with_name("notes.jpg")
    bad.write_text("not a picture")
    ticket = page._ticket(None, good)
    told, picture, _, *size = page._pictured(None, "en", "auto", "small", {"path": str(bad)}, ticket)
    assert ("notes.jpg" in told, picture) == (True, str(good))
    assert all(is_skip(update) for update in size)
    assert page._pictured(None, "en", "auto", "small", {"path": str(bad)})[1] is None


def test_a_reload_brings_back_what_was_filled_in_and_not_sent(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    sent = service.submit(values("waves"), small_picture(tmp_path))
    picture = uploaded_picture(tmp_path, "kept")
    kept = {"ticket": page._ticket(None, picture), "values": {"prompt": "the tide comes in", "seed": "7", "steps": 9}}
    _, *restored, ticket = page._restored(None, sent, "en", None, kept)[len(page._job_outputs) - 1 :]
    assert (restored[0], ticket) == (str(picture), kept["ticket"])
    found = dict(zip(form.FIELDS, restored[3:], strict=True))
    assert [found[name] for name in ("prompt", "seed", "steps")] == ["the tide comes in", "7", 9]
    assert is_skip(found["model"])
    other = SimpleNamespace(username="ann", client=None)  # at the same browser
    assert all(is_skip(update) for update in page._restored(other, "", "en", None, kept)[len(page._job_outputs) : -1])


def test_another_model_and_back_brings_the_numbers_back(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    kept = {"at": "nano auto", "by": {}}
    kept, *there = page._numbers(kept, "auto", "i2vgen-xl", None, None, "16:9", "standard", 680, 384, 20, 8, 9, 7.5)
    assert there[0] / there[1] == pytest.approx(16 / 9, rel=0.02)  # the shape is kept, within the other's own size
    assert there[4] != 9
    kept, *back = page._numbers(kept, "auto", "nano", None, None, "16:9", "standard", *there)
    assert back == [680, 384, 20, 8, 9, 7.5]
    assert set(kept["by"]) == {"nano auto", "i2vgen-xl auto"}


def test_a_client_is_told_of_a_name_that_begins_with_a_dot(service: JobService, tmp_path: Path) -> None:
    """The page sends such a file under another name; a client hears one sentence, and not Gradio's own."""
    client = TestClient(build_app(service, *settings_in(tmp_path), None), base_url="http://127.0.0.1")
    for name in ("..hidden", ".jpg"):
        (path,) = client.post("/gradio_api/upload", files={"files": (name, b"x")}).json()
        sent = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, {}]}
        answer = client.post("/gradio_api/call/submit", json=sent)
        assert (answer.status_code, answer.json()["title"]) == (400, "ui.hidden_name")
        assert name in answer.json()["error"]


# --- what only some models obey ---


@pytest.fixture
def loras(tmp_path: Path) -> Path:
    """The folder of LoRAs, with two for HunyuanVideo and one for another network."""
    make_checkpoint(tmp_path / "models" / LITTLE, SPECS["hunyuan_video"])
    folder = tmp_path / "models" / "loras"
    for name, layer in (("snow", OURS), ("people/old", OURS), ("wan", "blocks.0.self_attn.q")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        matrices = {f"{layer}.lora_{part}.weight": np.ones((2, 2), np.float32) for part in "AB"}
        save_file(matrices, folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def resting(loras: Path, tmp_path: Path) -> Iterator[JobService]:
    with resting_service(tmp_path, max_queue_per_owner=20) as running:
        yield running


def filled(**more: object) -> dict[str, object]:
    """The form for the little HunyuanVideo."""
    asked = {"model": LITTLE, "width": 128, "height": 128, "frames": 9, "task": "t2v", **more}
    return dict.fromkeys(form.FIELDS) | dict.fromkeys(form.AUTO_FIELDS, "auto") | values(**asked)


def shown_choices(
    page: _Page, asked: dict[str, object], before: object = None, locale: str = "en"
) -> dict[str, object]:
    """What the page is sent of the choices that only some models obey."""
    answer = page.answers.at_once(None, locale, *asked.values(), *SHAPE[:-1], before)
    start = -3 - len(SHOWN) - 1 - len(CHOICES)
    return dict(zip(("shown", *CHOICES), answer[start:], strict=False))


def seen_of(updates: dict[str, object]) -> set[str]:
    return {name for name in CHOICES if updates[name]["visible"] is True}


def test_the_form_shows_what_the_model_obeys_and_is_told_only_what_is_new(resting: JobService, tmp_path: Path) -> None:
    page = _Page(resting, *settings_in(tmp_path))
    for model, more in (("nano", set()), (MODEL, {"betas"})):
        assert seen_of(shown_choices(page, filled(model=model))) == OF_A_UNET | more
    little = shown_choices(page, filled())
    assert seen_of(little) == OF_LITTLE
    assert little["lora"]["choices"] == ["people/old", "snow"]
    twice = shown_choices(page, filled(true_guidance=2), little["shown"])
    assert seen_of(twice) - seen_of(little) == OF_GUIDANCE
    assert all(is_skip(one) for one in shown_choices(page, filled(true_guidance=3), twice["shown"]).values())
    (tmp_path / "models" / "loras" / "snow.safetensors").unlink()
    assert shown_choices(page, filled(true_guidance=2), twice["shown"])["lora"]["choices"] == ["people/old"]


def test_a_page_opens_with_what_its_model_obeys(resting: JobService, tmp_path: Path) -> None:
    for model, seen in (("nano", OF_A_UNET), (LITTLE, OF_LITTLE)):
        page = _Page(resting, *settings_in(tmp_path, model=model))
        fields = page.form.fields
        assert {name for name in CHOICES if fields[name].visible is True} == seen
        assert {fields[name].visible for name in set(CHOICES) - seen} == {"hidden"}
        assert all(
            is_skip(one) for one in shown_choices(page, filled(model=model), page.form.choices_shown.value).values()
        )


def test_generate_and_scouts_send_loras_and_true_guidance_and_they_come_back(
    resting: JobService, tmp_path: Path
) -> None:
    page = _Page(resting, *settings_in(tmp_path, max_queue_per_owner=20))
    chosen = ["snow", "people/old:0.8"]
    asked = filled(lora=chosen, true_guidance=2.5, negative="rain", chunk_tokens="1024", cfg="split", chunk_pixels="7")
    page._generate(None, "en", "", None, None, None, *asked.values())
    page.scout.sent(None, "en", 2, "", None, None, None, *asked.values())
    jobs = resting.jobs()
    jobs.append(resting.status(resting.retry(jobs[0].id)))
    assert len(jobs) == 4
    for job in jobs:
        request = job.request
        assert [(one.source, one.weight) for one in request.adapters] == [("snow", 1.0), ("people/old", 0.8)]
        assert (request.true_guidance_scale, request.negative_prompt) == (2.5, "rain")
        assert (request.options.chunk_tokens, request.options.cfg, request.options.chunk_pixels) == (1024, None, None)
        # By "use these settings", and by a reload of a page that was showing the job.
        for back in (same_again(request), page._restored(None, job.id, "en")[len(page._job_outputs) + 3 : -1]):
            found = dict(zip(form.FIELDS, back, strict=True))
            assert (found["lora"], found["true_guidance"], found["negative"]) == (chosen, 2.5, "rain")
    kept = {"ticket": page._ticket(None, None), "values": {"lora": chosen, "true_guidance": 2.5}}
    back = page._restored(None, "", "en", None, kept)[len(page._job_outputs) + 3 : -1]
    assert (back[form.FIELDS.index("lora")], back[form.FIELDS.index("true_guidance")]) == (chosen, 2.5)


def test_the_schedulers_that_a_model_offers_are_told_in_both_languages(resting: JobService, tmp_path: Path) -> None:
    page = _Page(resting, *settings_in(tmp_path))
    shown = shown_choices(page, filled(model=MODEL, scheduler="unipc"))
    assert shown["scheduler"]["choices"][0] == ["the model's own", "auto"]
    assert [name for _, name in shown["scheduler"]["choices"][1:]] == list(SPECS["i2vgen_xl"].scheduler_steps)
    assert "value" not in shown["scheduler"]
    assert "15 to 50 steps suit I2VGen-XL, and guidance from 5 to 15" in shown["scheduler"]["info"]
    assert [name for _, name in shown["betas"]["choices"]] == ["auto", "cosine", "cosine_zero_snr"]
    chinese = shown_choices(page, filled(model=MODEL, scheduler="unipc"), shown["shown"], "zh-CN")
    assert chinese["scheduler"]["choices"][0] == ["模型自带", "auto"]
    assert "15 到 50 步" in chinese["scheduler"]["info"]
    # Another model: what it does not offer goes back to its own, in the form too, and is not sent meanwhile.
    little = shown_choices(page, filled(scheduler="unipc", betas="cosine"), shown["shown"])
    assert [name for _, name in little["scheduler"]["choices"]] == ["auto", *SPECS["hunyuan_video"].scheduler_steps]
    assert (little["scheduler"]["value"], little["betas"]["value"]) == ("auto", "auto")
    page._generate(None, "en", "", None, None, None, *filled(scheduler="unipc", betas="cosine").values())
    (job,) = resting.jobs()
    assert (job.request.scheduler, job.request.betas) == (None, None)


def test_generate_sends_scheduler_and_guidance_and_they_come_back(resting: JobService, tmp_path: Path) -> None:
    page = _Page(resting, *settings_in(tmp_path, max_queue_per_owner=20))
    chosen = {"scheduler": "dpmpp_2m", "betas": "cosine", "guidance_rescale": 0.7, "guidance_curve": "falling"}
    picture = {"path": str(uploaded_picture(tmp_path, "scheduled"))}
    asked = filled(model=MODEL, width=64, height=64, task="i2v", steps=30, **chosen)
    page._generate(None, "en", "", picture, None, None, *asked.values())
    (job,) = resting.jobs()
    for request in (job.request, resting.status(resting.retry(job.id)).request):
        assert {name: getattr(request, name) for name in chosen} == chosen
        back = dict(zip(form.FIELDS, same_again(request), strict=True))
        assert {name: back[name] for name in chosen} == chosen
    told = about(resting.status(job.id), JobView(), "zh-CN")
    assert "<dt>采样器</dt><dd>DPM++ 2M</dd>" in told
    assert "<dt>引导走势</dt><dd>递减</dd>" in told


def test_what_only_some_models_take_is_sent_and_comes_back(resting: JobService, tmp_path: Path) -> None:
    page = _Page(resting, *settings_in(tmp_path))
    asked = filled(flow_shift="6.5")
    page._generate(None, "en", "", None, None, None, *asked.values())
    (job,) = resting.jobs()
    for request in (job.request, resting.status(resting.retry(job.id)).request):
        assert request.flow_shift == 6.5
        assert dict(zip(form.FIELDS, same_again(request), strict=True))["flow_shift"] == "6.5"
    told = [about(resting.status(job.id), JobView(), locale) for locale in ("en", "zh-CN")]
    assert "<dt>Flow shift</dt><dd>6.5</dd>" in told[0]
    assert "<dt>流偏移（shift）</dt><dd>6.5</dd>" in told[1]
    sent = page._generate(None, "en", "", None, None, None, *filled(flow_shift="600").values())
    assert "0.1 to 20" in sent[page._job_outputs.index(page.told)]
    assert page.form.fields["flow_shift"].placeholder == "auto (the model's own)"


def test_what_the_model_does_not_obey_is_not_sent(resting: JobService, tmp_path: Path) -> None:
    page = _Page(resting, *settings_in(tmp_path, max_queue_per_owner=20))
    # As it stands in the form after another model was chosen.
    left = {"lora": [], "true_guidance": 3, "negative": "rain", "chunk_tokens": "1024", "chunk_frames": "2"}
    left["flow_shift"] = "6"
    picture = {"path": str(uploaded_picture(tmp_path, "not-obeyed"))}
    page._generate(None, "en", "", picture, None, None, *filled(model=MODEL, width=64, height=64, **left).values())
    page._generate(None, "en", "", None, None, None, *filled(**left | {"true_guidance": 1}).values())
    other, little = (job.request for job in resting.jobs())
    assert (other.adapters, other.true_guidance_scale, other.negative_prompt) == ((), 1, "rain")
    assert (other.options.chunk_tokens, other.options.chunk_frames) == (None, 2)
    assert (other.flow_shift, little.flow_shift) == (None, 6.0)
    assert (little.negative_prompt, little.options.chunk_tokens, little.options.chunk_frames) == ("", 1024, None)


def test_the_gallery_tells_loras_and_true_guidance_apart(resting: JobService, tmp_path: Path) -> None:
    asked = {"model": LITTLE, "width": 128, "height": 128, "frames": 9, "task": "t2v", "pictured": False}
    made = [finish(resting, tmp_path, **asked)]
    made.append(finish(resting, tmp_path, **asked, lora=["snow:0.5", "people/old"], true_guidance=2))
    plain, styled = (resting.status(job_id) for job_id in made)
    assert "<dt>LoRAs</dt>" not in about(plain, JobView(), "en")
    assert "<dt>LoRAs</dt><dd>snow:0.5, people/old</dd>" in about(styled, JobView(), "en")
    compared = side_by_side(plain, styled, "en")
    assert "<th scope=row>LoRAs</th><td>–</td><td>snow:0.5, people/old</td>" in compared
    assert "<th scope=row>True guidance</th><td>–</td><td>2</td>" in compared


def test_a_lora_for_another_network_is_refused_in_words(resting: JobService, tmp_path: Path) -> None:
    page = _Page(resting, *settings_in(tmp_path))
    for typed, words in (("wan", "blocks.0.self_attn.q"), ("gone", "snow"), ("snow:9", "9")):
        asked = filled(lora=[typed])
        sent = page._generate(None, "en", "", None, None, None, *asked.values())
        assert words in sent[page._job_outputs.index(page.told)]
        assert words in page.answers.at_once(None, "en", *asked.values(), *SHAPE)[0]
    assert resting.jobs() == []


def test_a_video_gives_its_loras_back_and_says_which_are_gone(loras: Path, tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    request = GenerationRequest(
        LITTLE, "waves", 128, 128, 9, 12, 6, 6.0, 1, task="t2v", true_guidance_scale=2.0, negative_prompt="rain",
        adapters=(Adapter("snow", 0.8, ""),), flow_shift=6.0,
    )  # fmt: skip
    video = write_video(tmp_path / "v.mp4", moving_frames(3, 64, 64), request=request.to_json())

    def back(chosen: str) -> tuple[str, dict[str, object]]:
        told, _, _, _, *fields = refilled(str(video), "en", chosen, settings)
        return told, dict(zip(form.FIELDS, fields, strict=True))

    told, found = back("nano")
    assert (told, found["lora"], found["true_guidance"], found["flow_shift"]) == ("", ["snow:0.8"], 2.0, "6")
    (loras / "snow.safetensors").unlink()
    told, found = back("nano")
    assert ("snow" in told, found["lora"], found["negative"]) == (True, [], "rain")
    shutil.rmtree(tmp_path / "models" / LITTLE)  # the model too: what nano does not obey is left out
    told, found = back("nano")
    assert (found["lora"], found["true_guidance"], found["prompt"], found["flow_shift"]) == ([], 1.0, "waves", "")
