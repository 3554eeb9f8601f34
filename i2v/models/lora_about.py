"""What a LoRA file says of itself in its header: its rank, what it was trained on, the words that call it, its licence.

Every trainer writes such things under keys of its own, as texts, some of which are JSON. Nothing of it is trusted: a
text is shortened and rid of what cannot be shown, and what is not understood is left out.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from i2v.families.lora_names import lora_tensor
from i2v.models.verify import TensorPlace

LONGEST_TEXT = 120  # characters
LONGEST_WORD = 60  # of what calls a LoRA; longer ones are whole captions
MOST_WORDS = 8
THUMBNAIL = "modelspec.thumbnail"
_TITLES = ("modelspec.title", "ss_output_name", "name")
_BASES = ("modelspec.architecture", "ss_base_model_version", "base_model", "model", "ss_sd_model_name")
_LICENCES = ("modelspec.license", "license")
_TRIGGERS = (
    *("modelspec.trigger_phrase", "ss_trigger_words", "trigger_words", "trainedWords"),
    *("trigger_word", "trigger_phrase", "trigger", "instance_prompt"),
)
_TAGS = "ss_tag_frequency"
_BETWEEN = re.compile(r"[,;，、；\n]")
_RARE = 0.5  # of the most frequent tag's count: tags below describe single clips


@dataclass(frozen=True)
class AboutLora:
    """`ranks`: the lowest and the highest of its layers'; None where it has no matrices. Texts are empty where the file
    does not tell. `base`: what it was trained on, in the trainer's own words."""

    ranks: tuple[int, int] | None = None
    title: str = ""
    base: str = ""
    trigger_words: tuple[str, ...] = ()
    licence: str = ""


def about_lora(tensors: Mapping[str, TensorPlace], metadata: Mapping[str, str]) -> AboutLora:
    """What the header of a file with these `tensors` and `metadata` says."""
    return AboutLora(
        _ranks(tensors),
        *(_first(metadata, keys) for keys in (_TITLES, _BASES)),
        trigger_words(metadata),
        _first(metadata, _LICENCES),
    )


def trigger_words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The words that call the LoRA: those that the file names; else the most frequent tags of its captions."""
    for key in _TRIGGERS:
        if words := _few(_BETWEEN.split(",".join(_texts(metadata.get(key))))):
            return words
    return _few(_frequent_tags(_json(metadata.get(_TAGS))))


def _ranks(tensors: Mapping[str, TensorPlace]) -> tuple[int, int] | None:
    found = ((lora_tensor(name), place.shape) for name, place in tensors.items())
    ranks = [shape[0] for tensor, shape in found if tensor is not None and tensor.part == "A" and shape]
    return (min(ranks), max(ranks)) if ranks else None


def _first(metadata: Mapping[str, str], keys: Iterable[str]) -> str:
    return next((text for key in keys if (text := _shortened(_plain(metadata.get(key) or "")))), "")


def _frequent_tags(tags: Any) -> list[str]:
    """Tags by how often they occur, over all folders of the trainer's data."""
    counts: Counter[str] = Counter()
    for folder in tags.values() if isinstance(tags, dict) else ():
        for tag, count in folder.items() if isinstance(folder, dict) else ():
            if isinstance(count, int) and count > 0 and len(tag) <= LONGEST_WORD:
                counts[tag] += count
    most = max(counts.values(), default=0)
    return [tag for tag, count in counts.most_common() if count >= most * _RARE]


def _few(words: Iterable[str]) -> tuple[str, ...]:
    """The first of `words`, each once, without those that are too long for one."""
    once: dict[str, str] = {}
    for word in map(_plain, words):
        if 0 < len(word) <= LONGEST_WORD:
            once.setdefault(word.casefold(), word)
    return tuple(once.values())[:MOST_WORDS]


def _texts(value: Any) -> Iterator[str]:
    """The texts of a value, which may be a list of such, as JSON."""
    read = _json(value)
    for one in read if isinstance(read, list) else [value] if read is None else ():
        if isinstance(one, str):
            yield one


def _json(value: Any) -> Any:
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _plain(text: str) -> str:
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1].rstrip() + "…"
