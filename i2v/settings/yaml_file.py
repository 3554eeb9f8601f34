"""Read a flat YAML mapping written by a person, with errors that name the file and the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from i2v.messages import UserError
from i2v.settings.values import shown


class _Duplicate(Exception):
    def __init__(self, key: Any, line: int) -> None:
        super().__init__(key)
        self.key, self.line = key, line


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise _Duplicate(key_node.value, key_node.start_mark.line + 1)
            if isinstance(key_node.value, str):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path, name: str) -> dict[str, Any]:
    """The mapping in `path`, {} for an empty file. `name` is how messages call the file.

    Raises UserError where the file cannot be read, is not UTF-8, not YAML, not a mapping, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError("settings.not_utf8", file=name) from None
    except OSError as error:
        raise UserError("settings.unreadable", file=name, path=str(path), reason=error.strerror or "") from None
    try:
        values = yaml.load(text, _Loader)
    except _Duplicate as error:
        raise UserError("settings.duplicate_key", file=name, key=shown(error.key), line=error.line) from None
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, name) from None
    except (ValueError, RecursionError):  # an impossible date such as 2026-99-99, or brackets without end
        raise UserError("settings.not_mapping", file=name) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError("settings.not_mapping", file=name)
    return {str(key): value for key, value in values.items()}


def _syntax_error(error: yaml.YAMLError, text: str, name: str) -> UserError:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        position = getattr(error, "position", 0)
        return UserError("settings.bad_yaml", file=name, line=text.count("\n", 0, position) + 1, text="")
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    message_id = "settings.yaml_tab" if "\t" in line else "settings.bad_yaml"
    return UserError(message_id, file=name, line=mark.line + 1, text=shown(line.strip()))
