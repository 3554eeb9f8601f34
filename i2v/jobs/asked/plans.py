"""Plans for jobs: at once from what is known, exactly from the planning child. Nothing in here imports torch."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from i2v.events import Event, Noted
from i2v.families import SPECS
from i2v.families.scheduler_choices import SCHEDULERS
from i2v.families.spec import FamilySpec
from i2v.hardware.disk import measured_read_rate
from i2v.hardware.probe import Gpu, GpuProcess, Probe
from i2v.jobs.asked.account import measured_phases
from i2v.jobs.asked.prepare import Resolved, build_plan, fixed_by_person
from i2v.jobs.process.dry_child import ANYBODY, Asker, DryChild, Pages
from i2v.jobs.process.start import Start, start_cold, worker_environment
from i2v.messages import Message, UserError, message
from i2v.models.adapters import adapter_numbers
from i2v.models.entry import ModelEntry
from i2v.models.gguf_files import gguf_of
from i2v.models.lora_places import lora_folders
from i2v.models.mapped import mapped_components
from i2v.models.network_calls import calls_of_folder, network_calls
from i2v.models.parts_digest import add_parts
from i2v.models.verify import index_of
from i2v.models.weight_files import Reading, heaviest, readings, weight_files
from i2v.plan import Plan, Policy, Precision, Prediction, Rung
from i2v.planning.known import Found, Known, Question, engine_phase, joined
from i2v.planning.ledger import NO_CORRECTION, Correction, Entry, Ledger, Setup
from i2v.planning.limits import Limit, limit
from i2v.planning.load import Processor
from i2v.planning.machine import Machine, machine_of
from i2v.planning.measured import DiskRates, Measurements
from i2v.planning.planner import Considered, Planned, Planner, Source, known_source, with_adapters, with_scheduler
from i2v.planning.why import window_told
from i2v.request import GenerationRequest
from i2v.settings.settings import ROOT, Settings
from i2v.units import GIB, amount

log = logging.getLogger(__name__)

MEASURING_SECONDS = 60
COMPUTED_BY_PROCESSOR = ("cpu", "simulated")  # devices
# A processor gains nothing from a batch and has nowhere to move weights to. Chunks make it slower, so they are for
# where its memory is short.
FIXED_ON_PROCESSOR = frozenset({"cfg", "offload"})
CONFIGS = ROOT / "i2v" / "families"


@dataclass(frozen=True)
class Asked:
    """One question to the planner: a job of a model on a machine, from a plan whose `fixed` decisions stay. `cores`: of
    the machine's processor. `adapter_numbers`: in the request's LoRAs, on one network."""

    entry: ModelEntry
    request: GenerationRequest
    base: Plan
    machine: Machine
    fixed: frozenset[str] = frozenset()
    policy: Policy = "lossless"
    correction: Correction = NO_CORRECTION
    cores: int = 1
    adapter_numbers: int = 0

    def planner(self, source: Source, correction: Correction | None = None) -> Planner:
        """The planner for this machine and model, with what `source` knows."""
        spec = SPECS[self.entry.family]
        folder = self.entry.folder if self.entry.present else None
        return Planner(
            machine=self.machine,
            source=with_scheduler(with_adapters(source, self.adapter_numbers), spec),
            correction=self.correction if correction is None else correction,
            download_bytes=0 if self.entry.present else self.entry.size_bytes,
            spec=spec,
            mapped=cache(partial(mapped_components, folder, spec)),
            calls=partial(_calls, spec, self.entry.folder, self.request.scheduler),
            readings=cache(partial(_readings, folder, spec)),
        )


def _readings(folder: Path | None, spec: FamilySpec, precision: Precision) -> Mapping[str, Reading]:
    """What loading reads now; nothing is said of a model that has to be fetched first, which then is in RAM or not."""
    return {} if folder is None else readings(folder, spec, precision)


def _calls(spec: FamilySpec, folder: Path | None, scheduler: str | None, steps: int) -> dict[str, int]:
    """How often the network is called in each part of denoising, in `steps` steps of the scheduler of this name; None
    is the one in `folder`."""
    if scheduler is None:
        return {part: calls_of_folder(folder, count) for part, count in spec.denoise_steps(steps).items()}
    config = {"_class_name": SCHEDULERS[scheduler].class_name}
    return {part: network_calls(config, count) for part, count in spec.denoise_steps(steps).items()}


def _read_most(entry: ModelEntry) -> tuple[Path, ...]:
    """The files of the part of the model that has most of the disk, the largest first; none of one that is not here."""
    if entry.folder is None or not entry.present:
        return ()
    spec = SPECS[entry.family]
    return heaviest(weight_files(entry.folder, spec, spec.half))


@dataclass(frozen=True)
class Gain:
    """What closing another program on the card would give: its name, its bytes, and the seconds saved; None where the
    job does not fit now and would then."""

    name: str
    size_bytes: int
    seconds: float | None


class Plans:
    """The table, what this machine has added to it, and the planning child. `close` it when done.

    `folder` keeps what was run dry (plans.json), what cards and disks were measured (cards.json, disks.json) and how
    runs went (ledger.jsonl); without one nothing is kept. `processor` knows how busy others keep it; without one it
    counts as idle."""

    def __init__(self, folder: Path | None, start: Start = start_cold, processor: Processor | None = None) -> None:
        self._known = Known(folder / "plans.json" if folder else None)
        self._measurements = Measurements(folder / "cards.json") if folder else None
        self._disks = DiskRates(folder / "disks.json") if folder else None
        self._ledger = Ledger(folder / "ledger.jsonl") if folder else None
        self._child = DryChild(start)
        self._processor = processor or Processor(lambda: None)
        self.pages = Pages()
        self._sentences = Pages()
        self._regions = Pages()

    @classmethod
    def of(cls, settings: Settings, start: Start = start_cold, processor: Processor | None = None) -> Plans:
        """Those of an installation, kept beside its logs. `start` starts the planning child."""
        return cls(settings.logs_dir / "planner", start, processor)

    def close(self) -> None:
        """End the planning child."""
        self._child.close()

    def warm_up(self) -> None:
        """Start the planning child, which then is ready when it is asked."""
        self._child.warm_up()

    def asked(self, resolved: Resolved, probe: Probe) -> Asked:
        """What a request asks on the machine as probed, measured and corrected by the ledger. Raises UserError as
        `build_plan` does."""
        (base, _), settings = build_plan(resolved, probe), resolved.settings
        person = fixed_by_person(settings)
        fixed = person | FIXED_ON_PROCESSOR if base.device == "cpu" else person
        measurement = self._measurements.get(probe.gpu.uuid) if probe.gpu and self._measurements else None
        machine = machine_of(probe, base.device, measurement)
        entry = resolved.entry
        if self._disks and (files := _read_most(entry)) and (rate := self._disks.get(files[0])) is not None:
            machine = replace(machine, disk_read_rate=rate, disk_measured=True)
        if measurement is not None and not measurement.half_convolutions and base.precision == "float16":
            base = replace(base, wide_convolutions=base.device == "cuda")
        if machine.device in COMPUTED_BY_PROCESSOR:
            machine = replace(machine, slowdown=self._processor.slowdown_now(probe.host.cpu_count))
        elsewhere = lora_folders(settings.model_folders)
        numbers = adapter_numbers(resolved.request.adapters, settings.models_dir, resolved.spec, elsewhere)
        about = {"policy": settings.policy, "cores": probe.host.cpu_count, "adapter_numbers": numbers}
        return self.corrected(Asked(resolved.entry, resolved.request, base, machine, fixed, **about))

    def at_work(self) -> AbstractContextManager[None]:
        """A job of ours runs meanwhile: what it makes of the processor's load is not the others'."""
        return self._processor.at_work()

    def corrected(self, asked: Asked) -> Asked:
        """The same question with what the ledger says about this model on this machine."""
        return replace(asked, correction=self._ledger.correction(setup_of(asked))) if self._ledger else asked

    def account(self, asked: Asked, plan: Plan, events: Iterable[Event], healed: Sequence[str] = ()) -> None:
        """Enter a finished run, which is still `at_work`, into the ledger, where what was predicted for it was exact.
        One that was `healed` ran under several plans: the rungs it took are entered, and no figures."""
        if self._ledger is None:
            return
        key, setup = model_key(asked.entry), setup_of(asked)
        if healed:
            self._ledger.add(Entry(setup, plan.to_json(), (), tuple(healed)))
            return
        if plan.step_cache:
            return  # how many passes are cut short nobody knows before, so the time says nothing of the machine
        slowdown = (
            self._processor.slowdown_of_run(asked.cores) if asked.machine.device in COMPUTED_BY_PROCESSOR else 1.0
        )
        asked = replace(asked, machine=replace(asked.machine, slowdown=1.0))
        plain = asked.planner(known_source(self._known, key), NO_CORRECTION).forced(asked.request, plan)
        if plain is None or not plain.exact:
            return
        if phases := measured_phases(events, plain):
            self._ledger.add(Entry(setup, plan.to_json(), phases, slowdown=round(slowdown, 3)))

    def runs(self) -> list[Entry]:
        """How runs went against their predictions, oldest first."""
        return self._ledger.entries() if self._ledger else []

    def measure_card(self, gpu: Gpu) -> None:
        """Measure a real card that was not measured yet, in a process of its own; seconds. What goes wrong is only
        logged: the figures of the data file are used then."""
        if gpu.simulated or self._measurements is None or self._measurements.get(gpu.uuid) is not None:
            return
        command = [sys.executable, "-m", "i2v.worker.measure", str(self._measurements.path.absolute()), gpu.uuid]
        try:
            subprocess.run(
                [*command, str(gpu.free_bytes or 0)], cwd=ROOT, env=worker_environment(gpu.uuid, os.environ),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=MEASURING_SECONDS, check=True,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("The card could not be measured: %s", error)

    def measure_disk(self, entry: ModelEntry) -> None:
        """Measure the disk that a model's largest part lies on, on its own files, where that was not done yet; a second
        or two. A model whose files say nothing leaves it at what disks of the kind do."""
        if self._disks is None or not (files := _read_most(entry)) or self._disks.get(files[0]):
            return
        if (rate := measured_read_rate(files)) is not None:
            self._disks.put(files[0], rate)

    def at_once(self, asked: Asked, *, look_around: bool = True) -> Planned | None:
        """The plan by what is known, exactly or as a bound; None where not even that. Milliseconds. Where it does not
        fit it says what would, unless it is not to `look_around`."""
        planner = asked.planner(known_source(self._known, model_key(asked.entry)))
        planned = planner.plan(asked.request, asked.base, asked.fixed, look_around=look_around)
        return planned and planner.give_up(planned, asked.base, asked.fixed, asked.policy)

    def least_ram_bytes(self, asked: Asked) -> int:
        """What a processor needs at least for a model that no dry run for a processor is known of: the weights of the
        network that denoises, in single precision, by dry runs for a card, but for those that it can read from their
        files as it needs them. 0 where there are none either."""
        key, least = model_key(asked.entry), 0
        folder = asked.entry.folder if asked.entry.present else None
        mapped = mapped_components(folder, SPECS[asked.entry.family], "float32") if folder else frozenset()
        for question in self._known:
            if (question.model, question.phase, question.weights) != (key, "denoise", "full"):
                continue
            found = self._known.get(question)
            for run in found.phases if found is not None else ():
                size_bytes = sum(found.weights[name] for name in run.components if name not in mapped)
                least = max(least, size_bytes if question.precision == "single" else 2 * size_bytes)
        return least

    @property
    def known_rows(self) -> int:
        """How many dry runs are known, of all models."""
        return sum(1 for _ in self._known)

    def limit(self, asked: Asked, planned: Planned) -> Limit | None:
        """What on the card holds this plan back, see `limits`; None without a card. Milliseconds."""
        if asked.machine.device != "cuda":
            return None

        def seconds_on(machine: Machine) -> float:
            planner = replace(asked, machine=machine).planner(known_source(self._known, model_key(asked.entry)))
            predicted = planner.forced(planned.request, planned.plan)
            foretold = planned.prediction if predicted is None else predicted
            return foretold.seconds - foretold.load_seconds  # that is waited for once

        return limit(asked.machine, seconds_on)

    def to_queue(self, asked: Asked) -> Planned:
        """The plan for a job about to be queued: exact where nothing is known of such a job, and where a bound says
        that it would not fit, or not without loss. Raises UserError where it can not run."""
        planned = self.at_once(asked)
        if planned is None or planned.prediction.verdict == "wont_fit" or not planned.plan.lossless:
            planned = self.exactly(asked)
        if planned.prediction.verdict == "wont_fit":
            raise wont_fit(planned)
        return planned

    def gains(self, asked: Asked, planned: Planned, processes: Sequence[GpuProcess]) -> Iterator[Gain]:
        """Who else holds the card, and what a plan made without each of them would be worth."""
        for process in processes:
            if not process.used_bytes or process.pid == os.getpid():
                continue
            roomier = asked.machine.with_budget(asked.machine.budget_bytes + process.used_bytes)
            without = self.at_once(replace(asked, machine=roomier))
            if without is None or without.prediction.verdict == "wont_fit":
                continue
            saved = planned.prediction.seconds - without.prediction.seconds
            if planned.prediction.verdict == "wont_fit":
                yield Gain(process.name, process.used_bytes, None)
            elif saved >= 1:
                yield Gain(process.name, process.used_bytes, saved)

    def said(self, entry: ModelEntry, request: GenerationRequest, page: str | None = None) -> tuple[Message, ...]:
        """What the model says of the request's sentence, without running anything: how it will move the picture, and
        what it has not understood. Nothing where it does not tell, or where that fails. Raises Superseded where `page`
        has asked about another sentence meanwhile."""
        if not (SPECS[entry.family].tells and entry.folder is not None and entry.present and request.prompt):
            return ()
        asker = ANYBODY if page is None else self._sentences.asks(page)
        try:
            return self._child.said(entry.family, entry.folder, request, asker)
        except UserError as error:
            log.warning("%s", error)
            return ()

    def finds(
        self, entry: ModelEntry, request: GenerationRequest, photograph: bytes, page: str | None = None
    ) -> str | None:
        """Where in the photograph (a small image file) the model sees what the sentence asks for, as a region; None
        where it does not tell, is not sure, or where something is painted already. Raises as `said` does."""
        tells = SPECS[entry.family].tells and SPECS[entry.family].takes_region
        if not (tells and entry.folder is not None and entry.present and request.prompt) or request.region:
            return None
        asker = ANYBODY if page is None else self._regions.asks(page)
        try:
            return self._child.finds(entry.family, entry.folder, request, photograph, asker)
        except UserError as error:
            log.warning("%s", error)
            return None

    def exactly(self, asked: Asked, asker: Asker = ANYBODY) -> Planned:
        """The plan by dry runs of this very job, seconds where it is a new one. What they find is kept.

        Raises UserError where the model's configuration can not be run dry, and Superseded where `asker` wants the
        plan no more."""
        quick = self.at_once(asked)
        # Where a lossy policy comes to fewer frames by what is known, weights in eight bits may not be known yet.
        settled = quick is not None and quick.asked is None
        settled = settled and (quick.prediction.verdict != "wont_fit" or asked.policy == "lossless")
        known = settled and all(one.prediction.exact for one in quick.considered)
        if known and (quick.prediction.verdict != "wont_fit" or quick.nearest):
            return quick
        key, fresh = model_key(asked.entry), {}

        def look(request: GenerationRequest, plan: Plan) -> tuple[Found, bool]:
            questions = Question.all_of(key, request, plan)
            parts = {one: self._known.get(one) or fresh.get(one) for one in questions}
            if missing := tuple(one for one, found in parts.items() if found is None):
                job = asked.entry.family, own_configs(asked.entry), request, plan
                with self._processor.planning():
                    found = self._child.run(*job, asker, [one.phase for one in missing])
                fresh.update({one: found.part(one.phase) for one in missing})
            shares = SPECS[asked.entry.family].shares(request.num_frames)
            return joined([parts[one] or fresh[one] for one in questions], shares), True

        planner, start = asked.planner(look), quick.plan if quick else None
        with self._keeping(fresh):
            planned = quick if known else planner.plan_exactly(asked.request, asked.base, asked.fixed, start)
            planned = planner.give_up_precision(planned, asked.base, asked.fixed, asked.policy, exactly=True)
        if planned.prediction.verdict != "wont_fit":
            return planned
        # Other sizes and lengths are looked for among what is known: a dry run for each would take a minute.
        around = self.at_once(asked)
        if around is not None and around.asked:
            return around
        if around is not None and around.nearest:
            return replace(planned, nearest=around.nearest)
        with self._keeping(fresh):
            near = planner.near_exactly(asked.request, asked.base, asked.fixed)
        return replace(planned, nearest=() if near is None else (near,))

    @contextmanager
    def _keeping(self, fresh: dict[Question, Found]) -> Iterator[None]:
        """What is in `fresh` at the end of the `with` is known from then on, also where it was broken off."""
        try:
            yield
        finally:
            if fresh:
                self._known.add(fresh)
                fresh.clear()


def rungs_of(planned: Planned) -> tuple[Rung, ...]:
    """The chosen plan and those to step down to, with what the engine's phases hold under each."""
    chosen = Considered(planned.plan, planned.prediction)
    return tuple(Rung(one.plan, _peaks(one.prediction)) for one in (chosen, *planned.ladder))


