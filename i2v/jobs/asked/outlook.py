"""What each model would do on this machine, before anything of it is downloaded: by what is known of it already,
without a dry run. Nothing in here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.hardware.probe import Probe
from i2v.jobs.asked.plans import Asked, Plans
from i2v.jobs.asked.prepare import resolve
from i2v.messages import Message, UserError, message
from i2v.models.catalogue import list_models
from i2v.models.entry import ModelEntry
from i2v.planning.limits import Limit
from i2v.planning.planner import Planned
from i2v.planning.why import shortages, why
from i2v.settings.settings import Settings
from i2v.units import GIB, amount

SLOW_SECONDS = 1800.0
"""A video that takes longer is slow, however well it fits."""
NOTICED_SECONDS = 60.0
"""Of a video that is made sooner nobody asks what takes the time."""
WAITED_SECONDS = 600.0
"""What somebody who has chosen no model is thought to wait for a video."""
FETCHED_BYTES = 40 * GIB
"""And to download for the first one."""
CARD_STEP_BYTES, RAM_STEP_BYTES = 64 * 2**20, 512 * 2**20
"""In which free memory is looked at here."""
MOST_KEPT = 500  # plans, with what takes their time
Standing = Literal["fits", "slow", "tight", "unknown", "wont_fit", "damaged"]
STANDINGS: tuple[Standing, ...] = ("fits", "slow", "tight", "unknown", "wont_fit", "damaged")
"""How well a model works on a machine, the best first. `slow` fits as well; `tight` leaves less room than is wise; for
`unknown` nobody has worked it out yet; `damaged` cannot be used at all."""


@dataclass(frozen=True)
class Outlook:
    """A model of the catalogue, and the plan for the clip that it makes where nothing else is asked for; None where not
    enough is known for one. `refused`: why there can be none; `short`: why none would fit, where that is known without
    one. `limit`: what takes the time, where it takes some."""

    entry: ModelEntry
    planned: Planned | None = None
    refused: Message | None = None
    short: Message | None = None
    limit: Limit | None = None

    @property
    def spec(self) -> FamilySpec:
        """What is known of its family."""
        return SPECS[self.entry.family]

    @property
    def standing(self) -> Standing:
        """How well it works here."""
        if self.refused is not None:
            return "damaged"
        if self.planned is None:
            return "wont_fit" if self.short else "unknown"
        prediction = self.planned.prediction
        if prediction.verdict == "fits" and prediction.seconds > SLOW_SECONDS:
            return "slow"
        return prediction.verdict

    @property
    def holds_back(self) -> Message | None:
        """What more of would help: what is short where it does not fit, else what a faster plan would need, else what
        takes the time."""
        if self.planned is None:
            return self.refused or self.short
        if self.standing == "wont_fit":
            return next(shortages(self.planned), None)
        faster = next((one for one in why(self.planned) if one.id.startswith("planning.faster_")), None)
        return faster or (message(f"planning.limit_{self.limit}") if self.limit else None)

    @property
    def size(self) -> Message:
        """How large it is, on this computer or still to be downloaded."""
        name = "models.on_disk" if self.entry.present else "models.to_download"
        size_gib = self.entry.size_bytes / GIB
        return message(name, gib="?" if not size_gib else f"{size_gib:.{1 if size_gib >= 1 else 2}f}")

    def to_json(self, locale: str) -> dict[str, Any]:
        """The same as plain JSON values: sizes in GiB, time in seconds."""
        spec, planned = self.spec, self.planned
        prediction = planned.prediction if planned else None
        return {
            "name": self.entry.name,
            "title": self.entry.title,
            "about": message(spec.about).render(locale) if spec.about else "",
            "tasks": sorted(spec.tasks),
            "sound": spec.audio_rate is not None,
            "licence": spec.licence and spec.licence.name,
            "licence_url": spec.licence and spec.licence.url,
            "present": self.entry.present,
            "size_gib": round(self.entry.size_bytes / GIB, 2),
            "standing": self.standing,
            "width": planned.request.width if planned else None,
            "height": planned.request.height if planned else None,
            "frames": planned.request.num_frames if planned else None,
            "seconds": round(prediction.seconds, 1) if prediction else None,
            "peak_gib": round(prediction.peak.peak_bytes / GIB, 3) if prediction else None,
            "holds_back": self.holds_back.render(locale) if self.holds_back else None,
        }


def begins_with(spec: FamilySpec) -> tuple[Message, ...]:
    """What a family makes videos from beside a sentence, in words."""
    slots = [slot for slots in spec.inputs.values() for slot in slots]
    names = {
        "picture": any(slot.kind == "image" and slot.at == 0 for slot in slots),
        "last_picture": any(slot.kind == "image" and slot.at == -1 for slot in slots),
        "sentence": "t2v" in spec.tasks,
        "video": any(slot.kind == "video" for slot in slots),
        "sound": any(slot.kind == "audio" for slot in slots),
    }
    return tuple(message(f"models.from_{name}") for name, is_so in names.items() if is_so)


def sound(spec: FamilySpec) -> Message:
    """Whether a family's videos have sound."""
    return message("models.with_sound" if spec.audio_rate else "models.silent")


