"""The System tab without a browser: what it makes of machines, ledgers, models and disks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs_support import SCRIPTED, fake_model, settings_in, small_picture, values, wait_until
from machines import HOST, card, no_card, settings
from stubs import card as stub_card
from stubs import stub_environment

from i2v.cli.machine import probe_text
from i2v.hardware.probe import GIB, GpuProcess, MemoryProbe, Probe
from i2v.jobs.list.tidy import Budgets
from i2v.jobs.service import JobService
from i2v.messages import LOCALES, catalogue, message
from i2v.plan import Plan
from i2v.planning.ledger import Entry, Ledger, PhaseMeasured, Setup
from i2v.settings.keys import KEYS
from i2v.settings.settings import ROOT
from i2v.ui.system import accuracy
from i2v.ui.system import panels as system_panels
from i2v.ui.system.self_test import SelfTest
from i2v.ui.system.tab import SystemShown, SystemTab, our_processes
from i2v.ui.texts import build_i18n

MARKUP = '<img src=x onerror="alert(1)">'
WIDTHS = re.compile(r'<i class="(\w+)" style="width:([\d.]+)%"')


class FixedProbe(MemoryProbe):
    """A machine that does not change."""

    def __init__(self, reading: Probe) -> None:
        self.reading = reading

    def read(self) -> Probe:
        return self.reading


def busy_card(*processes: GpuProcess, used_gib: float = 9, total_gib: float = 12) -> Probe:
    used = int(used_gib * GIB)
    return card(total_gib - used_gib, total_gib, used_bytes=used, processes=processes)


# --- the machine ---


def test_a_card_is_drawn_as_what_we_hold_what_others_hold_and_what_is_free() -> None:
    probe = busy_card(GpuProcess(41, "python", 6 * GIB), GpuProcess(7, "firefox", 2 * GIB))
    html = system_panels.machine(probe, {41: 0}, 2 * GIB, "en")
    on_card, in_ram = html.split("Memory (RAM)")
    assert dict(WIDTHS.findall(on_card)) == {"ours": "50.00", "others": "25.00", "free": "25.00"}
    assert dict(WIDTHS.findall(in_ram)) == {"ours": "6.25", "others": "18.75", "free": "75.00"}
    assert 'aria-label="I2V 6.0 GiB, others 3.0 GiB, free 3.0 GiB"' in html
    assert "python (process 41, I2V): 6.0 GiB" in html
    assert "firefox (process 7): 2.0 GiB" in html


@given(
    used=st.integers(0, 30 * GIB),
    total=st.integers(0, 24 * GIB),
    held=st.lists(st.integers(0, 20 * GIB) | st.none(), max_size=4),
    ours=st.sets(st.integers(0, 3)),
)
def test_a_bar_is_whole_whatever_the_driver_says(used: int, total: int, held: list[int | None], ours: set[int]) -> None:
    processes = tuple(GpuProcess(pid, "p", size) for pid, size in enumerate(held))
    gpu = replace(busy_card(*processes).gpus[0], used_bytes=used, total_bytes=total)
    html = system_panels.machine(Probe((gpu,), gpu, HOST), ours, 0, "en").split("Memory (RAM)")[0]
    shares = [float(width) for _, width in WIDTHS.findall(html)]
    assert len(shares) == (3 if total else 0)
    assert all(share >= 0 for share in shares)
    assert sum(shares) == pytest.approx(100 if total else 0, abs=0.02)


def test_what_the_driver_does_not_say_is_a_dash_and_no_bar() -> None:
    html = system_panels.machine(card(None, None, processes=(GpuProcess(3, "x", None),)), (), 0, "en")
    assert "Test card · – of – GiB free" in html
    assert "x (process 3): – GiB" in html
    assert html.count("i2v-held") == 1  # the RAM's


@pytest.mark.parametrize("locale", LOCALES)
def test_names_of_programs_and_cards_are_text(locale: str) -> None:
    gpu = replace(busy_card(GpuProcess(3, MARKUP, GIB)).gpus[0], name=MARKUP)
    probe = Probe((gpu,), gpu, HOST, (message("hardware.nvml_failed", error=MARKUP),))
    html = system_panels.machine(probe, (), 0, locale)
    assert "<img" not in html
    assert unescape(html).count(MARKUP) == 3


def test_a_machine_without_a_card_and_one_with_many_programs() -> None:
    assert "the processor computes" in system_panels.machine(no_card(), (), 0, "en")
    many = busy_card(*(GpuProcess(pid, "p", 0) for pid in range(40)))
    html = system_panels.machine(many, (), 0, "en")
    assert html.count("<li>") == system_panels.PROCESSES_SHOWN + 1
    assert "and 28 more" in html


def test_cards_as_the_driver_s_library_tells_them() -> None:
    """The real probe in a process that sees a stand-in for the library: two cards, one program of its own."""
    script = (
        "import os; from pathlib import Path\n"
        "from i2v.hardware.probe import MemoryProbe; from i2v.ui.system import panels\n"
        "print(panels.machine(MemoryProbe(disk_path=Path('.')).read(), {os.getpid()}, 0, 'en'))"
    )
    environ = stub_environment(stub_card("First", used_gib=9), stub_card("Second", total_gib=24, used_gib=6))
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    first, second = run.stdout.split("Memory (RAM)")[0].split('<section class="i2v-device">')[1:3]
    assert "Card 0: First · 3.0 of 12.0 GiB free" in first
    assert "Card 1 (in use): Second · 18.0 of 24.0 GiB free" in second
    assert dict(WIDTHS.findall(second)) == {"ours": "0.00", "others": "25.00", "free": "75.00"}


def test_our_processes_are_this_one_and_what_it_started() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        ours = our_processes()
        assert {os.getpid(), child.pid} <= ours.keys()
        assert ours[os.getpid()] > 2**20
        assert os.getppid() not in ours
        child.communicate(b"\n")


# --- settings, models, disk ---


@pytest.mark.parametrize("locale", LOCALES)
def test_every_setting_stands_there_with_its_source_as_probe_prints_it(locale: str) -> None:
    probe = card(5.5)
    chosen = settings(probe, environ={"CHUNK_SIZE": "3"}, password=MARKUP, hf_endpoint=f"https://{MARKUP}")
    html = system_panels.settings_table(chosen, probe, locale)
    rows = [
        tuple(unescape(cell) for cell in row)
        for row in re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td></tr>', html)
    ]
    assert [row[0] for row in rows] == list(KEYS)
    printed = [re.split(r"\s{2,}", line) for line in probe_text(chosen, probe, locale).splitlines()[-len(KEYS) :]]
    assert [list(row) for row in rows] == printed
    said = {key: (value, source) for key, value, source in rows}
    assert said["password"][0] == "********"
    assert said["chunk_frames"][0] == "3"
    assert "CHUNK_SIZE" in said["chunk_frames"][1]
    assert "<img" not in html
    assert re.match(r'(<p .*?</p>)*<details [^>]*data-fold="settings"><summary>', html)
    assert '<input type="search"' in html


# --- predicted against measured ---

CARD_PLAN = Plan(device="cuda").to_json()


def run_of(seconds: tuple[float, float], gib: tuple[float, float] = (2, 2), **more: Any) -> Entry:
    phase = PhaseMeasured("denoise", int(gib[0] * GIB), int(gib[1] * GIB), *seconds)
    return replace(Entry(Setup("nano", "float16", "RTX 3060", "2.13"), CARD_PLAN, (phase,)), **more)


def test_a_point_lies_on_the_line_exactly_where_measured_is_as_predicted() -> None:
    html = accuracy.accuracy([run_of((10, 10)), run_of((10, 20)), run_of((10, 5)), run_of((1, 1))], "en")
    chart = html.split("</figure>")[0]
    line = re.search(r'class="same" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', chart)
    x1, y1, x2, y2 = map(float, line.groups())
    points = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', chart)]
    above = [y1 + (y2 - y1) * (x - x1) / (x2 - x1) - y for x, y in points]  # SVG counts from the top
    assert above[0] == pytest.approx(0, abs=0.3)
    assert above[3] == pytest.approx(0, abs=0.3)
    assert above[1] > 10
    assert above[2] == pytest.approx(-above[1], abs=0.3)  # twice and half are equally far, on axes by powers
    assert "measured 1.00 × predicted (4)" in chart
    assert "nano · Denoising: 10 s predicted, 20 s measured" in html


def test_a_phase_of_a_tenth_of_a_second_is_no_point() -> None:
    points = accuracy.time_points([run_of((0.03, 0.3)), run_of((0.3, 1.5)), run_of((1.5, 0.3)), run_of((9, 10))])
    assert [point.measured for point in points] == [1.5, 0.3, 10]
    on_processor = run_of((9, 10), plan=Plan(device="cpu").to_json())
    assert re.findall('class="i2v-key ([^"]*)"', accuracy.accuracy([on_processor], "en")) == ["denoise"]


def test_without_a_card_no_memory_is_drawn_that_was_not_measured() -> None:
    on_processor = run_of((10, 10), plan=Plan(device="cpu").to_json())
    assert accuracy.memory_points([on_processor]) == []
    assert [point.measured for point in accuracy.memory_points([run_of((1, 1), (2, 3))])] == [3]
    assert "Only runs on a card are measured" in accuracy.accuracy([on_processor], "en")


def test_a_run_that_was_healed_says_with_what_it_went_on() -> None:
    healed = run_of((1, 1), phases=(), healed=("guidance in two passes", MARKUP))
    html = accuracy.accuracy([run_of((10, 11)), healed], "en")
    newest, oldest = re.findall(r"<li>.*?</li>", html)
    assert "went on with: guidance in two passes" in newest
    assert "10 s predicted, 11 s measured" in oldest
    assert "<img" not in html


FIGURES = st.one_of(st.floats(allow_nan=True), st.integers(), st.text(max_size=3), st.none())


@given(st.lists(st.tuples(FIGURES, FIGURES, st.sampled_from(("denoise", "decode", MARKUP))), max_size=8))
def test_a_ledger_that_somebody_edited_is_drawn_as_far_as_it_goes(figures: list[tuple[Any, Any, str]]) -> None:
    entries = [Entry(Setup(MARKUP, "", "", ""), {}, (PhaseMeasured(name, a, b, a, b),)) for a, b, name in figures]  # type: ignore[arg-type]
    for locale in LOCALES:
        html = accuracy.accuracy(entries, locale)
        assert "<img" not in html
        assert "nan" not in html.lower().replace("nano", "")
        for x, y in re.findall(r'cx="(-?[\d.]+)" cy="(-?[\d.]+)"', html):
            assert 0 <= float(x) <= accuracy.WIDTH
            assert 0 <= float(y) <= accuracy.HEIGHT


@given(low=st.floats(1e-6, 1e6), factor=st.floats(1.7, 1e9))
def test_an_axis_has_marks_but_not_too_many(low: float, factor: float) -> None:
    marks = accuracy.ticks(low, low * factor)
    assert marks == sorted(marks)
    assert all(low <= mark <= low * factor for mark in marks)
    assert len(marks) <= 11
    if factor >= 10:
        assert marks


# --- the tab ---


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    fake_model(tmp_path)
    with JobService(*settings_in(tmp_path), worker_command=SCRIPTED) as running:
        yield running


def tab_of(service: JobService, folder: Path, reading: Probe | None = None) -> SystemTab:
    chosen, probe = settings_in(folder)
    with gr.Blocks(), gr.Tabs() as tabs, gr.Tab() as tab:
        language = gr.Radio(["en", "zh-CN"])
        reader = FixedProbe(reading) if reading else probe
        return SystemTab(service, chosen, reader, tabs, tab, language, build_i18n(), gr.Textbox())


def is_skip(update: Any) -> bool:
    return isinstance(update, dict) and update == {"__type__": "update"}


def test_a_tick_sends_only_what_is_new(service: JobService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("i2v.ui.system.tab.our_processes", lambda: {1: GIB})
    tab = tab_of(service, tmp_path, busy_card())
    shown, drawn = tab.open(SystemShown(), "en")[:2]
    assert "Test card" in drawn
    assert all(is_skip(update) for update in tab.look(shown, "en"))
    tab.probe.reading = busy_card(used_gib=2)
    latest, drawn, *test = tab.look(shown, "en")
    assert "10.0 of 12.0 GiB free" in drawn
    assert all(is_skip(update) for update in test)
    assert not any(is_skip(update) for update in tab.translated(latest, "zh-CN")[1:4])
    assert all(is_skip(update) for update in tab.translated(SystemShown(), "zh-CN"))  # never opened
    assert all(is_skip(update) for update in tab.translated(latest, "en"))
    # A tick in the new language that comes first does not pass for everything in it.
    ticked = tab.look(latest, "zh-CN")[0]
    assert not any(is_skip(update) for update in tab.translated(ticked, "zh-CN")[5:])


def test_tidying_frees_the_bin_and_says_how_much(tmp_path: Path) -> None:
    fake_model(tmp_path)
    chosen, probe = settings_in(tmp_path, bin_days=0)
    with JobService(chosen, probe, worker_command=SCRIPTED) as service:
        job_id = service.submit(values(), small_picture(tmp_path))
        wait_until(lambda: service.status(job_id).state == "done")
        (service.status(job_id).folder / "ballast").write_bytes(b"x" * 2**20)
        service.delete(job_id)
        tab = tab_of(service, tmp_path)
        assert service.held()["bin"] > 2**20
        before = system_panels.disk_table(service.held(), Budgets.of(chosen), "en")
        assert "<td>0.00</td><td>20.0</td>" in before  # a thousandth of a GiB, and what may be
        disk, told = tab.tidy_now(None, "en")
        assert "0.00 GiB were freed" in told
        assert service.held()["bin"] == 0
        assert "bin" in disk


def test_what_the_ledger_holds_reaches_the_tab(tmp_path: Path) -> None:
    from i2v.jobs.asked.plans import Plans

    chosen, probe = settings_in(tmp_path)
    Ledger(chosen.logs_dir / "planner" / "ledger.jsonl").add(run_of((3, 4)))
    with JobService(chosen, probe, worker_command=SCRIPTED, plans=Plans.of(chosen)) as service:
        drawn = tab_of(service, tmp_path).open(SystemShown(), "en")[6]
    assert "3 s predicted, 4 s measured" in drawn
    assert json.loads((chosen.logs_dir / "planner" / "ledger.jsonl").read_text())["phases"]


def test_the_self_test_runs_beside_the_page_once_and_tells_its_report(service: JobService, tmp_path: Path) -> None:
    chosen, probe = settings_in(tmp_path)
    gate, runs = threading.Event(), []

    def run(settings: Any, _probe: Probe) -> tuple[str, bool]:
        runs.append(settings.language)
        gate.wait(20)
        return "all lines", False

    tab = tab_of(service, tmp_path)
    tab.test = SelfTest(chosen, probe, run)
    shown, _, button, state, _ = tab.run_test(None, SystemShown(), "zh-CN")
    assert button["interactive"] is False
    assert message("ui.system_test_running").render("zh-CN") in state
    tab.run_test(None, shown, "zh-CN")
    gate.set()
    wait_until(lambda: tab.test.result.state == "broken")
    _, _, button, state, text = tab.look(shown, "zh-CN")
    assert runs == ["zh-CN"]
    assert button["interactive"] is True
    assert "失败" in state
    assert (text["value"], text["visible"]) == ("all lines", True)


def test_a_self_test_that_breaks_says_so(tmp_path: Path) -> None:
    def run(_settings: Any, _probe: Probe) -> tuple[str, bool]:
        raise RuntimeError("no")

    test = SelfTest(*settings_in(tmp_path), run)
    test.start("en")
    wait_until(lambda: test.result.state != "running")
    assert (test.result.state, test.result.text) == ("broken", "RuntimeError: no")


def test_every_text_of_the_tab_is_there() -> None:
    """Ids that are put together where they are used: a missing one would show itself as its bare id."""
    known = catalogue("en")
    names = ("never", "running", "well", "broken")
    assert all(f"ui.system_test_{name}" in known for name in names)
    chosen, probe = settings(card(5.5)), busy_card(GpuProcess(1, "p", GIB))
    sizes = {"bin": 0, "latents": 0, "cache": 0, "temporary": 0}
    for locale in LOCALES:
        html = (
            system_panels.machine(probe, {1}, 0, locale)
            + system_panels.settings_table(chosen, probe, locale)
            + system_panels.disk_table(sizes, Budgets.of(chosen), locale)  # type: ignore[arg-type]
            + accuracy.accuracy([run_of((1, 2)), run_of((1, 1), phases=(), healed=("x",))], locale)
            + accuracy.accuracy([], locale)
        )
        assert "ui." not in html