def _peaks(prediction: Prediction) -> dict[str, int]:
    peaks: dict[str, int] = {}
    for phase in prediction.phases:
        name = engine_phase(phase.name)
        peaks[name] = max(peaks.get(name, 0), phase.peak_bytes)
    return peaks


def setup_of(asked: Asked) -> Setup:
    """What a measurement of this job holds for. Versions are read from the packages, as nothing here loads torch."""
    machine = asked.machine
    name = machine.name if machine.device != "simulated" else f"simulated {machine.name}"
    return Setup(model_key(asked.entry), asked.base.precision, name, _version("torch"), _cudnn())


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@cache
def _cudnn() -> str:
    """The version of whichever cuDNN package torch brought along."""
    found = [_version(f"nvidia-cudnn-cu{major}") for major in (12, 13, 14)]
    return next((version for version in found if version), "")


def plan_notes(planned: Planned) -> tuple[Noted, ...]:
    """What a person should know of the plan before the run."""
    told = []
    if planned.asked is not None:
        told.append(message("planning.fewer_frames", frames=planned.request.num_frames, asked=planned.asked.num_frames))
    if planned.plan.weights != "full":
        told.append(message("planning.weights", weights=planned.plan.weights))
    if (window := window_told(planned)) is not None:
        told.append(window)
    if planned.plan.step_cache:
        told.append(message("planning.step_cache", share=f"{planned.plan.step_cache:g}"))
    if planned.plan.wide_convolutions:
        told.append(message("planning.wide_convolutions"))
    if planned.prediction.verdict == "tight":
        told.append(message("planning.tight", peak=_gib(planned), budget=_budget(planned)))
    return tuple(Noted("warning", text) for text in told)