class Outlooks:
    """What every model of the catalogue would do under these settings. Any thread may ask."""

    def __init__(self, settings: Settings, plans: Plans | None) -> None:
        self._settings = settings
        self._plans = plans
        self._worked_out: dict[str, tuple[Planned | None, Limit | None]] = {}

    def now(self, probe: Probe) -> list[Outlook]:
        """On the machine as probed, those first that will work best: the usual clip of each. Milliseconds for each of
        them, and less where little has changed since it was asked last."""
        return sorted((self._of(entry, probe) for entry in list_models(self._settings)), key=_place)

    def _of(self, entry: ModelEntry, probe: Probe) -> Outlook:
        if entry.problem is not None and entry.hub_id is None:
            return Outlook(entry, refused=entry.problem)
        if self._plans is None:
            return Outlook(entry)
        try:
            asked = self._plans.asked(resolve({"model": entry.name}, self._settings, to_run=False), probe)
        except UserError as error:
            return Outlook(entry, refused=error.message)
        planned, limit = self._planned(self._plans, _steady(asked))
        short = _too_large(asked, self._plans) if planned is None else None
        return Outlook(entry, planned, short=short, limit=limit)

    def _planned(self, plans: Plans, asked: Asked) -> tuple[Planned | None, Limit | None]:
        """The plan, and what takes its time; worked out again when more dry runs are known."""
        question = f"{plans.known_rows} {asked}"
        if (kept := self._worked_out.get(question)) is not None:
            return kept
        planned, limit = plans.at_once(asked, look_around=False), None
        if planned is not None and planned.prediction.seconds >= NOTICED_SECONDS:
            limit = plans.limit(asked, planned)
        if len(self._worked_out) > MOST_KEPT:
            self._worked_out.clear()
        self._worked_out[question] = planned, limit
        return planned, limit


def _steady(asked: Asked) -> Asked:
    """The same question as long as nothing changes but for some megabytes that come and go: so that it is not answered
    anew for every look at the list. Never more is free than there is."""
    here = asked.machine
    card_step = RAM_STEP_BYTES if here.device == "cpu" else CARD_STEP_BYTES
    machine = replace(
        here,
        budget_bytes=here.budget_bytes // card_step * card_step,
        ram_free_bytes=here.ram_free_bytes // RAM_STEP_BYTES * RAM_STEP_BYTES,
        disk_free_bytes=here.disk_free_bytes // GIB * GIB,
        slowdown=round(here.slowdown, 1),
    )
    return replace(asked, request=replace(asked.request, seed=0), machine=machine)


def _too_large(asked: Asked, plans: Plans) -> Message | None:
    """That the weights alone are more than the RAM that is free, where a processor is to run them."""
    free_bytes = asked.machine.ram_free_bytes
    if asked.machine.device != "cpu" or (least := plans.least_ram_bytes(asked)) <= free_bytes:
        return None
    return message("planning.weights_short_ram", needed=amount(least, up=True), free=amount(free_bytes))


def _place(one: Outlook) -> tuple[int, bool, int]:
    """By what works, then by what is on this computer, then the strongest first."""
    rank = one.spec.strength.rank if one.spec.strength else 0
    return STANDINGS.index(one.standing), not one.entry.present, -rank


def proposed(found: Sequence[Outlook], *, offline: bool) -> Outlook | None:
    """The model that a page begins with on a machine with a card, where nobody has chosen one: the strongest of those
    that make videos from a photograph and a sentence, fit this card well within WAITED_SECONDS, are here or no more
    than FETCHED_BYTES to download, and whose licence leaves nobody out. None without a card, and where there is
    none."""
    good = [one for one in found if _can_be_proposed(one, offline=offline)]
    return max(good, key=lambda one: one.spec.strength.rank if one.spec.strength else 0, default=None)


def _can_be_proposed(one: Outlook, *, offline: bool) -> bool:
    spec, planned = one.spec, one.planned
    for_everybody = spec.licence is not None and spec.licence.everywhere and spec.strength is not None
    fits = one.standing == "fits" and planned is not None and planned.plan.device == "cuda"
    runs_well = fits and planned.prediction.seconds <= WAITED_SECONDS
    at_hand = one.entry.present or (not offline and one.entry.size_bytes <= FETCHED_BYTES)
    published = one.entry.hub_id == spec.hub_id
    return for_everybody and runs_well and at_hand and published and _begins_with_a_photograph(spec)


def _begins_with_a_photograph(spec: FamilySpec) -> bool:
    """Whether it needs one, and a sentence, and nothing else, as the page does that opens."""
    slots = spec.inputs.get("i2v")
    a_photograph = slots is not None and all(slot.kind == "image" and slot.at == 0 for slot in slots if slot.needed)
    return a_photograph and spec.takes_prompt


def instead_of(chosen: Outlook, found: Sequence[Outlook]) -> Outlook | None:
    """The model to offer beside the proposed one: the first that is on this computer and does the same."""
    others = (one for one in found if one.entry.name != chosen.entry.name and one.entry.present)
    return next((one for one in others if _begins_with_a_photograph(one.spec) and one.refused is None), None)
