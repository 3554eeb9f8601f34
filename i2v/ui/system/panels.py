"""The System tab as HTML: the machine with who holds its memory, settings, what lies on disk. Pure functions;
every text is escaped here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape

from i2v.cli.machine import setting_rows
from i2v.hardware.probe import Gpu, Probe
from i2v.jobs.list.tidy import Budgets, Kind
from i2v.settings.settings import Settings, preset_notes
from i2v.ui.shown.folded import folded
from i2v.ui.shown.format import gib
from i2v.ui.texts import text

PROCESSES_SHOWN = 12


def machine(probe: Probe, ours: Collection[int], our_rss_bytes: int, locale: str) -> str:
    """Cards and RAM as bars of what we hold, what others hold and what is free. `ours`: the ids of our processes, which
    hold `our_rss_bytes` of RAM."""
    parts = [_card(gpu, probe.gpu is not None and gpu.uuid == probe.gpu.uuid, ours, locale) for gpu in probe.gpus]
    if probe.gpu is None:
        parts.append(f'<p class="i2v-calm">{escape(text("system_no_card", locale))}</p>')
    host = probe.host
    ram = text("system_ram", locale, free=gib(host.ram_available_bytes), total=gib(host.ram_total_bytes))
    used = host.ram_total_bytes - host.ram_available_bytes
    rest = [text("system_disk", locale, free=gib(host.disk_free_bytes)), text("system_cores", locale, n=host.cpu_count)]
    if host.swap_total_bytes:
        rest.append(text("system_swap", locale, free=gib(host.swap_free_bytes), total=gib(host.swap_total_bytes)))
    parts.append(
        f'<section class="i2v-device"><h3>{escape(ram)}</h3>{_bar(our_rss_bytes, used, host.ram_total_bytes, locale)}'
        f'<p class="i2v-calm">{escape(" · ".join(rest))}</p></section>'
    )
    problems = "".join(f"<li>{escape(problem.render(locale))}</li>" for problem in probe.problems)
    return f'<div class="i2v-system">{"".join(parts)}{f"<ul>{problems}</ul>" if problems else ""}</div>'


def settings_table(settings: Settings, probe: Probe, locale: str) -> str:
    """What there is to say about the preset; and folded, with a search, every setting with who set it, as `probe`
    prints them."""
    notes = "".join(f'<p class="i2v-note">{escape(n.render(locale))}</p>' for n in preset_notes(settings.preset, probe))
    heads = [text(f"system_{name}", locale) for name in ("setting", "value", "source")]
    title, search = text("system_settings", locale), escape(text("system_search", locale))
    field = f'<input type="search" class="i2v-search" placeholder="{search}" aria-label="{search}">'
    return notes + folded(title, field + _table(title, heads, setting_rows(settings, locale)), "settings")


def disk_table(sizes: Mapping[Kind, int], budgets: Budgets, locale: str) -> str:
    """What of the outputs folder tidying looks at: how much there is, and how much may stay."""
    limits: dict[Kind, int | None] = {
        "bin": budgets.bin_bytes,
        "latents": budgets.latents_bytes,
        "cache": budgets.cache_bytes,
        "temporary": None,
    }
    heads = [text(f"system_{name}", locale) for name in ("kept", "held", "limit")]
    rows = [(text(f"system_{kind}", locale), gib(sizes[kind], 2), gib(limit, 1)) for kind, limit in limits.items()]
    return _table(text("system_disk_use", locale), heads, rows)


def _card(gpu: Gpu, chosen: bool, ours: Collection[int], locale: str) -> str:
    name = "system_card_chosen" if chosen else "system_card"
    title = text(name, locale, index=gpu.index, name=gpu.name, free=gib(gpu.free_bytes), total=gib(gpu.total_bytes))
    our_bytes = sum(process.used_bytes or 0 for process in gpu.processes if process.pid in ours)
    bar = ""
    if gpu.total_bytes and gpu.used_bytes is not None:
        bar = _bar(our_bytes, gpu.used_bytes, gpu.total_bytes, locale)
    holders = "".join(
        f"<li>{escape(_holder(process.name, process.pid, process.used_bytes, process.pid in ours, locale))}</li>"
        for process in gpu.processes[:PROCESSES_SHOWN]
    )
    more = len(gpu.processes) - PROCESSES_SHOWN
    if more > 0:
        holders += f"<li>{escape(text('system_more', locale, count=more))}</li>"
    problems = "".join(f"<li>{escape(problem.render(locale))}</li>" for problem in gpu.problems)
    simulated = f'<p class="i2v-calm">{escape(text("system_simulated", locale))}</p>' if gpu.simulated else ""
    lists = "".join(f"<ul>{items}</ul>" for items in (holders, problems) if items)
    return f'<section class="i2v-device"><h3>{escape(title)}</h3>{bar}{simulated}{lists}</section>'


def _holder(name: str, pid: int, used_bytes: int | None, is_ours: bool, locale: str) -> str:
    return text("system_holder_ours" if is_ours else "system_holder", locale, name=name, pid=pid, gib=gib(used_bytes))


def _bar(our_bytes: int, used_bytes: int, total_bytes: int, locale: str) -> str:
    """Never more than whole: what the driver says of processes and of the card are two readings."""
    ours = min(our_bytes, total_bytes)
    others = min(max(used_bytes - ours, 0), total_bytes - ours)
    sizes = {"ours": ours, "others": others, "free": total_bytes - ours - others}
    keys = "".join(
        f'<span class="i2v-key {name}">{escape(text(f"system_{name}", locale))} {gib(size)}</span>'
        for name, size in sizes.items()
    )
    said = ", ".join(f"{text(f'system_{name}', locale)} {gib(size)} GiB" for name, size in sizes.items())
    pieces = "".join(
        f'<i class="{name}" style="width:{100 * size / total_bytes:.2f}%"></i>' for name, size in sizes.items()
    )
    return (
        f'<div class="i2v-held" role="img" aria-label="{escape(said)}">{pieces}</div><div class="i2v-keys">{keys}</div>'
    )


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="i2v-table"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
