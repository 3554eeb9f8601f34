"""The System tab: the machine as it is now, the settings in force and who set them, models, disk, how good the
predictions were, and the self-test."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import psutil

from i2v.hardware.probe import MemoryProbe
from i2v.jobs.list.tidy import Budgets
from i2v.messages import UserError
from i2v.settings.settings import Settings
from i2v.ui.api import unexpected
from i2v.ui.gate.own import OwnJobs
from i2v.ui.shown.format import gib
from i2v.ui.shown.panels import note, problem
from i2v.ui.system.accuracy import accuracy
from i2v.ui.system.model_by_id import ModelById
from i2v.ui.system.model_panel import ModelPanel
from i2v.ui.system.panels import disk_table, machine, settings_table
from i2v.ui.system.self_test import Result, SelfTest
from i2v.ui.tabs import QUIET, while_selected
from i2v.ui.texts import known, text

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

TICK_SECONDS = 2.0
_SEARCH = Path(__file__).with_name("settings.js").read_text(encoding="utf-8")
# Browsers give pages without https no clipboard; selecting and copying works there too.
_COPY = """
() => {
  const area = document.querySelector("#i2v-report textarea");
  const byHand = () => { area.select(); document.execCommand("copy"); };
  if (navigator.clipboard) navigator.clipboard.writeText(area.value).catch(byHand);
  else byHand();
}
"""


@dataclass(frozen=True)
class SystemShown:
    """What a browser tab shows, so that a tick sends only what is new; `locale` of what a tick sends, `whole_locale` of
    everything: a tick may come in another language before everything does."""

    machine: str = ""
    test: Result = field(default_factory=Result)
    locale: str = ""
    whole_locale: str = ""


class SystemTab:
    """Components and callbacks of the tab, laid out where it is made."""

    def __init__(
        self,
        service: JobService,
        settings: Settings,
        probe: MemoryProbe,
        tabs: gr.Tabs,
        tab: gr.Tab,
        language: gr.Radio,
        i18n: gr.I18n,
        came: gr.Textbox,
    ) -> None:
        """`came` changes when a model has come or gone."""
        self.service = service
        self.settings = settings
        self.probe = probe
        self.test = SelfTest(settings, probe)
        self.shown = gr.State(SystemShown())
        self.timer = gr.Timer(TICK_SECONDS, active=False)
        # What can be done comes first, then what there is to read.
        with gr.Row(equal_height=False, elem_id="i2v-system-do"):
            with gr.Column(min_width=320):
                self.start_test = gr.Button(i18n("ui.system_test"), size="sm", elem_id="i2v-test")
                self.test_state = gr.HTML("", elem_id="i2v-test-state")
                self.report = gr.Textbox(
                    label=i18n("ui.system_report"), lines=8, max_lines=16, interactive=False, visible=False,
                    elem_id="i2v-report",
                )  # fmt: skip
                copy = gr.Button(i18n("ui.system_copy"), size="sm", elem_id="i2v-copy")
            with gr.Column(min_width=320):
                self.tidy = gr.Button(i18n("ui.system_tidy"), size="sm", elem_id="i2v-tidy")
                self.tidied = gr.HTML("", elem_id="i2v-tidied")
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                self.machine = gr.HTML("", elem_id="i2v-machine")
            with gr.Column(min_width=320):
                self.disk = gr.HTML("", elem_id="i2v-disk")
        self.models = ModelPanel(service, settings, tab, self.timer, language, came)
        self.by_id = ModelById(service, settings, self.models, language, i18n)
        self.accuracy = gr.HTML("", elem_id="i2v-predictions")
        self.table = gr.HTML("", js_on_load=_SEARCH, elem_id="i2v-settings")
        live = [self.shown, self.machine, self.start_test, self.test_state, self.report]
        whole = [*live, self.disk, self.accuracy, self.table]
        state = [self.shown, language]
        tab.select(self.open, state, whole, **QUIET)
        while_selected(tabs, tab, self.timer)
        self.timer.tick(self.look, state, live, **QUIET)
        self.start_test.click(self.run_test, state, live, **QUIET)
        self.tidy.click(self.tidy_now, language, [self.disk, self.tidied], **QUIET)
        # The other language for whoever has the tab before them; the others get it when they come.
        language.change(self.translated, state, whole, **QUIET)
        copy.click(None, None, None, js=_COPY, api_visibility="private")

    def open(self, shown: SystemShown, locale: str) -> list[Any]:
        """Everything, for who comes to the tab."""
        locale = known(locale)
        return [
            *self.look(replace(shown, whole_locale=locale), locale),
            self._disk(locale),
            accuracy(self.service.runs(), locale),
            settings_table(self.settings, self.probe.read(), locale),
        ]

    def translated(self, shown: SystemShown, locale: str) -> list[Any]:
        """Everything in another language, where the tab was opened in one."""
        if shown.whole_locale in ("", known(locale)):
            return [gr.skip()] * 8
        return self.open(shown, locale)

    def look(self, shown: SystemShown, locale: str) -> list[Any]:
        """What changes by itself: memory, and the self-test. What the browser has already is skipped."""
        locale, test = known(locale), self.test.result
        ours = our_processes()
        drawn = machine(self.probe.read(), ours, sum(ours.values()), locale)
        latest = SystemShown(drawn, test, locale, shown.whole_locale)
        same_test = (shown.test, shown.locale) == (test, locale)
        return [
            gr.skip() if latest == shown else latest,
            gr.skip() if latest.machine == shown.machine else latest.machine,
            gr.skip() if same_test else gr.update(interactive=test.state != "running"),
            gr.skip() if same_test else note(text(f"system_test_{test.state}", locale), calm=test.state != "broken"),
            gr.skip() if shown.test.text == test.text else gr.update(value=test.text, visible=bool(test.text)),
        ]

    def run_test(self, request: gr.Request | None, shown: SystemShown, locale: str) -> list[Any]:
        """Start the self-test, or join the one that runs."""
        with suppress(UserError):  # a guest sees no such button
            OwnJobs.of(self.service, request).no_guest("the self-test")
            self.test.start(known(locale))
        return self.look(shown, locale)

    def tidy_now(self, request: gr.Request | None, locale: str) -> list[Any]:
        """Remove what is beyond the budgets, and say how much that was."""
        locale = known(locale)
        try:
            OwnJobs.of(self.service, request).no_guest("tidying")
            freed = self.service.tidy()
        except UserError as error:
            told = problem(error.message, locale)
        except OSError as error:
            told = problem(unexpected(error, self.settings).message, locale)
        else:
            told = note(text("system_tidied", locale, gib=gib(freed, 2)), calm=True)
        return [self._disk(locale), told]

    def _disk(self, locale: str) -> str:
        try:
            return disk_table(self.service.held(), Budgets.of(self.settings), locale)
        except UserError as error:
            return problem(error.message, locale)
        except OSError as error:
            return problem(unexpected(error, self.settings).message, locale)


def our_processes() -> dict[int, int]:
    """Resident bytes by process id: this process and all that it started."""
    own = psutil.Process()
    found = {}
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):  # it ended meanwhile
            found[process.pid] = process.memory_info().rss
    return found