def wont_fit(planned: Planned) -> UserError:
    """Why a job is not even tried: what is short, card, RAM or disk, by how much; and what would fit."""
    short = planned.prediction.shortages(planned.plan.device)[0]
    known = {
        "width": planned.request.width,
        "height": planned.request.height,
        "frames": planned.request.num_frames,
        "needed": amount(short.needed_bytes, up=True),
        "free": amount(short.free_bytes),
        "missing": amount(short.short_bytes, up=True),
    }
    nearest = "; ".join(f"{job.width}x{job.height}, {job.num_frames}" for job in planned.nearest)
    if nearest:
        return UserError(f"planning.refused_nearest_{short.place}", nearest=nearest, **known)
    return UserError(f"planning.refused_{short.place}", **known)


def _gib(planned: Planned) -> str:
    return f"{planned.prediction.peak.peak_bytes / GIB:.2f}"


def _budget(planned: Planned) -> str:
    return f"{planned.prediction.budget_bytes / GIB:.2f}"


def own_configs(entry: ModelEntry) -> Path | None:
    """The folder whose configurations hold for this model; None for the family's own, which also stand for a model
    that is still to come: of its own configurations some may be there before the others."""
    return entry.folder if entry.folder is not None and entry.present and index_of(entry.folder) is not None else None


