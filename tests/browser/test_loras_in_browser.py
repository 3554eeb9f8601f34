"""Chromium on the shelf of LoRAs: rows that say what the field says, weights, words, models that come back, and files
that are dropped or fetched, and used."""

from __future__ import annotations

import base64
import importlib.resources
import io
from collections.abc import Iterator

import pytest
import torch
from page_server import PageServer, page_server
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from safetensors.torch import save, save_file
from tab import Tab, picture_of

from i2v.jobs.job.folder import VIDEO
from i2v.jobs.list.rebuild import job_folders
from i2v.video.metadata import read_made_here
from tests.hub_server import Hub, serve_hub
from tests.lora_files import MUSUBI, named, pairs
from tests.wan_checkpoints import build_wan

AXE = "axe_playwright_python"
SMALL = {"width": "128", "height": "128", "frames": "5", "steps": "2"}
WIDTH = 144  # of the small transformer
OURS = named(pairs({f"blocks.{number}.self_attn.q": (WIDTH, WIDTH) for number in range(4)}, 4, 5), MUSUBI)
SNOW = named(pairs({"blocks.1.self_attn.k": (WIDTH, WIDTH)}, 2, 7), MUSUBI)
DROPPED = named(pairs({"blocks.0.self_attn.v": (WIDTH, WIDTH)}, 2, 8), MUSUBI)
THEIRS = named(pairs({"double_blocks.0.img_attn_qkv": (24, 8)}, 2, 0), MUSUBI)


LOOKS: list[dict[str, object]] = [
    {"locale": "zh-CN", "viewport": {"width": 375, "height": 768}, "color_scheme": "dark"},
    {"locale": "en-US"},
]
STICKING_OUT = """() => [...document.querySelectorAll("#i2v-loras *")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 120))"""


