"""Chromium on a model that makes videos from a sentence alone, from a photograph and from a video: what is dropped
decides, a reload keeps it, and another model says what it cannot do."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from diffusers import HunyuanVideoTransformer3DModel
from page_server import PageServer, page_server
from playwright.sync_api import Page, expect
from tab import Tab, picture_of
from tabs_support import finish, resting_service

from i2v.families import SPECS
from i2v.families.spec import InputSlot
from i2v.jobs.job.folder import VIDEO
from i2v.jobs.list.rebuild import job_folders
from i2v.request import GenerationRequest
from i2v.video.metadata import read_made_here
from tests.hunyuan_checkpoints import build_hunyuan
from tests.lora_files import lora_file
from tests.page_parent import TASKS_OF
from tests.photos import photograph
from tests.video_support import film, shown

PLACES = ("picture", "clip", "clip-player", "strength", "first-frame", "examples")
SMALL = {"width": "128", "height": "128", "frames": "9", "steps": "2"}
DROP = """([place, bytes, type, name]) => {
  const read = Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([read], name, { type }));
  document.querySelector(place).dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer }));
}"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("clips") / "waves.mp4", "-pix_fmt", "yuv420p", size="320x180", seconds=0.5)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Iterator[PageServer]:
    """With one finished video that was made from a clip, and a small HunyuanVideo that really computes."""
    folder = tmp_path_factory.mktemp("tasks")
    little = build_hunyuan(folder / "models" / "little")
    network = HunyuanVideoTransformer3DModel.from_pretrained(little / "transformer")
    for seed, name in enumerate(("snow", "people/old")):
        lora_file(folder / "models" / "loras" / f"{name}.safetensors", network, seed=seed)
    changed = {"task": "v2v", "strength": 0.35, "clip": clip, "pictured": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SPECS, "i2vgen_xl", replace(SPECS["i2vgen_xl"], inputs={"v2v": (InputSlot("video", None),)}))
        with resting_service(folder) as service:
            finish(service, folder, "waves of snow", **changed)
            service.pause_queue(False)
    with page_server(folder, environ={TASKS_OF: "i2vgen_xl=t2v,i2v,v2v"}) as running:
        yield running


def choose(page: Page, model: str) -> None:
    page.click("#i2v-model input")
    page.get_by_role("option").filter(has_text=model).first.click()


def seen(page: Page, *names: str) -> None:
    """Exactly these of PLACES are to be seen."""
    for name in PLACES:
        place = page.locator(f"#i2v-{name}")
        (expect(place).to_be_visible if name in names else expect(place).not_to_be_visible)()


def task(page: Page, name: str) -> None:
    expect(page.locator("#i2v-task").locator("input, textarea")).to_have_value(name)


def drop(page: Page, place: str, file: Path, type_: str) -> None:
    page.evaluate(DROP, [place, base64.b64encode(file.read_bytes()).decode(), type_, file.name])


def test_what_is_dropped_decides_and_a_reload_keeps_it(
    tab: Tab, server: PageServer, clip: Path, tmp_path: Path
) -> None:
    page, clip_input = tab.page, tab.page.locator("#i2v-clip input[type=file]")
    seen(page, "picture", "examples")  # as for every model that takes a photograph alone
    expect(page.locator("#i2v-clip-note .i2v-note")).to_have_count(0)
    choose(page, "I2VGen-XL")
    task(page, "t2v")
    seen(page, "picture", "clip", "examples")
    expect(page.locator("#i2v-clip-note")).to_contain_text("the sentence alone makes the video")
    expect(page.locator("#i2v-picture")).to_contain_text("the sentence alone makes the video")
    picture_of(page, "tasks-nothing")
    # What is no video is told at once, beside the field.
    (tmp_path / "notes.mp4").write_text("no video")
    clip_input.set_input_files(tmp_path / "notes.mp4")
    expect(page.locator("#i2v-clip-told")).to_contain_text("notes.mp4 is not a video")
    task(page, "t2v")
    clip_input.set_input_files(clip)
    task(page, "v2v")
    seen(page, "clip", "clip-player", "strength", "first-frame")
    expect(page.locator("#i2v-clip-told")).to_be_empty()
    page.wait_for_function("document.querySelector('#i2v-clip-player video')?.videoWidth === 320")
    expect(page.locator("#i2v-width input")).to_have_value("680")
    expect(page.locator("#i2v-height input")).to_have_value("384")
    expect(page.locator("#i2v-frames input")).to_have_value("8")  # half a second at 16 a second
    expect(page.locator("#i2v-clip-note")).to_contain_text("320 × 180, 0.5 s")
    # The keyboard comes to all of it.
    page.locator("#i2v-strength input[type=range]").press("ArrowLeft")
    expect(page.locator("#i2v-strength input[type=number]")).to_have_value("0.75")
    page.fill("#i2v-prompt textarea", "snow falls")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        picture_of(page, f"tasks-clip-{scheme}")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    picture_of(page, "tasks-clip-telephone")
    page.set_viewport_size({"width": 1280, "height": 900})
    tab.open(server.url)
    seen(page, "clip", "clip-player", "strength", "first-frame")
    task(page, "v2v")
    expect(page.locator("#i2v-strength input[type=number]")).to_have_value("0.75")
    expect(page.locator("#i2v-prompt textarea")).to_have_value("snow falls")


