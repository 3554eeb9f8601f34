"""`python -m i2v probe`: the machine as it is now, and every setting with who set it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from i2v.cli.terminal import gib, padded, width_of
from i2v.hardware.probe import Gpu, Probe
from i2v.messages import Message, message
from i2v.settings.keys import KEYS
from i2v.settings.settings import Settings, preset_notes

_GAP = 2


def probe_json(settings: Settings, probe: Probe) -> str:
    """Probe, settings and notes as one JSON document."""
    notes = [note.to_json() for note in preset_notes(settings.preset, probe)]
    document = {"probe": probe.to_json(), "settings": settings.to_json(), "notes": notes}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def probe_text(settings: Settings, probe: Probe, locale: str) -> str:
    """The same for people: cards, memory, disk, then a table of key, value and source."""
    lines = [text.render(locale) for text in (*_machine(probe), *probe.problems, *preset_notes(settings.preset, probe))]
    return "\n".join([*lines, "", *_table(settings, locale)])


def setting_rows(settings: Settings, locale: str) -> list[tuple[str, str, str]]:
    """Key, value as config.yaml would have it, and who set it, for every setting. A password is only said to be
    there."""
    plain = settings.to_json()
    rows = []
    for key in KEYS:
        words = source_text(settings.sources[key])
        rows.append((key, _shown(plain[key]), words.render(locale) if words else settings.sources[key]))
    return rows


def source_text(source: str) -> Message | None:
    """Who set a value, in words; None for a file, whose name says it already."""
    word, _, rest = source.partition(" ")
    if word in ("preset", "environment"):
        return message(f"cli.source_{word}", name=rest)
    known = {"command line": "cli.source_command_line", "probe": "cli.source_probe", "default": "cli.source_default"}
    return message(known[source]) if source in known else None


def _machine(probe: Probe) -> Iterator[Message]:
    for gpu in probe.gpus:
        yield from _card(gpu, chosen=gpu.uuid == (probe.gpu and probe.gpu.uuid))
    if probe.gpu is None:
        yield message("cli.no_card")
    host = probe.host
    yield message("cli.ram", free=gib(host.ram_available_bytes), total=gib(host.ram_total_bytes), cpus=host.cpu_count)
    yield message("cli.swap", free=gib(host.swap_free_bytes), total=gib(host.swap_total_bytes))
    yield message("cli.disk", free=gib(host.disk_free_bytes))


def _card(gpu: Gpu, *, chosen: bool) -> Iterator[Message]:
    capability = ".".join(map(str, gpu.compute_capability)) if gpu.compute_capability else "?"
    yield message(
        "cli.card_chosen" if chosen else "cli.card",
        index=gpu.index,
        name=gpu.name,
        free=gib(gpu.free_bytes),
        total=gib(gpu.total_bytes),
        driver=gpu.driver or "?",
        capability=capability,
        uuid=gpu.uuid,
    )
    for process in gpu.processes:
        yield message("cli.card_process", name=process.name, pid=process.pid, used=gib(process.used_bytes))


def _table(settings: Settings, locale: str) -> list[str]:
    heads = [message(f"cli.column_{name}").render(locale) for name in ("setting", "value", "source")]
    rows = [tuple(heads), *setting_rows(settings, locale)]
    widths = [max(width_of(row[column]) for row in rows) for column in (0, 1)]
    return [padded(first, widths[0] + _GAP) + padded(second, widths[1] + _GAP) + third for first, second, third in rows]


def _shown(value: object) -> str:
    """A value as config.yaml would have it."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return str(value).lower() if isinstance(value, bool) else str(value)