def model_key(entry: ModelEntry) -> str:
    """What dry runs of this model are known by: the family's name where its configuration is the family's own, else
    with a digest of all its configurations, and of the GGUF files that its weights are stored in."""
    folder = own_configs(entry)
    files = [] if folder is None else _gguf_files(folder, SPECS[entry.family].gguf_components)
    published = CONFIGS / entry.family / "configs"
    if (
        folder is None
        or entry.name == entry.family
        or (not files and _as_published(folder, published, SPECS[entry.family].optional))
    ):
        return entry.family
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*/config.json")):
        digest.update(path.parent.name.encode() + path.read_bytes())
    for path in files:
        add_parts(digest, path)
    return f"{entry.family}:{digest.hexdigest()[:16]}"


def _gguf_files(folder: Path, components: Sequence[str]) -> list[Path]:
    try:
        return [file for name in components if (file := gguf_of(folder / name)) is not None]
    except UserError:  # told where the model is looked at
        return []


def _as_published(folder: Path, published: Path, optional: Collection[str]) -> bool:
    """Whether a checkpoint says what the family's own configurations say; it may say more, and lack what is
    `optional`."""
    pairs = [(path, folder / path.parent.name / "config.json") for path in sorted(published.glob("*/config.json"))]
    pairs = [(ours, theirs) for ours, theirs in pairs if theirs.is_file() or ours.parent.name not in optional]
    return bool(pairs) and all(_read(ours).items() <= _read(theirs).items() for ours, theirs in pairs)


def _read(path: Path) -> dict[str, str]:
    """A configuration, each value as text; empty where there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): json.dumps(value) for key, value in values.items() if key != "sample_size"}
    except (OSError, ValueError, AttributeError):
        return {}
