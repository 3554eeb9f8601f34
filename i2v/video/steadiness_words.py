"""A steadiness report in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from i2v.messages import Message, message
from i2v.video.optical_flow import METHOD
from i2v.video.steadiness import Steadiness, level_of

_STILL = 0.001  # parts of the longer side in a second


@dataclass(frozen=True)
class ReportLine:
    """One line of a report: what is measured, how much of it there is, what that means."""

    name: Message
    value: Message
    about: Message


def told(report: Steadiness) -> tuple[ReportLine, ...]:
    """Every line of the report, the most important first. Seams only where the clip has them."""
    lines = [
        _told("flicker", report.flicker, percent=f"{100 * report.flicker:.1f}"),
        _told("drift", report.drift, difference=f"{report.drift:.1f}"),
        _told("warping_error", report.warping_error, percent=f"{100 * report.warping_error:.1f}"),
    ]
    if report.seam_ratio is not None:
        lines.append(_told("seam_ratio", report.seam_ratio, times=f"{report.seam_ratio:.1f}"))
    seconds = ", ".join(f"{cut / report.fps:.2f} s" for cut in report.cuts)
    cuts = message("steadiness.cuts_at", count=len(report.cuts), seconds=seconds)
    lines.append(_line("cuts", cuts if report.cuts else message("steadiness.cuts_none")))
    moves = message("steadiness.moves", percent=f"{100 * report.motion:.1f}")
    lines.append(_line("motion", moves if report.motion >= _STILL else message("steadiness.still")))
    return tuple(lines)


def findings(report: Steadiness, locale: str) -> str:
    """What is to be seen in the clip that was hardly wanted, in a few words; that it is steady where there is
    nothing."""
    found = [message(f"steadiness.finds_{name}") for name in report.findings]
    return ", ".join(one.render(locale) for one in found or [message("steadiness.finds_steady")])


def measured_with(report: Steadiness) -> Message:
    """By what, and from what, it was measured."""
    source = message(f"steadiness.source_{report.source}")
    names = {METHOD: "OpenCV (DIS)"}
    return message("steadiness.measured_with", method=names.get(report.method, report.method), source=source.to_json())


def in_one_line(summary: Mapping[str, Any]) -> Message | None:
    """What `Steadiness.summary` comes to; None for what is no summary."""
    try:
        report = Steadiness.from_summary(summary)
    except (KeyError, TypeError, ValueError):
        return None
    return message(
        "steadiness.line",
        flicker=f"{100 * report.flicker:.1f}",
        flicker_word=_word("flicker", report.flicker).to_json(),
        drift=f"{report.drift:.1f}",
        error=f"{100 * report.warping_error:.1f}",
        cuts=len(report.cuts),
    )


def _told(name: str, value: float, **shown: str) -> ReportLine:
    return _line(name, message(f"steadiness.of_{name}", word=_word(name, value).to_json(), **shown))


def _line(name: str, value: Message) -> ReportLine:
    return ReportLine(message(f"steadiness.name_{name}"), value, message(f"steadiness.about_{name}"))


def _word(name: str, value: float) -> Message:
    return message(f"steadiness.is_{name}_{level_of(name, value)}")
