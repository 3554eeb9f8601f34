"""Chromium on what helps to fill the form: examples, chips, keys, the last seed; and on the scout."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from page_server import PageServer, page_server
from PIL import Image
from playwright.sync_api import Page, expect
from tab import Tab, picture_of


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with page_server(tmp_path_factory.mktemp("create")) as running:
        yield running


def fill(page: Page, **numbers: int) -> None:
    Tab(page).unfold()
    for name, value in numbers.items():
        page.fill(f"#i2v-{name} input", str(value))


def test_a_picture_of_any_kind_and_name_is_shown_and_the_form_outlives_a_reload(tab: Tab, server: PageServer) -> None:
    """A TIFF, which browsers do not show, by a name that Gradio does not take. Nothing is sent."""
    page, written = tab.page, io.BytesIO()
    Image.linear_gradient("L").resize((200, 150)).convert("RGB").save(written, "TIFF")
    sent = {"name": "..tif", "mimeType": "image/tiff", "buffer": written.getvalue()}
    page.set_input_files("#i2v-picture input[type=file]", sent)
    page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth === 200")
    assert page.locator("#i2v-picture img").get_attribute("src").endswith("/picture.tif.png")
    expect(page.locator("#i2v-width input")).to_have_value("584")
    page.fill("#i2v-prompt textarea", "the tide comes in")
    page.click("#i2v-aspect input")
    page.get_by_role("option", name="16:9").click()
    fill(page, steps=13, width=680)
    for model, steps in (("I2VGen-XL", "50"), ("Nano", "13")):
        page.click("#i2v-model input")
        page.get_by_role("option").filter(has_text=model).first.click()
        expect(page.locator("#i2v-steps input")).to_have_value(steps)
        expect(page.locator("#i2v-width input")).to_have_value("680")
    tab.open(server.url)
    expect(page.locator("#i2v-prompt textarea")).to_have_value("the tide comes in")
    expect(page.locator("#i2v-steps input")).to_have_value("13")
    expect(page.locator("#i2v-aspect input")).to_have_value("16:9")
    page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth === 200")


def test_from_an_example_and_a_chip_by_keys_to_a_run_and_its_seed(tab: Tab, server: PageServer) -> None:
    page, prompt, line = tab.page, tab.page.locator("#i2v-prompt textarea"), tab.page.locator(".i2v-line")
    fill(page, width=512, height=256)
    page.click("#i2v-example-mountains")
    page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth === 768")
    expect(prompt).to_have_value("clouds drift across the sky")
    expect(page.locator("#i2v-height input")).to_have_value("512")  # the picture is square
    expect(page.locator("#i2v-aspect input")).to_have_value("Original")
    expect(page.locator("#i2v-length")).to_contain_text("96 frames at 24 per second play for 4.0 s.")
    page.click("#i2v-aspect input")
    page.get_by_role("option", name="16:9").click()
    expect(page.locator("#i2v-width input")).to_have_value("680")
    page.fill("#i2v-height input", "128")
    page.fill("#i2v-fps input", "8")
    expect(page.locator("#i2v-aspect input")).to_have_value("Custom")
    expect(page.locator("#i2v-length")).to_contain_text("play for 12.0 s.")
    page.click("#i2v-seconds input")
    lengths = ["0.5", "1", "1.5", "2", "3", "4", "5", "6", "8", "10", "12", "15", "20", "30", "60"]
    offered = [f"{length} s" for length in lengths]
    expect(page.get_by_role("option")).to_have_text([re.compile(rf"^\W*{re.escape(one)}$") for one in offered])
    page.get_by_role("option", name="1.5 s").click()
    expect(page.locator("#i2v-frames input")).to_have_value("12")
    expect(page.locator("#i2v-length")).to_contain_text("12 frames at 8 per second play for 1.5 s.")
    page.fill("#i2v-frames input", "10")
    expect(page.locator("#i2v-seconds input")).to_have_value("1.25 s")
    page.click("#i2v-quality input")  # from somebody's own numbers back to one of the offered
    page.get_by_role("option", name="Draft").click()
    expect(page.locator("#i2v-width input")).to_have_value("256")
    expect(page.locator("#i2v-aspect input")).to_have_value("Original")
    page.click("#i2v-chip-night")
    expect(prompt).to_have_value("clouds drift across the sky, night falls")
    expect(page.locator("#i2v-reuse")).to_have_count(0)
    picture_of(page, "create-1280")
    fill(page, width=64, height=64, frames=4, steps=400)
    prompt.press("Control+Enter")
    expect(line).to_contain_text(re.compile(r"step [1-9]\d* of 400"))
    # In a list of choices Esc closes that.
    page.locator("#i2v-model input").click()
    page.keyboard.press("Escape")
    page.wait_for_timeout(1000)
    assert re.fullmatch(r"[^·]*· step \d+ of 400 ·.*", line.inner_text())
    expect(page.locator("#i2v-cancel")).to_be_enabled()
    # A run of more than ten seconds is asked after.
    page.locator("#i2v-cancel").focus()
    expect(page.locator("#i2v-cancel")).to_have_attribute("title", "Esc")
    asked: list[str] = []
    page.evaluate("window.i2vWorkingSince = 1")
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    prompt.press("Escape")
    assert asked == ["Cancel this run? Its finished steps are kept."]
    expect(page.locator("#i2v-cancel")).to_be_enabled()
    page.evaluate("window.i2vWorkingSince = Date.now()")
    prompt.press("Escape")
    expect(line).to_have_text("Cancelled")
    expect(page.locator("#i2v-reuse")).to_have_text(re.compile(r"Use seed \d+ again"))
    tab.open(server.url)
    page.click("#i2v-reuse")
    seed = page.locator("#i2v-seed input, #i2v-seed textarea")
    expect(seed).to_have_value(re.search(r"\d+", page.locator("#i2v-reuse").inner_text())[0])
    page.get_by_text("中文", exact=True).click()
    expect(page.locator("#i2v-reuse")).to_contain_text("再次使用种子")
    expect(page.locator("#i2v-chip-night")).to_have_text("夜晚")
    page.click("#i2v-example-brook")
    expect(prompt).to_have_value("水在流动")
    page.click("#i2v-chip-night")
    expect(prompt).to_have_value("水在流动，夜幕降临")


def test_the_part_of_the_photograph_that_is_used_is_seen_and_chosen(tab: Tab, server: PageServer) -> None:
    """And numbers are followed that nobody has looked at: Advanced stays folded."""
    page, frame = tab.page, tab.page.locator("#i2v-cut-frame i")
    page.click("#i2v-example-brook")
    expect(page.locator("#i2v-length")).to_contain_text("512 × 512 pixels")
    expect(page.locator("#i2v-cut")).to_be_hidden()
    page.click("#i2v-aspect input")
    page.get_by_role("option", name="9:16").click()
    expect(page.locator("#i2v-length")).to_contain_text("384 × 680 pixels")
    expect(frame).to_have_attribute("style", re.compile("left:21.76%"))
    expect(page.locator("#i2v-width")).to_be_hidden()
    page.get_by_label("Right", exact=True).check()
    expect(frame).to_have_attribute("style", re.compile("left:43.53%"))
    page.get_by_label("Whole photo, padded").check()
    expect(frame).to_have_count(0)
    expect(page.locator("#i2v-cut-frame img")).to_be_visible()
    page.click("#i2v-aspect input")
    page.get_by_role("option", name="16:9").click()
    page.get_by_label("Top", exact=True).check()
    expect(frame).to_have_attribute("style", re.compile("top:0.00%"))
    fill(page, steps=1, frames=8)
    expect(page.locator("#i2v-hints")).to_contain_text("10 to 50")
    page.click("#i2v-generate")
    expect(page.locator("#i2v-stage video")).to_be_visible()
    tab.open(server.url)
    expect(page.get_by_label("Top", exact=True)).to_be_checked()


def test_scouts_come_side_by_side_survive_a_reload_and_one_goes_on(tab: Tab, server: PageServer) -> None:
    page, board, line = tab.page, tab.page.locator("#i2v-scout-board"), tab.page.locator(".i2v-line")
    fill(page, width=512, height=256)
    page.click("#i2v-example-dandelion")
    expect(page.locator("#i2v-prompt textarea")).to_have_value("the dandelion sways in the wind")
    page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth === 768")
    expect(page.locator("#i2v-height input")).to_have_value("512")
    fill(page, width=64, height=64, frames=4, steps=7)
    expect(page.locator("#i2v-scout-count input[type=number]")).to_be_attached()  # else what is typed now is taken back
    page.click("#i2v-scout > button")
    page.fill("#i2v-scout-count input[type=number]", "2")
    page.locator("#i2v-scout-count input[type=number]").blur()
    page.click("#i2v-scout-send")
    expect(board.locator("li")).to_have_count(2)
    expect(page.locator("#i2v-scout-send")).to_be_disabled()
    expect(board.locator("li", has_text="step 3 of 7")).to_have_count(2)
    expect(board.locator("button:enabled")).to_have_count(2)
    page.wait_for_function("[...document.querySelectorAll('.i2v-scout img')].filter(i => i.naturalWidth).length === 2")
    expect(page.locator("#i2v-generate")).to_be_enabled()
    board.scroll_into_view_if_needed()
    picture_of(page, "scout-1280")
    tab.open(server.url)
    expect(board.locator("button:enabled")).to_have_count(2)
    expect(line).to_have_text("The scouts are done: choose one below")
    expect(page.locator("#i2v-prompt textarea")).to_have_value("the dandelion sways in the wind")
    expect(page.locator("#i2v-steps input")).to_have_value("7")
    page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth === 768")
    seed = re.search(r"\d+", board.locator("li strong").nth(1).inner_text())[0]
    page.set_viewport_size({"width": 375, "height": 800})
    picture_of(page, "scout-375")
    board.locator("button").nth(1).click()
    expect(page.locator("#i2v-stage video")).to_be_visible()
    expect(page.locator(".i2v-below")).to_contain_text(f"seed {seed}")
    expect(page.locator("#i2v-log")).to_contain_text("which was kept")
    page.click("#i2v-scout-drop")
    expect(board.locator("li")).to_have_count(1)
    expect(board.locator("button")).to_have_text("Show")
    expect(page.locator("#i2v-scout-send")).to_be_enabled()
