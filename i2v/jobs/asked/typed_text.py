"""Text as people type it: pasted from slides, chats and other programs, with characters that nobody sees."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from i2v.messages import Message, message

# Joiners (U+200C, U+200D) are kept where they belong to an emoji or to a script that is written with them, and the tag
# characters where they make a flag: CLIP's tokenizer reads text by its bytes, so that a family is other tokens than
# three people. Everywhere else the tokens of a character that nobody sees would only change the video.
_JOINERS, _FLAG, _TAGS = "\u200c\u200d", "\U0001f3f4", range(0xE0020, 0xE0080)
_JOINED_SCRIPTS = (range(0x600, 0xE00), range(0x1000, 0x10A0), range(0x1780, 0x18B0))  # Arabic to Sinhala, Burmese, ...
_CHINESE_MARKS = "，！？：；（）"
"""Punctuation as Chinese is typed. Its compatible form is for other scripts; here it would only look wrong."""
_SEEN = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
"""Format characters that are drawn: signs that stand before numbers."""
_UNDEFINED = {0x81, 0x85, 0x8D, 0x8F, 0x90, 0x9D}  # no characters in Windows-1252, but for 0x85, which is a line's end
DELETE = "\x7f"
# White space that Python does not count as such: the Hangul fillers, the empty Braille cell, an object's place.
_BLANK = frozenset(f"{DELETE}\u115f\u1160\u3164\uffa0\u2800\ufffc\u034f\u180e")
# What Windows means by the numbers of these control characters, where its text was read as Latin-1: ’ “ ” – ...
_FROM_WINDOWS = {number: bytes([number]).decode("cp1252") for number in range(0x80, 0xA0) if number not in _UNDEFINED}
_LINE_ENDS = re.compile(r"\r\n?")

_AT_MARKS = re.compile(f"([{_CHINESE_MARKS}])")

_LORA = re.compile(r"<\s*(?:lora|lyco|lycoris|hypernet|embedding)\s*:[^<>]*>|\bembedding:[\w.-]+", re.IGNORECASE)
_WEIGHT = re.compile(
    r"\([^()]*[^()\d]:\s*(?:\d(?:\.\d+)?|\.\d+)\s*\)"  # (words:1.3), not (at 3:45)
    r"|\({2,}[^()]+\){2,}|\[{2,}[^\[\]]+\]{2,}"  # ((words)), [[words]]
    r"|\[[^\[\]:|]*:[^\[\]:|]*:\s*\d*\.?\d+\s*\]"  # [from:to:0.5]
    r"|\{[^{}|]*(?:\|[^{}|]*)+\}"  # {one|other}
    r"|\b__[\w/-]+__\b|\bBREAK\b"  # wildcards, and a new chunk of tokens
    r"|(?<!\S)--(?:ar|aspect|v|s|stylize|q|quality|seed|no|style|chaos|motion|niji)\b(?:\s+[\w:.]+)?"  # --ar 16:9
)
_SHOWN_CHARS = 40


def as_meant(text: str) -> str:
    """`text` with the quotes and dashes that it lost on its way from Windows."""
    return text.translate(_FROM_WINDOWS)


def invisible(char: str) -> bool:
    """Whether nothing is drawn for it by itself: marks, white space, format and control characters."""
    category = unicodedata.category(char)
    return char in _BLANK or (category[0] in "CMZ" and category != "Co")


def cleaned(text: str) -> str:
    """`text` in Unicode's compatible form (NFKC) but for Chinese punctuation, every white space but a line's end as a
    space, without format characters that change nothing a reader sees. Empty where nothing would be seen at all."""
    text = _LINE_ENDS.sub("\n", text)
    kept = "".join(_spaced(char) for at, char in enumerate(text) if _is_kept(text, at))
    kept = "".join(
        part if part in _CHINESE_MARKS else unicodedata.normalize("NFKC", part) for part in _AT_MARKS.split(kept)
    )
    return "" if all(map(invisible, kept)) else kept


def _spaced(char: str) -> str:
    return " " if char != "\n" and (char.isspace() or char in _BLANK) else char


def _is_kept(text: str, at: int) -> bool:
    char = text[at]
    if unicodedata.category(char) != "Cf" or char in _SEEN or char in _BLANK:
        return True
    if char in _JOINERS:
        return _joins(text[at - 1 : at], text[at + 1 : at + 2])
    before = text[:at].rstrip("".join(map(chr, _TAGS))) if ord(char) in _TAGS else ""
    return before.endswith(_FLAG)


def _joins(before: str, after: str) -> bool:
    """Whether a joiner between these two is part of an emoji or of a word."""
    if not before or not after or unicodedata.category(after)[0] not in "LMS":
        return False
    drawn = unicodedata.category(before) in ("So", "Sk", "Mn") and unicodedata.category(after) == "So"
    return drawn or any(ord(before) in script for script in _JOINED_SCRIPTS)


def foreign_syntax(text: str) -> Iterator[Message]:
    """What in `text` is written for other programs, which is taken here as the words that stand there."""
    text = unicodedata.normalize("NFKC", text)
    for name, pattern in (("hint_lora", _LORA), ("hint_weight", _WEIGHT)):
        if found := pattern.search(text):
            shown = found[0] if len(found[0]) <= _SHOWN_CHARS else f"{found[0][:_SHOWN_CHARS]}…"
            yield message(f"request.{name}", text=shown)
