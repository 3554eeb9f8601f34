"""The key of what a dry run depends on: another for other code, configuration and libraries, and for nothing else."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from i2v.families import SPECS
from i2v.planning import code_key as module
from i2v.planning.code_key import PACKAGE, SHARED, bare_code, followed, own

FAMILIES = tuple(SPECS)
FUTURE = "from __future__ import annotations\n"  # with which every file begins that has code


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of what keys are made of, to be changed."""
    copy = tmp_path / "i2v"
    patterns = ("families/*.py", "families/*/*.py", *SHARED, *(one for family in SPECS for one in own(family)))
    for path in {path for pattern in patterns for path in PACKAGE.glob(pattern)}:
        target = copy / path.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    monkeypatch.setattr(module, "PACKAGE", copy)
    yield copy
    forget()


def forget() -> None:
    for cached in (module.code_key, module._digest_of, module.library_versions):
        cached.cache_clear()


def keys() -> dict[str, str]:
    """Those of every family, as a process would have them that starts now."""
    forget()
    return {family: module.code_key(family) for family in FAMILIES}


def differ_after(change: Callable[[], object]) -> set[str]:
    """The families whose key is another after `change`."""
    before = keys()
    change()
    after = keys()
    return {family for family in FAMILIES if before[family] != after[family]}


def edit(path: Path, old: str, new: str) -> Callable[[], object]:
    text = path.read_text(encoding="utf-8")
    assert old in text
    return lambda: path.write_text(text.replace(old, new, 1), encoding="utf-8")


SOURCE = '''"""A module."""

from math import pi  # the usual one

SIDE = 3
"""Pixels."""


class Shape:
    """A class."""

    # nothing to keep
    def area(self, side: int) -> float:
        """A method."""
        return pi * side
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""A module, in other words."""'),
        ('"""A module."""\n', ""),
        ('"""A class."""\n', ""),
        ('"""Pixels."""\n', '"""Of the smallest picture."""\n'),
        ('"""A method."""\n', '"""A method\n\n        in many lines."""\n\n'),
        ("  # the usual one", ""),
        ("# nothing to keep", "# two lines\n\n    # of comments"),
        ("return pi * side", "return (\n            pi * side\n        )"),
    ],
)
def test_words_and_layout_are_no_code(old, new):
    assert old in SOURCE
    assert bare_code(SOURCE.replace(old, new)) == bare_code(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("pi * side", "pi + side"), ("SIDE = 3", 'SIDE = "3"'), ("return pi", "return -pi"), ("area", "volume")],
)
def test_code_is(old, new):
    assert bare_code(SOURCE.replace(old, new)) != bare_code(SOURCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_familys_code_is_in_its_own_key_and_those_of_families_that_build_on_it(package, family):
    path = package / f"families/{family}/model.py"
    building = {name for name, spec in SPECS.items() if family in spec.builds_on}
    assert differ_after(edit(path, FUTURE, f"{FUTURE}\nUNHEARD_OF = 1")) == {family, *building}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_comment_in_a_familys_code_is_in_no_key(package, family):
    path = package / f"families/{family}/model.py"
    assert differ_after(edit(path, FUTURE, f"{FUTURE}\n# another word")) == set()


@pytest.mark.parametrize("name", ["families/phases.py", "memory/chunking.py", "planning/work.py"])
def test_shared_code_is_in_every_key(package, name):
    assert differ_after(edit(package / name, "\n\n\n", "\n\nUNHEARD_OF = 1\n\n\n")) == set(FAMILIES)


def test_a_new_family_is_in_no_others_key(package):
    def found_a_family() -> None:
        shutil.copytree(package / "families/nano", package / "families/fresh")
        shutil.copytree(package / "assets/nano", package / "assets/fresh")
        edit(package / "families/__init__.py", "SPECS:", "NOTHING = 1\nSPECS:")()

    assert differ_after(found_a_family) == set()


def test_a_configuration_is_in_its_familys_key(package):
    for family, path in (("nano", "assets/nano/unet"), ("i2vgen_xl", "families/i2vgen_xl/configs/vae")):
        assert differ_after(edit(package / path / "config.json", "{", '{"unheard_of": 1,')) == {family}


def test_of_a_spec_only_the_length_of_prompts_is_in_the_key(package, monkeypatch):
    def change(**values: object) -> Callable[[], object]:
        return lambda: monkeypatch.setitem(SPECS, "nano", replace(SPECS["nano"], **values))

    assert differ_after(change(max_frames=7, title="Other")) == set()
    assert differ_after(change(max_prompt_tokens=7)) == {"nano"}


@pytest.mark.parametrize("library", module.LIBRARIES)
def test_a_librarys_version_is_in_every_key_and_its_build_is_not(monkeypatch, library):
    versions = module.library_versions()
    assert versions[library]

    def key_with(version: str) -> str:
        monkeypatch.setattr(module, "_version", lambda name: version if name == library else versions[name])
        module.library_versions.cache_clear()
        return module.code_key.__wrapped__(FAMILIES[0])

    before = module.code_key(FAMILIES[0])
    assert key_with(f"{versions[library]}+cu999") == before
    assert key_with(f"{versions[library]}.1") != before
    module.library_versions.cache_clear()


# What dry runs import besides: it is in their results only by what a question asks and a row holds, or (the host) only
# in what a real card does.
OUTSIDE = {
    "i2v.families",
    "i2v.hardware.host",
    "i2v.messages",
    "i2v.plan",
    "i2v.planning.known",
    "i2v.request",
    "i2v.units",
    "i2v.video.sound",  # that there is sound: dry runs hear none of it
}

LOADING = {"i2v.models.verify", "i2v.families.i2vgen_xl.spec"}
"""What finds a checkpoint's files, which dry runs never read."""
READING = {"i2v.video.region", "i2v.video.compressed"}
"""What reads a painted region on the host, of which a network sees as many cells whatever it is, and what compresses a
photograph, which keeps its size."""
FIXED = {f"i2v.families.{family}.spec" for family in ("wan22", "wan22_i2v", "ltx2", "minimax_h3")}
"""Specs from which a model has what its makers fixed, and how many tokens it reads, which is in the key."""


@pytest.mark.parametrize("family", FAMILIES)
def test_all_that_a_dry_run_imports_is_in_its_key(family):
    followed_files = {*followed(SHARED), *followed(own(family))}
    waiting, seen = ["i2v.dryrun.runner", f"i2v.families.{family}.skeleton"], set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += imports(name) if file_of(name) in followed_files else []
    assert {name for name in seen if file_of(name) not in followed_files} - LOADING - READING - FIXED == OUTSIDE


def file_of(name: str) -> Path:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports(name: str) -> list[str]:
    """The modules of ours that a module imports."""
    found = []
    for node in ast.walk(ast.parse(file_of(name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [one if file_of(one).is_file() else node.module for one in inner]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return sorted({one for one in found if one.split(".")[0] == "i2v"})
