"""What the result of a dry run depends on, as one short text for each family. Nothing here imports torch.

What this machine's cache holds was found by some code, from some configuration, with some versions of the libraries.
Where one of them is another now, the text is another, and what was found is found anew. Comments, docstrings and the
layout of the code are not in it; nor is one family's code in another's text, but for those that it builds on.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from i2v.families import SPECS

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "diffusers", "transformers")
# What every family's dry run executes, and what only one's does. Of the specs it reads three values, see below.
# measure.py asks cards.
_FOLLOWING = (
    "dryrun/[!m]*.py",
    "models/gguf_files.py",
    "planning/pipeline.py",
    "planning/work.py",
    "vae_window.py",
)
SHARED = ("families/*.py", "memory/*.py", *_FOLLOWING)
CODE = "families/{}/*.py"
OWN = (CODE, "families/{}/configs/*/config.json", "assets/{}/*/config.json")
LEFT_OUT = ("__init__.py", "spec.py", "training.py", "trainable.py")


@cache
def code_key(family: str) -> str:
    """The digest of all that a dry run of this family depends on beside the question itself."""
    parts = (
        _digest_of(SHARED),
        _digest_of(own(family)),
        str(SPECS[family].max_prompt_tokens),
        str(SPECS[family].longer),
        str(SPECS[family].gguf_components),
        *library_versions().values(),
    )
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def own(family: str) -> tuple[str, ...]:
    """Which files are this family's and not every one's: its own, and the code of the families that it builds on."""
    return (*(pattern.format(family) for pattern in OWN), *(CODE.format(one) for one in SPECS[family].builds_on))


@cache
def library_versions() -> dict[str, str]:
    """The installed version of every library that a dry run goes through, read from its package, whatever card it was
    built for; "" for none."""
    return {library: _version(library).partition("+")[0] for library in LIBRARIES}


def followed(patterns: Iterable[str]) -> list[Path]:
    """The files that `patterns` name, without those that a dry run does not depend on."""
    found = (path for pattern in patterns for path in sorted(PACKAGE.glob(pattern)))
    return [path for path in found if path.name not in LEFT_OUT]


def bare_code(source: str) -> str:
    """What a module does: its syntax tree as text, without docstrings and other strings that stand alone. Comments and
    line numbers are not in a tree."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [statement for statement in body if not _is_string(statement)]
    return ast.dump(tree, annotate_fields=False)


def _is_string(statement: ast.AST) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


@cache
def _digest_of(patterns: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for path in followed(patterns):
        text = path.read_text(encoding="utf-8")
        content = bare_code(text) if path.suffix == ".py" else text
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0{content}\0".encode())
    return digest.hexdigest()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