def _thumbnail() -> str:
    written = io.BytesIO()
    Image.new("RGB", (320, 200), "#c04020").save(written, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"


SAID = {
    "modelspec.thumbnail": _thumbnail(), "modelspec.license": "CC-BY-4.0", "ss_base_model_version": "wan2.1",
    "ss_tag_frequency": '{"10_paper": {"paper cut": 10, "waves": 9, "a tree": 1}}',
}  # fmt: skip


HUB_SAYS = {"modelspec.trigger_phrase": "morning mist", "modelspec.license": "apache-2.0"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """With a LoRA for each look, wide enough to take a moment."""
    folder = tmp_path_factory.mktemp("hub")
    for number, look in enumerate(LOOKS):
        (folder / str(look["locale"])).mkdir()
        layers = {f"blocks.{at}.self_attn.{name}": (WIDTH, WIDTH) for at in range(4) for name in "qkvo"}
        tensors = named(pairs(layers, 32, 20 + number), MUSUBI)
        save_file(tensors, folder / str(look["locale"]) / "pytorch_lora_weights.safetensors", HUB_SAYS)
    with serve_hub({f"maker/mist-{look['locale']}": folder / str(look["locale"]) for look in LOOKS}) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> Iterator[PageServer]:
    folder = tmp_path_factory.mktemp("shelf")
    loras = folder / "models" / "loras"
    build_wan(folder / "models" / "little")
    loras.mkdir()
    save_file(OURS, loras / "paper.safetensors", SAID)
    save_file(SNOW, loras / "snow.safetensors")
    save_file(THEIRS, loras / "portrait.safetensors")
    with page_server(folder, environ={"HF_ENDPOINT": hub.url, "I2V_MAX_UPLOAD_MB": "1"}) as running:
        yield running


def choose_model(page: Page, name: str) -> None:
    page.click("#i2v-model input")
    page.get_by_role("option").filter(has_text=name).first.click()


def row_of(page: Page, name: str) -> Locator:
    return page.locator(f'#i2v-lora-rows [data-lora="{name}"]')


def test_a_lora_is_ticked_weighed_and_used_and_the_field_says_the_same(tab: Tab, server: PageServer) -> None:
    page, field = tab.page, tab.page.locator("#i2v-lora")
    paper, snow, portrait = (row_of(page, name) for name in ("paper", "snow", "portrait"))
    page.click("#i2v-loras > button")
    expect(paper).to_contain_text("paper is for another model than Nano: it can be used with Wan 2.1")
    choose_model(page, "little")
    expect(paper).not_to_contain_text("another model")
    for said in ("rank 4", "trained on wan2.1", "licence: CC-BY-4.0"):
        expect(paper).to_contain_text(said)
    expect(paper.locator("img")).to_be_visible()
    expect(portrait.get_by_role("checkbox")).to_be_disabled()
    expect(portrait).to_contain_text("portrait is for another model")
    paper.get_by_role("checkbox").check()
    expect(field).to_contain_text("paper")
    paper.get_by_role("spinbutton").fill("-0.5")
    paper.get_by_role("spinbutton").press("Tab")
    expect(field).to_contain_text("paper:-0.5")
    snow.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    expect(field).to_contain_text("snow:1.05")
    expect(snow.get_by_role("checkbox")).to_be_checked()
    expect(snow.get_by_role("slider")).to_be_focused()
    paper.get_by_role("button", name="paper cut").click()
    expect(page.locator("#i2v-prompt textarea")).to_have_value("paper cut")
    picture_of(page, "loras-rows")
    expect(page.locator("#i2v-loras > button")).to_have_attribute("data-count", "(2)")
    # Typed in the field: the row follows.
    snow.get_by_role("checkbox").uncheck()
    expect(field).not_to_contain_text("snow")
    field.locator("input").fill("snow:0.3")
    field.locator("input").press("Enter")
    expect(snow.get_by_role("spinbutton")).to_have_value("0.3")
    expect(snow.get_by_role("checkbox")).to_be_checked()
    snow.get_by_role("checkbox").uncheck()
    expect(field).not_to_contain_text("snow")
    # Another model, and back.
    choose_model(page, "Nano")
    expect(field).not_to_contain_text("paper")
    choose_model(page, "little")
    expect(field).to_contain_text("paper:-0.5")
    tab.unfold()
    for name, value in SMALL.items():
        page.fill(f"#i2v-{name} input", value)
    page.click("#i2v-generate")
    expect(page.locator("#i2v-status")).to_contain_text("Done")
    (folder,) = job_folders(server.folder / "outputs")
    request = read_made_here(folder / VIDEO)[1]
    assert [(one.source, one.weight) for one in request.adapters] == [("paper", -0.5)]


DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
  const given = new DataTransfer();
  given.items.add(new File([bytes], name));
  for (const kind of ["dragover", "drop"])
    document.querySelector("#i2v-prompt").dispatchEvent(
      new DragEvent(kind, { dataTransfer: given, bubbles: true, cancelable: true }),
    );
}"""


def drop(page: Page, name: str, content: bytes) -> None:
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])


@pytest.mark.parametrize("look", LOOKS)
def test_loras_that_are_dropped_and_fetched_are_used(
    chromium: Browser, server: PageServer, hub: Hub, look: dict[str, object]
) -> None:
    """In both languages, dark on a telephone and light on a desk."""
    tab = Tab.new(chromium, **look)
    tab.open(server.url)
    page, chinese = tab.page, look["locale"] == "zh-CN"
    name, told = f"rain {look['locale']}", page.locator("#i2v-lora-told")
    choose_model(page, "little")
    drop(page, f"{name}.safetensors", save(DROPPED | {"x.hada_w1_a": torch.zeros(2)}))
    expect(told).to_contain_text("不使用此文件" if chinese else "the file is not used")
    expect(told).to_be_visible()
    drop(page, f"{name}.safetensors", save(DROPPED, {"a": name}))
    expect(told).to_contain_text(f"已加入：{name}" if chinese else f"On the shelf: {name}.")
    expect(row_of(page, name)).to_contain_text("秩 2" if chinese else "rank 2")
    row_of(page, name).get_by_role("checkbox").check()
    expect(page.locator("#i2v-lora")).to_contain_text(name)
    assert page.evaluate(STICKING_OUT) == []
    page.evaluate(importlib.resources.files(AXE).joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run('#i2v-loras')")["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in serious] == []
    picture_of(page, f"loras-dropped-{look['locale']}")
    page.fill("#i2v-lora-hub textarea, #i2v-lora-hub input", "nobody")
    page.click("#i2v-lora-fetch")
    expect(told).to_contain_text("owner/name" if not chinese else "所有者/名称")
    fetched = f"mist-{look['locale']}"
    stop = page.locator("#i2v-lora-stop")
    hub.file_piece_seconds = 1.0
    page.fill("#i2v-lora-hub textarea, #i2v-lora-hub input", f"maker/{fetched}")
    page.click("#i2v-lora-fetch")
    expect(told).to_contain_text("正在获取：" if chinese else "Fetching:")
    picture_of(page, f"loras-fetching-{look['locale']}")
    assert page.evaluate(STICKING_OUT) == []
    stop.click()
    expect(told).to_contain_text("已停止" if chinese else "Stopped.")
    expect(stop).to_be_hidden()
    expect(row_of(page, fetched)).to_have_count(0)
    hub.file_piece_seconds = 0.0
    page.click("#i2v-lora-fetch")
    expect(told).to_contain_text(f"已加入：{fetched}" if chinese else f"On the shelf: {fetched}.")
    expect(row_of(page, fetched)).to_contain_text("morning mist")
    row_of(page, fetched).get_by_role("checkbox").check()
    expect(page.locator("#i2v-lora")).to_contain_text(fetched)
    picture_of(page, f"loras-fetched-{look['locale']}")
    tab.unfold()
    for field, value in SMALL.items():
        page.fill(f"#i2v-{field} input", value)
    page.fill("#i2v-prompt textarea", "waves")
    before = set(job_folders(server.folder / "outputs"))
    page.click("#i2v-generate")
    expect(page.locator("#i2v-status")).to_contain_text("完成" if chinese else "Done")
    (folder,) = set(job_folders(server.folder / "outputs")) - before
    request = read_made_here(folder / VIDEO)[1]
    assert [(one.source, one.weight) for one in request.adapters] == [(name, 1.0), (fetched, 1.0)]
    tab.close()
    assert tab.errors == []


@pytest.mark.parametrize("look", LOOKS)
def test_one_of_many_is_found_by_a_word_and_deleted_by_the_keyboard(
    chromium: Browser, server: PageServer, look: dict[str, object]
) -> None:
    shelf = server.folder / "models" / "loras"
    leaves = [shelf / f"leaf {number:02} {look['locale']}.safetensors" for number in range(14)]
    for number, file in enumerate(leaves):
        save_file(SNOW, file, {"number": str(number)})
    tab = Tab.new(chromium, **look)
    tab.open(server.url)
    page, chinese = tab.page, look["locale"] == "zh-CN"
    gone, other = leaves[7].stem, leaves[8].stem
    choose_model(page, "little")
    page.click("#i2v-loras > button")
    row_of(page, gone).get_by_role("checkbox").check()
    row_of(page, other).get_by_role("checkbox").check()
    field, search = page.locator("#i2v-lora"), page.locator(".i2v-lora-filter")
    expect(field).to_contain_text(gone)
    search.fill("LEAF 07")
    expect(row_of(page, gone)).to_be_visible()
    expect(page.locator("#i2v-lora-rows [data-lora]:visible")).to_have_count(1)
    words = ("删除", "保留") if chinese else ("Delete", "Keep it")
    delete, keep = (row_of(page, gone).get_by_role("button", name=word).first for word in words)
    delete.focus()
    page.keyboard.press("Enter")
    expect(row_of(page, gone).get_by_role("alert")).to_contain_text("无法恢复" if chinese else "cannot be brought back")
    expect(keep).to_be_focused()
    expect(search).to_have_value("LEAF 07")
    assert page.evaluate(STICKING_OUT) == []
    picture_of(page, f"loras-asked-{look['locale']}")
    page.keyboard.press("Enter")
    expect(row_of(page, gone).get_by_role("alert")).to_have_count(0)
    expect(delete).to_be_focused()
    page.keyboard.press("Enter")
    expect(keep).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(row_of(page, gone)).to_have_count(0)
    expect(page.locator("#i2v-lora-told")).to_contain_text(f"已删除：{gone}" if chinese else f"Deleted: {gone}")
    expect(field).not_to_contain_text(gone)
    expect(field).to_contain_text(other)
    assert not leaves[7].exists()
    expect(search).to_be_focused()  # nothing else is left of what was sought
    search.fill("")
    expect(row_of(page, other)).to_be_visible()
    for file in leaves:
        file.unlink(missing_ok=True)
    tab.close()
    assert tab.errors == []


@pytest.mark.parametrize("look", LOOKS)
def test_what_comes_where_it_cannot_be_used_is_told_what_to_do(
    chromium: Browser, server: PageServer, look: dict[str, object]
) -> None:
    """A file that is larger than the page takes; one for another model; one where the model takes none at all."""
    tab = Tab.new(chromium, **look)
    tab.open(server.url)
    page, chinese, told = tab.page, look["locale"] == "zh-CN", tab.page.locator("#i2v-lora-told")
    drop(page, "huge.safetensors", bytes(1_300_000))
    expect(told).to_contain_text("huge.safetensors 有 2 MiB" if chinese else "huge.safetensors has 2 MiB")
    expect(told).to_contain_text(str(server.folder / "models" / "loras"))
    page.wait_for_timeout(1000)  # what the page does at its beginning takes none of it away
    expect(told).to_be_visible()
    picture_of(page, f"loras-huge-{look['locale']}")
    assert not [one for one in (server.folder / "models" / "loras").iterdir() if one.name.startswith("huge")]
    name = f"fog {look['locale']}"
    drop(page, f"{name}.safetensors", save(DROPPED, {"a": name}))
    expect(told).to_contain_text(
        f"已加入：{name}。Nano 不能使用它" if chinese else f"On the shelf: {name}. Nano does not"
    )
    choose_model(page, "Stable Video Diffusion")
    expect(page.locator("#i2v-loras")).to_be_hidden()
    drop(page, f"{name} 2.safetensors", save(DROPPED, {"a": f"{name} 2"}))
    expect(told).to_contain_text(f"{name} 2")
    expect(told).to_contain_text("适用于：" if chinese else "It is for:")
    expect(page.locator("#i2v-lora-hub")).to_be_hidden()
    picture_of(page, f"loras-none-taken-{look['locale']}")
    assert page.evaluate(STICKING_OUT) == []
    choose_model(page, "little")
    expect(told).to_be_hidden()
    expect(row_of(page, f"{name} 2")).to_be_visible()
    tab.close()
    assert tab.errors == []
