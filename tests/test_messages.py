"""The texts: every one there in every language, with the same places, and every id the code uses among them."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path
from string import Formatter

import pytest
import yaml

from i2v.messages import LOCALES, Message, UserError, catalogue, message

PACKAGE = Path(__file__).parents[1] / "i2v"
LOCALES_DIR = PACKAGE / "locales"
AREAS = sorted(path.stem for path in (LOCALES_DIR / "en").glob("*.yaml"))
MAKERS = ("message", "Message", "UserError")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def places(text: str) -> set[str]:
    """The names in `{}`."""
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@cache
def calls() -> list[tuple[str, ast.Call]]:
    """Every call in the code that makes a message: (file and line, call)."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node, "func", None)
            if isinstance(node, ast.Call) and isinstance(name, ast.Name) and name.id in MAKERS and node.args:
                found.append((f"{path.relative_to(PACKAGE.parent)}:{node.lineno}", node))
    return found


def constant_ids(node: ast.expr) -> list[str]:
    """The ids that an expression can be, as far as they are written out there."""
    if isinstance(node, ast.Constant):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return constant_ids(node.body) + constant_ids(node.orelse)
    return []


def test_there_are_texts_to_check() -> None:
    assert {"settings", "request", "cli"} <= set(AREAS)
    assert len(calls()) > 50


@pytest.mark.parametrize("area", AREAS)
def test_a_catalogue_is_a_flat_map_of_text_without_doubles(area: str) -> None:
    for locale in LOCALES:
        text = (LOCALES_DIR / locale / f"{area}.yaml").read_text(encoding="utf-8")
        texts = yaml.safe_load(text)
        assert all(isinstance(name, str) and isinstance(words, str) and words for name, words in texts.items())
        names = [line.partition(":")[0] for line in text.splitlines() if re.match(r"\w+:", line)]
        assert len(names) == len(set(names)), f"a text stands twice in {locale}/{area}.yaml"


def test_every_text_is_there_in_every_language_with_the_same_places() -> None:
    english = catalogue("en")
    for locale in LOCALES:
        texts = catalogue(locale)
        assert sorted(texts) == sorted(english), f"{locale} is not complete"
        assert [name for name in texts if places(texts[name]) != places(english[name])] == []


def test_each_language_is_that_language() -> None:
    english, chinese = catalogue("en"), catalogue("zh-CN")
    # A language's own name is written in that language.
    assert [name for name, text in english.items() if CHINESE.search(text) and not name.startswith("ui.")] == []
    sentences = [name for name, text in english.items() if text.endswith((".", "?")) and len(text) > 12]
    assert [name for name in sentences if not CHINESE.search(chinese[name])] == []


def test_every_id_in_the_code_has_a_text() -> None:
    known = catalogue("en")
    unknown = [
        f"{where} {message_id}"
        for where, call in calls()
        for message_id in constant_ids(call.args[0])
        if message_id not in known
    ]
    assert unknown == []


def test_every_id_put_together_in_the_code_can_be_a_text() -> None:
    known = catalogue("en")
    for where, call in calls():
        if isinstance(call.args[0], ast.JoinedStr):
            parts = [
                re.escape(part.value) if isinstance(part, ast.Constant) else r"\w+" for part in call.args[0].values
            ]
            pattern = re.compile("".join(parts))
            assert any(pattern.fullmatch(name) for name in known), where


def test_every_place_is_filled_where_the_text_is_used() -> None:
    known = catalogue("en")
    for where, call in calls():
        given = {keyword.arg for keyword in call.keywords}
        if None in given or call.func.id == "Message":  # type: ignore[attr-defined]
            continue  # **params, or a mapping: filled elsewhere
        for message_id in constant_ids(call.args[0]):
            missing = places(known.get(message_id, "")) - given
            assert not missing, f"{where}: {message_id} needs {sorted(missing)}"


def test_a_text_nobody_uses_is_gone() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*") if path.suffix in (".py", ".js"))
    strings = set(re.findall(r"[\w.]+", code))
    unused = [name for name in catalogue("en") if name not in strings and name.partition(".")[2] not in strings]
    # Put together from a beginning and a place, or from a plan's key and its value.
    beginnings = (*re.findall(r"[\"'`](?:[a-z]+\.)?([a-z_]+_)\{", code), "cfg_", "offload_", "policy_")
    assert [name for name in unused if not name.partition(".")[2].startswith(beginnings)] == []


# --- the code itself ---


def test_a_message_survives_a_pipe() -> None:
    text = message("settings.bad_whole", name="port", value="x", low=1, high=2)
    assert Message.from_json(text.to_json()) == text
    assert UserError("cli.file_missing").message == Message("cli.file_missing")


def test_a_key_is_called_by_its_name_in_the_readers_language() -> None:
    told = message("request.hint_tokens", key="prompt", tokens=90, model="Nano", limit=77, last="rain")
    assert "prompt" not in told.render("zh-CN")
    assert told.render("zh-CN").startswith("提示词约有 90")
    assert told.render().startswith("The prompt is about 90")
    for name in ("not_text", "text_too_long", "control_character"):
        told = message(f"request.{name}", key="negative", value="7", chars=9, limit=8, code="U+0000", position=1)
        assert "negative" not in told.render("zh-CN")
        assert "The negative prompt" in told.render()
    unknown = message("request.unknown_key", key="prompt", known="fps")  # what somebody wrote stays as it is
    assert "prompt" in unknown.render("zh-CN")


def test_a_message_within_a_message_is_said_in_the_same_language_after_a_pipe_too() -> None:
    inner = message("nano.camera_weak", motion=message("nano.camera_zoom_in").to_json())
    outer = message("nano.motion", moves=inner.to_json())
    for told in (outer, Message.from_json(json.loads(json.dumps(outer.to_json())))):
        assert told.render() == "Motion: slow zoom in."
        assert told.render("zh-CN") == "运动：缓慢放大。"


def test_a_language_we_do_not_have_reads_english_and_an_unknown_id_shows_itself() -> None:
    assert message("cli.column_value").render("fr") == "value"
    assert message("no.such", a=1).render() == "no.such {'a': 1}"