def test_another_model_says_what_it_cannot_do_and_takes_the_first_frame(tab: Tab, clip: Path) -> None:
    page = tab.page
    choose(page, "I2VGen-XL")
    page.locator("#i2v-clip input[type=file]").set_input_files(clip)
    task(page, "v2v")
    page.fill("#i2v-prompt textarea", "snow falls")
    choose(page, "Nano")
    seen(page, "clip", "clip-player", "first-frame")
    page.click("#i2v-generate")
    expect(page.locator("#i2v-told")).to_contain_text("Nano makes no videos from a video. Choose a model that does")
    expect(page.locator("#i2v-told")).to_contain_text("I2VGen-XL")
    page.get_by_text("中文", exact=True).click()
    expect(page.locator("#i2v-first-frame")).to_have_text("改用它的第一帧作为照片")
    picture_of(page, "tasks-cannot")
    page.locator("#i2v-first-frame").press("Enter")
    page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth === 320")
    task(page, "i2v")
    seen(page, "picture", "examples")
    expect(page.locator("#i2v-told")).to_be_empty()
    expect(page.locator("#i2v-example-brook")).to_contain_text("溪流")
    expect(page.locator("#i2v-brush-toggle")).to_be_visible()


def test_a_video_takes_the_photographs_place_and_a_photograph_the_videos(tab: Tab, clip: Path) -> None:
    page = tab.page
    choose(page, "I2VGen-XL")
    task(page, "t2v")
    page.set_input_files("#i2v-picture input[type=file]", photograph())
    task(page, "i2v")
    seen(page, "picture", "examples")
    drop(page, "#i2v-picture", clip, "video/mp4")
    task(page, "v2v")
    seen(page, "clip", "clip-player", "strength", "first-frame")
    longer = film(clip.with_name("longer.webm"), size="64x64", seconds=1)
    drop(page, "#i2v-clip", longer, "video/webm")  # another in its place
    expect(page.locator("#i2v-clip-note")).to_contain_text("64 × 64, 1 s")
    drop(page, "#i2v-clip", photograph(), "image/jpeg")
    task(page, "i2v")
    seen(page, "picture", "examples")


def test_a_sentence_alone_and_a_video_become_videos(tab: Tab, server: PageServer, clip: Path) -> None:
    page, made = tab.page, set(job_folders(server.folder / "outputs"))
    choose(page, "little")
    task(page, "t2v")
    page.fill("#i2v-prompt textarea", "waves roll onto the beach")
    tab.unfold()
    for name, value in SMALL.items():
        page.fill(f"#i2v-{name} input", value)
    picture_of(page, "tasks-little")
    first, source = makes_a_video(page, server, made, "tasks-sentence", "")
    assert (first.task, first.inputs) == ("t2v", ())
    page.locator("#i2v-clip input[type=file]").set_input_files(clip)
    task(page, "v2v")
    expect(page.locator("#i2v-width input")).not_to_have_value("128")  # the clip's shape is proposed
    for name, value in SMALL.items():
        page.fill(f"#i2v-{name} input", value)
    page.fill("#i2v-strength input[type=number]", "0.3")
    second, _ = makes_a_video(page, server, made, "tasks-video", source)
    assert (second.task, [one.strength for one in second.inputs]) == ("v2v", [0.3])
    assert (second.prompt, second.num_frames) == ("waves roll onto the beach", 9)


def makes_a_video(
    page: Page, server: PageServer, made: set[Path], name: str, before: str
) -> tuple[GenerationRequest, str]:
    """Generate, and the new video, looked at as `name`: what it tells that it was made from, and its address."""
    page.click("#i2v-generate")
    video = page.locator("#i2v-stage video")
    expect(page.locator("#i2v-status")).to_contain_text("Done")
    expect(video).not_to_have_attribute("src", before)
    page.wait_for_function("document.querySelector('#i2v-stage video').videoWidth === 128")
    picture_of(page, name)
    (folder,) = set(job_folders(server.folder / "outputs")) - made
    made.add(folder)
    assert len(shown(folder / VIDEO)) == 9
    return read_made_here(folder / VIDEO)[1], str(video.get_attribute("src"))


