"""How the page looks to whoever comes: every tab, narrow to wide, light and dark, in both languages.

Nothing sticks out, nothing stands before what belongs to the form, and axe-core finds no serious fault. What the tests
see is kept in their temporary folder, or in the one that LOOK names.
"""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_server import PageServer, page_server
from playwright.sync_api import Browser, Page, expect
from tab import Tab
from tabs_support import finish, resting_service, submit

AXE = "axe_playwright_python"
TABS = {
    "en-US": ("Create", "Queue", "Gallery", "Train", "System"),
    "zh-CN": ("创作", "队列", "作品", "训练", "系统"),
}
FITS = {"en-US": "Fits", "zh-CN": "内存足够"}
# Widths, and those of them at which axe-core looks.
LOOKS = [
    ((375, 768), (375,), "dark", "zh-CN"),
    ((375, 768), (768,), "light", "en-US"),
    ((500, 1280, 1440, 1920), (), "dark", "en-US"),
]
STICKING_OUT = """() => [...document.querySelectorAll("body *")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 120))"""
# Fields whose words have more width than they show.
CUT = """() => [...document.querySelectorAll("#i2v-tabs .secondary-wrap input")]
  .filter((one) => one.checkVisibility() && one.scrollWidth > one.clientWidth + 1).map((one) => one.value)"""
