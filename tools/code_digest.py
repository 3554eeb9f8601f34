"""A digest of what Python files do: comments, docstrings and layout do not count, everything else does."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_digest(paths: Iterable[Path]) -> str:
    """Hexadecimal. The files count with their own names and in the order of these, whatever folder they lie in.

    Raises SyntaxError where a file is not Python."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: (path.name, path.as_posix())):
        code = ast.parse(path.read_text(encoding="utf-8"), filename=path.as_posix())
        for part in (path.name, *_parts(code)):
            digest.update(part.encode() + b"\n")
    return digest.hexdigest()


def _parts(node: ast.AST) -> Iterator[str]:
    """The tree from its root down. Not `ast.dump`: that writes empty fields, and newer Pythons have more of them."""
    yield type(node).__name__
    for name, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        if name == "body" and isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            children = children[1:]
        if isinstance(node, ast.Constant) or any(child is not None for child in children):
            yield f"{name} {len(children)}"
            for child in children:
                if isinstance(child, ast.AST):
                    yield from _parts(child)
                else:
                    yield repr(child)
