"""Make docs/models.md of what the families' specs say, so that it is never behind them.

python -m tools.models_page           write it
python -m tools.models_page --check   fail where it says something else than the specs
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from i2v.families import SPECS
from i2v.families.spec import FamilySpec, Strength
from i2v.jobs.asked.outlook import FETCHED_BYTES, WAITED_SECONDS, begins_with, sound
from i2v.messages import message
from i2v.units import GIB

ROOT = Path(__file__).parents[1]
PAGE, FAMILIES = ROOT / "docs" / "models.md", ROOT / "i2v" / "families"
_UNRANKED = Strength(0, "")

_HEAD = """# The models

`python -m tools.models_page` writes this page of the families' specs (`i2v/families/<name>/spec.py`). What a model
would do on your machine, `python -m i2v models` says, and so do the cards below the model's field on the page: before
anything is downloaded. Longer clips than the longest here can be asked for; whether they are good nobody has shown.

| model | `--model` | makes videos | sound | usual clip | longest | LoRAs | licence of the weights | download |
|---|---|---|---|---|---|---|---|---|
"""

_PROMISED = """
## What is promised of each

The numbers are those of diffusers' own pipeline on the same weights and noise, within 1e-4 in float32 (Nano is a model
of this app's own). They are the same whether the weights stay on the card, come phase by phase or block by block, and
whether the network is run whole or in parts. A run that was broken off goes on as if nothing had happened. What a plan
says that tensors hold on the card is what they hold, to the byte. [Tests](adding_a_family.md) hold each of these for
each family.
"""

_ORDER = """
## Which one is proposed

On a machine with a card, where nobody has chosen a model, the page begins with the strongest that makes videos from a
photograph and a sentence, fits the card well, takes no more than {minutes} minutes for its usual clip, is on this
computer or no more than {gib} GiB to download, and whose licence leaves no country out. It says so, and a button takes
another; before a download *Generate* asks. Your own choice, in `config.yaml` or in the browser, always wins; without a
card it is Nano.
The order, the strongest first:

"""


def page() -> str:
    """The whole page."""
    specs = sorted(SPECS.values(), key=lambda spec: -_strength(spec).rank)
    told = "".join(f"- **{spec.title}**: {_english(spec.about)}{_more(spec)}\n" for spec in specs)
    order = "".join(f"1. **{spec.title}**. {_english(spec.strength.reason)}\n" for spec in specs if spec.strength)
    proposed = _ORDER.format(minutes=round(WAITED_SECONDS / 60), gib=FETCHED_BYTES // GIB)
    return _HEAD + "".join(map(_row, specs)) + "\n" + told + _PROMISED + proposed + order


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page, or only compare; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    if not parser.parse_args(argv).check:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    return int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page())


def _row(spec: FamilySpec) -> str:
    usual = spec.defaults
    name = spec.name if spec.hub_id is None else spec.hub_id.split("/")[1]
    title = spec.title if spec.hub_id is None else f"[{spec.title}](https://huggingface.co/{spec.hub_id})"
    licence = spec.licence
    cells: Iterable[str] = (
        title,
        f"`{name}`",
        ", ".join(_english(one.id) for one in begins_with(spec)),
        "-" if spec.audio_rate is None else f"{_english(sound(spec).id)}, {spec.audio_rate:,} Hz",
        f"{usual.width} x {usual.height}, {_seconds(usual.num_frames, usual.fps)} s",
        f"{_seconds(spec.hints.max_frames, usual.fps)} s",
        _loras(spec),
        "" if licence is None else f"[{licence.name}]({licence.url})" if licence.url else licence.name,
        _download(spec),
    )
    return f"| {' | '.join(cells)} |\n"


def _download(spec: FamilySpec) -> str:
    """How much, if there is one download of it."""
    if spec.comes_with_the_app:
        return "comes with the app"
    return f"{spec.download_gib:.1f} GiB"


def _more(spec: FamilySpec) -> str:
    """Where there is a page of its own."""
    page = Path("models") / f"{spec.name}.md"
    return f" [More]({page.as_posix()})." if (PAGE.parent / page).is_file() else ""


def _loras(spec: FamilySpec) -> str:
    """What can be done with LoRAs."""
    if not spec.takes_adapters:
        return "-"
    return "used, trained" if (FAMILIES / spec.name / "training.py").is_file() else "used"


def _seconds(frames: int, fps: int) -> str:
    return f"{frames / fps:.1f}"


def _strength(spec: FamilySpec) -> Strength:
    return spec.strength or _UNRANKED


def _english(message_id: str) -> str:
    return message(message_id).render("en") if message_id else ""


if __name__ == "__main__":
    raise SystemExit(main())