# Whether the verdict can be seen, and is under nothing, while a person is at the end of a long form.
VERDICT_SEEN = """() => {
  scrollTo(0, document.body.scrollHeight);
  const box = document.querySelector(".i2v-verdict").getBoundingClientRect();
  const there = document.elementFromPoint(box.x + 20, box.y + box.height / 2);
  scrollTo(0, 0);
  return Boolean(there?.closest(".i2v-verdict"));
}"""
# Names of what cannot be reached by a pointer although it has been scrolled to.
COVERED = """() => {
  const panel = document.getElementById("i2v-picture").closest('[role="tabpanel"]');
  const seen = panel.querySelectorAll('[data-testid="block-info"], label, input, textarea, button, summary');
  const covered = [];
  for (const one of seen) {
    if (!one.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    one.scrollIntoView({ block: "nearest", behavior: "instant" });
    const box = one.getBoundingClientRect();
    if (!box.width || !box.height) continue;
    const there = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    const same = there && (one.contains(there) || there.contains(one));
    const block = one.closest(".block");
    if (!same && !(block && block.contains(there))) covered.push(one.id || one.innerText || one.ariaLabel);
  }
  scrollTo(0, 0);
  return covered;
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """The app with some videos, and a job that was cancelled."""
    folder = tmp_path_factory.mktemp("looks")
    with resting_service(folder) as service:
        for number in range(4):
            finish(service, folder, f"waves roll in under a low sun, take {number}", seed=number)
        service.cancel(submit(service, folder, "the lamp flickers"))
    with page_server(folder, "--simulate", "6") as running:
        yield running


@pytest.fixture
def looked(request: pytest.FixtureRequest, chromium: Browser, server: PageServer) -> Iterator[Tab]:
    """The page in one of LOOKS at its first width, its form filled as far as it can be seen."""
    widths, _, scheme, locale = request.param
    tab = Tab.new(chromium, viewport={"width": widths[0], "height": 800}, locale=locale, color_scheme=scheme)
    page = tab.page
    tab.open(server.url)
    expect(page.locator("#i2v-plan strong")).to_have_text(FITS[locale])  # from the first, in the reader's language
    page.click("#i2v-example-brook")
    page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth > 0")
    page.click("#i2v-aspect input")
    page.get_by_role("option", name="9:16").click()
    expect(page.locator("#i2v-cut-frame i")).to_be_visible()
    page.click("#i2v-brush-toggle")
    expect(page.locator("#i2v-brush-clear")).to_be_visible()
    tab.unfold()
    yield tab
    tab.close()
    assert tab.errors == []


def turn_to(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    for shown, marker in {
        "Queue 队列": ".i2v-job",
        "Gallery 作品": ".i2v-video-card",
        "System 系统": ".i2v-device",
    }.items():
        if name in shown.split():
            expect(page.locator(marker).first).to_be_visible()
    if name in ("System", "系统"):
        expect(page.locator("#i2v-settings summary")).to_be_visible()


# The browser's notices, counted and not shown.
NOTICES = """window.asked = 0; window.told = [];
window.Notification = class {
  static permission = "default";
  static async requestPermission() { window.asked += 1; return (this.permission = "granted"); }
  constructor(_, options) { window.told.push(options.body); }
};"""
# A run of so many seconds that ends while nobody looks.
RUN = """([seconds]) => {
  Object.defineProperty(document, "hidden", { value: true, configurable: true });
  const bar = `<div class="i2v-bar" aria-valuenow="5"></div>`;
  const inner = (state) => `<div class="i2v-line">${state} ${seconds}</div>${bar}`;
  const status = (state) => `<div class="i2v-status ${state}">${inner(state)}</div>`;
  const place = document.createElement("div");
  document.body.prepend(place);
  const shown = () => new Promise((done) => setTimeout(done, 50));
  place.innerHTML = status("running");
  return shown()
    .then(() => { window.i2vWorkingSince = Date.now() - seconds * 1000; place.innerHTML = status("done"); })
    .then(shown).then(() => place.remove());
}"""
# What has the keyboard, and whether that is seen on it or on its label.
FOCUSED = """() => {
  const one = document.activeElement;
  const seen = [one, one.closest("label")].some((part) => {
    const style = part && getComputedStyle(part);
    return style && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  });
  return [one.closest("#i2v-language") ? "language" : one.id || one.closest("[id]")?.id || one.tagName, seen];
}"""


def test_the_keyboard_comes_to_every_control_and_is_seen_there(chromium: Browser, server: PageServer) -> None:
    tab = Tab.new(chromium)
    page = tab.page
    page.add_init_script(NOTICES)
    tab.open(server.url)
    came = []
    for _ in range(60):
        page.keyboard.press("Tab")
        came.append(tuple(page.evaluate(FOCUSED)))
        if came[-1][0] == "i2v-notify":
            break
    assert [name for name, seen in came if not seen] == []
    names = {name for name, _ in came}
    assert {"language", "i2v-prompt", "i2v-chip-zoom_in", "i2v-generate", "i2v-notify"} <= names
    # A notice is a person's wish, and of a long run only.
    assert page.evaluate("asked") == 0
    page.keyboard.press("Space")
    page.wait_for_function("asked === 1 && window.i2vNotifies()")
    page.evaluate(RUN, [5])
    page.evaluate(RUN, [300])
    assert page.evaluate("told") == ["done 300"]
    page.locator("#i2v-language input").last.press("Space")
    expect(page.get_by_role("tab").first).to_have_text("创作")
    assert tab.errors == []
    tab.close()


@pytest.mark.parametrize("looked", LOOKS, indirect=True, ids=lambda look: f"{look[2]}-{look[3]}-{look[0][0]}")
def test_every_tab_has_its_room(looked: Tab, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    page = looked.page
    widths, examined, scheme, locale = request.node.callspec.params["looked"]
    kept, found = Path(os.environ.get("LOOK") or tmp_path), []
    page.evaluate((importlib.resources.files(AXE) / "axe.min.js").read_text(encoding="utf-8"))
    for width in widths:
        page.set_viewport_size({"width": width, "height": 800})
        for number, name in enumerate(TABS[locale]):
            turn_to(page, name)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, page.evaluate(STICKING_OUT)
            page.screenshot(path=kept / f"{width}-{scheme}-{locale}-{number}.png", full_page=True)
            if number == 0:
                nothing_runs_into_the_language_switch(page, width)
                expect(page.locator("#i2v-generate")).to_be_in_viewport()
                assert page.evaluate(COVERED) == []
                assert width < 1440 or page.evaluate(CUT) == []
                assert width < 720 or page.evaluate(VERDICT_SEEN)
                assert "Settings" not in page.locator("footer").inner_text()
                page.screenshot(path=kept / f"{width}-{scheme}-{locale}-window.png")
                if width == 375:
                    a_finger_finds_the_buttons(page)
            if name == "作品":
                a_video_is_opened(page)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, page.evaluate(STICKING_OUT)
                page.screenshot(path=kept / f"{width}-{scheme}-{locale}-opened.png", full_page=True)
            if width in examined:
                found += [(width, name, *fault) for fault in serious_faults(page)]
    assert found == []
    if locale == "zh-CN":  # and back, while System is shown
        page.get_by_text("EN", exact=True).click()
        expect(page.locator("#i2v-machine")).to_contain_text("Memory (RAM)")
        expect(page.locator("#i2v-settings")).to_contain_text("All settings")


def nothing_runs_into_the_language_switch(page: Page, width: int) -> None:
    """Every line of the header ends to its left, or begins below it."""
    header, language = (page.locator(f"#i2v-{name}").bounding_box() for name in ("header", "language"))
    assert header["height"] < 250
    assert language["x"] + language["width"] <= width
    for line in (".i2v-header h1", ".i2v-subtitle", ".i2v-card"):
        box = page.locator(line).bounding_box()
        assert box["x"] + box["width"] <= language["x"] or box["y"] >= language["y"] + language["height"] - 1, line


def a_finger_finds_the_buttons(page: Page) -> None:
    """On a telephone: the small ones are large enough and within the page, and the verdict stands with Generate,
    whatever the form is scrolled to."""
    for chip in page.locator(".i2v-small-buttons button").all():
        box = chip.bounding_box()
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 375
        assert box["height"] >= 44
    brief, button = (page.locator(one).bounding_box() for one in (".i2v-brief", "#i2v-generate"))
    assert 700 < brief["y"] < brief["y"] + brief["height"] <= button["y"] < 800


def a_video_is_opened(page: Page) -> None:
    """With its facts, in Chinese."""
    expect(page.locator(".i2v-gallery-count")).to_contain_text("个")
    page.locator(".i2v-video-card").first.click()
    page.get_by_text("时间、内存与日志").click()
    expect(page.locator("#i2v-gallery-run")).to_be_visible()


def serious_faults(page: Page) -> Iterator[tuple[object, ...]]:
    """What keeps people from using the page, as axe-core finds it."""
    result = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    for fault in result["violations"]:
        places = [f"{node['target']} {node['html'][:150]} {node['failureSummary']}" for node in fault["nodes"]]
        if fault["impact"] in ("serious", "critical"):
            yield fault["id"], fault["help"], places
