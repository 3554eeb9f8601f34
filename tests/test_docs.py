"""What the documents claim: tables from result files, links and commands that exist."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from cli_support import i2v

from bench import report
from i2v.families import SPECS
from i2v.families.spec import Licence
from i2v.settings.keys import KEYS
from i2v.settings.settings import _OTHER_VARIABLES
from i2v.setup import launcher
from tools import models_page

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    *("README.md", "README_OPTIMIZATION.md", "docs/architecture.md", "docs/first_five_minutes.md"),
    *("docs/models.md", "docs/adding_a_family.md"),
)


def test_tables_are_those_of_the_result_files():
    assert report.main(["--check"]) == 0


def test_a_changed_figure_is_seen():
    document = report.DOCUMENT.read_text(encoding="utf-8")
    changed = document.replace("| 2.59 |", "| 2.58 |")
    assert changed != document
    assert report.render(changed) == document


def test_the_page_of_models_says_what_the_specs_say(monkeypatch):
    assert models_page.main(["--check"]) == 0, "run python -m tools.models_page"
    monkeypatch.setitem(SPECS, "nano", replace(SPECS["nano"], licence=Licence("GPL 3")))
    assert models_page.main(["--check"]) == 1


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_commands_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    scripts = re.findall(r"bash (\w+\.sh)", text)
    modules = re.findall(r"python -m (bench\.\w+|tools\.\w+)", text)
    wanted = [*links, *scripts, *(f"{module.replace('.', '/')}.py" for module in modules)]
    assert not [path for path in wanted if not ((ROOT / name).parent / path).exists() and not (ROOT / path).exists()]


def test_the_table_of_what_fits_where_is_what_the_planner_says_now(tmp_path):
    said = i2v(tmp_path, "plan", "--table", "--json")
    assert said.returncode == 0, said.stderr
    kept = (ROOT / "bench/results/plan_table.json").read_text(encoding="utf-8")
    assert json.loads(said.stdout) == json.loads(kept), (
        "run python -m i2v plan --table --json > bench/results/plan_table.json"
    )


def test_every_flag_of_the_readme_is_one(tmp_path, capsys):
    known = "".join(i2v(tmp_path, command, "--help").stdout for command in ("generate", "plan", "models"))
    with pytest.raises(SystemExit):
        launcher.main(["--help"])
    known += capsys.readouterr().out
    flags = set(re.findall(r"`(?:bash start_app\.sh )?(--[a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert len(flags) > 8
    assert not [flag for flag in flags if flag not in known]


def _variables_read() -> set[str]:
    """The I2V_ variables that are settings, or that the program asks the environment for by name."""
    found = {f"I2V_{key.upper()}" for key in KEYS}
    for path in (*ROOT.glob("*.py"), *(ROOT / "i2v").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            asked = None
            if isinstance(node, ast.Subscript):
                asked = node.value, node.slice
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                asked = node.func.value, node.args[0]
            if asked and ast.unparse(asked[0]).endswith("environ") and isinstance(asked[1], ast.Constant):
                found.add(str(asked[1].value))
    return {name for name in found if name.startswith("I2V_")}


def test_every_variable_of_ours_that_is_named_is_read_and_the_other_way_round():
    files = [ROOT / name for name in ("config.yaml", *DOCUMENTS)]
    files += [*ROOT.glob("*.sh"), *(ROOT / "i2v").rglob("*.toml"), *(ROOT / "i2v" / "locales").rglob("*.yaml")]
    texts = "\n".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r"\bI2V_[A-Z0-9_]*[A-Z0-9]\b", texts))
    assert {"I2V_TORCH_INDEX", "I2V_PORT"} <= named
    read, settings = _variables_read(), {f"I2V_{key.upper()}" for key in KEYS}
    assert named | set(_OTHER_VARIABLES) <= read
    assert read - settings == set(_OTHER_VARIABLES) <= named  # config.yaml names every setting by its key


def test_no_picture_is_kept_that_no_page_shows():
    shown = "".join((ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS)
    assert [path.name for path in (ROOT / "docs" / "screenshots").iterdir() if path.name not in shown] == []
