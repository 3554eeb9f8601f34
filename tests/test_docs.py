"""What the documents claim: tables from result files, links and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import report

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "README_OPTIMIZATION.md", "docs/architecture.md")


def test_tables_are_those_of_the_result_files():
    assert report.main(["--check"]) == 0


def test_a_changed_figure_is_seen():
    document = report.DOCUMENT.read_text(encoding="utf-8")
    changed = document.replace("| 2.59 |", "| 2.58 |")
    assert changed != document
    assert report.render(changed) == document


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_commands_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    scripts = re.findall(r"bash (\w+\.sh)", text)
    modules = re.findall(r"python -m (bench\.\w+|tools\.\w+)", text)
    wanted = [*links, *scripts, *(f"{module.replace('.', '/')}.py" for module in modules)]
    assert not [path for path in wanted if not ((ROOT / name).parent / path).exists() and not (ROOT / path).exists()]


def test_every_flag_of_the_readme_is_one():
    sources = [ROOT / "i2v/launcher.py", *(ROOT / "i2v/cli").glob("*.py")]
    known = "".join(path.read_text(encoding="utf-8") for path in sources)
    flags = set(re.findall(r"`(?:bash start_app\.sh )?(--[a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert len(flags) > 8
    assert not [flag for flag in flags if f'"{flag}"' not in known]