def test_loras_and_true_guidance_are_there_for_the_model_that_takes_them(tab: Tab, server: PageServer) -> None:
    page, made = tab.page, set(job_folders(server.folder / "outputs"))
    of_others = ("negative", "cfg", "chunk_frames", "chunk_pixels")
    loras = page.locator("#i2v-lora")
    tab.unfold()
    for model in ("Nano", "I2VGen-XL"):
        choose(page, model)
        for name in (*of_others, "lora"):
            expect(page.locator(f"#i2v-{name}")).to_be_visible()
        for name in ("true_guidance", "chunk_tokens"):
            expect(page.locator(f"#i2v-{name}")).not_to_be_visible()
    page.fill("#i2v-negative textarea", "rain")
    picture_of(page, "tasks-choices-others")
    choose(page, "little")
    for name in of_others:
        expect(page.locator(f"#i2v-{name}")).not_to_be_visible()
    for name in ("lora", "true_guidance", "chunk_tokens", "decode_frames", "vae_window"):
        expect(page.locator(f"#i2v-{name}")).to_be_visible()
    # One from the list and one typed with a weight, by the keyboard.
    loras.locator("input").click()
    expect(page.get_by_role("option")).to_have_text([re.compile("people/old"), re.compile("snow")])
    page.get_by_role("option").filter(has_text="snow").click()
    page.keyboard.type("people/old:0.5")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.fill("#i2v-true_guidance input", "2")
    expect(page.locator("#i2v-negative textarea")).to_have_value("rain")
    expect(page.locator("#i2v-negative")).to_be_visible()
    scheduler = page.locator("#i2v-scheduler")
    expect(scheduler.locator("input")).to_have_value("the model's own")
    scheduler.locator("input").click()
    offered = ["the model's own", "Flow Euler", "Flow DPM++ 2M", "Flow UniPC"]
    expect(page.get_by_role("option")).to_have_text([re.compile(re.escape(name)) for name in offered])
    page.get_by_role("option").filter(has_text="Flow UniPC").click()
    expect(scheduler).to_contain_text("15 to 50 steps suit HunyuanVideo")
    page.fill("#i2v-guidance_rescale input", "0.5")
    page.fill("#i2v-prompt textarea", "snow falls")
    for name, value in SMALL.items():
        page.fill(f"#i2v-{name} input", value)
    page.get_by_text("中文", exact=True).click()
    expect(page.locator("#i2v-true_guidance")).to_contain_text("两倍时间")
    expect(loras).to_contain_text("权重")
    expect(scheduler).to_contain_text("适合 15 到 50 步")
    expect(scheduler.locator("input")).to_have_value("Flow UniPC")
    picture_of(page, "tasks-choices-little-chinese")
    page.get_by_text("EN", exact=True).click()
    picture_of(page, "tasks-choices-little")
    request, _ = makes_a_video(page, server, made, "tasks-choices-done", "")
    assert [(one.source, one.weight) for one in request.adapters] == [("snow", 1.0), ("people/old", 0.5)]
    assert (request.true_guidance_scale, request.negative_prompt) == (2, "rain")
    assert (request.scheduler, request.guidance_rescale) == ("flow_unipc", 0.5)
    page.fill("#i2v-prompt textarea", "more snow falls")
    tab.open(server.url)
    expect(page.locator("#i2v-prompt textarea")).to_have_value("more snow falls")
    expect(loras).to_contain_text("snow")
    expect(loras).to_contain_text("people/old:0.5")
    tab.unfold()
    expect(page.locator("#i2v-true_guidance input")).to_have_value("2")
    expect(page.locator("#i2v-negative")).to_be_visible()
    expect(scheduler.locator("input")).to_have_value("Flow UniPC")
    picture_of(page, "tasks-choices-reloaded")
    choose(page, "Nano")  # which does not offer it
    expect(scheduler.locator("input")).to_have_value("the model's own")


def test_a_video_of_the_gallery_gives_its_clip_back_to_the_form(tab: Tab) -> None:
    page = tab.page
    page.get_by_role("tab", name="Gallery").click()
    page.locator(".i2v-video-card").filter(has_text="waves of snow").click()
    page.locator("#i2v-gallery-run").get_by_text("Settings").click()
    expect(page.locator("#i2v-gallery-run")).to_contain_text("a video")
    page.get_by_role("button", name="Use these settings").click()
    task(page, "v2v")
    seen(page, "clip", "clip-player", "strength", "first-frame")
    page.wait_for_function("document.querySelector('#i2v-clip-player video')?.videoWidth === 320")
    expect(page.locator("#i2v-strength input[type=number]")).to_have_value("0.35")
    expect(page.locator("#i2v-model input")).to_have_value(re.compile("small"))
    page.get_by_role("tab", name="Gallery").click()
    page.get_by_role("button", name="Continue from the last frame").click()
    task(page, "i2v")
    page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth === 64")
    seen(page, "picture", "examples")


def test_a_job_from_the_sentence_alone_stands_in_the_queue(tab: Tab, server: PageServer) -> None:
    page = tab.page
    page.on("dialog", lambda dialog: dialog.accept())  # a run of hours
    page.get_by_role("tab", name="Queue").click()
    page.get_by_label("Pause the queue").click()
    page.get_by_role("tab", name="Create").click()
    choose(page, "I2VGen-XL")
    task(page, "t2v")
    page.fill("#i2v-prompt textarea", "snow falls on the sea")
    page.click("#i2v-generate")
    expect(page.locator("#i2v-status")).to_contain_text("Waiting")
    page.get_by_role("tab", name="Queue").click()
    row = page.locator(".i2v-job").filter(has_text="snow falls on the sea")
    expect(row).to_be_visible()
    expect(row.locator("img")).to_have_count(0)
    picture_of(page, "tasks-queue")
