"""The floors of the house: imports go down only, and what must stay apart stays apart. See docs/architecture.md."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the top. A module belongs to the first floor whose pattern its name matches; it may import its own floor's
# rooms only as SAME_FLOOR allows, and any floor below.
FLOORS = (
    ("entry", r"app|i2v\.__main__"),
    ("page and command line", r"i2v\.(ui|cli)(\..*)?"),
    ("jobs", r"i2v\.jobs(\..*)?"),
    ("downloads", r"i2v\.downloads(\..*)?"),
    ("worker", r"i2v\.worker(\..*)?"),
    ("engine", r"i2v\.engine(\..*)?"),
    ("dry runs", r"i2v\.dryrun(\..*)?"),
    ("training, with torch", r"i2v\.training(\.(?!(asked|clips|losses|request|words)$).*)?"),
    (
        "families, with torch",
        r"i2v\.families\.(adapters|anchors|base|blocks|components|differences|fused|gguf_weights|guidance|ordinary|packed|phases"
        r"|pixels|schedulers|skeletons|t5|text"
        r"|trainable|weights|(?!framepack\.layout$|ltx2\.stages$)\w+\.(?!spec$)\w+)",
    ),
    ("memory", r"i2v\.memory(\..*)?"),
    ("planning", r"i2v\.planning(\..*)?"),
    (
        "pictures, videos, models, specs",
        r"i2v\.(video|models|families|finishing|training\.(asked|clips|losses))(\..*)?",
    ),
    ("settings", r"i2v\.settings(\..*)?"),
    ("hardware", r"i2v\.hardware(\..*)?"),
    (
        "what travels",
        r"i2v\.(request|plan|vae_window|family_settings|events|job_progress|wire|training\.(request|words))(\..*)?",
    ),
    ("messages", r"i2v(\.(messages|units))?"),
    ("set-up, before anything is installed", r"i2v\.(setup|whole_file)(\..*)?"),
)
NO_TORCH = (
    "entry",
    "page and command line",
    "jobs",
    "downloads",
    "planning",
    "pictures, videos, models, specs",
    "settings",
    "hardware",
)
HEAVY = {"torch", "diffusers", "transformers", "accelerate"}


@cache
def _modules() -> dict[str, Path]:
    files = [*ROOT.glob("*.py"), *(ROOT / "i2v").rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def _floor(module: str) -> int:
    for number, (_, pattern) in enumerate(FLOORS):
        if re.fullmatch(pattern, module):
            return number
    raise AssertionError(f"{module} stands on no floor: give it one in FLOORS and draw it in docs/architecture.md")


@cache
def _imports(path: Path) -> set[str]:
    """Every module imported anywhere in the file, but for what only type checkers read."""
    tree, known = ast.parse(path.read_text(encoding="utf-8")), _modules()
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return found


def test_imports_go_down_only():
    known = _modules()
    climbing = []
    for module, path in known.items():
        for target in _imports(path) & known.keys():
            if _floor(target) < _floor(module):
                climbing.append(f"{module} ({FLOORS[_floor(module)][0]}) imports {target}")
    assert not climbing


# The rooms of a floor, from the top; files beside them stand above all.
ROOMS = {
    "i2v.jobs": ("lane", "list", "job", "asked", "process"),
    "i2v.ui": ("gallery", "train", "queue", "create", "system", "gate", "shown"),
}


@pytest.mark.parametrize("floor", ROOMS)
def test_rooms_of_a_floor_import_downwards_only(floor: str):
    order, known = ROOMS[floor], _modules()

    def room(module: str) -> str:
        return module.removeprefix(f"{floor}.").partition(".")[0]

    assert {path.parent.name for path in (ROOT / floor.replace(".", "/")).glob("*/__init__.py")} == set(order)
    climbing = [
        f"{module} imports {target}"
        for module, path in known.items()
        if module.startswith(f"{floor}.") and room(module) in order
        for target in _imports(path) & known.keys()
        if room(target) in order and order.index(room(target)) < order.index(room(module))
    ]
    assert not climbing


def test_the_torch_free_floors_name_no_heavy_library():
    known = _modules()
    named = [
        f"{module} imports {target}"
        for module, path in known.items()
        if FLOORS[_floor(module)][0] in NO_TORCH
        for target in _imports(path)
        if target.split(".")[0] in HEAVY
    ]
    assert not named


def test_below_the_page_nobody_names_gradio():
    known = _modules()
    assert not [
        module
        for module, path in known.items()
        if not module.startswith(("i2v.ui", "app")) and any(t.split(".")[0] == "gradio" for t in _imports(path))
    ]


# Moving what is whole already, and what waits for its own room to be done over.
RENAMES = {"i2v.jobs.job.bin", "i2v.jobs.list.file"}


def test_one_name_for_one_class():
    """But for what implements a contract under the name that the contract has."""
    named: dict[str, list[ast.ClassDef]] = {}
    for path in (ROOT / "i2v").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                named.setdefault(node.name, []).append(node)

    def is_contract(node: ast.ClassDef) -> bool:
        return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)

    several = {name for name, nodes in named.items() if len([one for one in nodes if not is_contract(one)]) > 1}
    assert several == set()


def test_files_are_written_whole_in_one_way():
    """`Path.replace` takes one argument; a text's and a date's take others."""
    found = {
        module
        for module, path in _modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in ("rename", "fsync")
        or (node.func.attr == "replace" and len(node.args) == 1 and not node.keywords)
        or ast.unparse(node.func) == "os.replace"
    }
    assert "i2v.whole_file" in found
    assert found - {"i2v.whole_file"} <= RENAMES


def test_jobs_do_not_import_the_worker():
    known = _modules()
    assert not [
        module
        for module, path in known.items()
        if module.startswith("i2v.jobs") and any(t.startswith("i2v.worker") for t in _imports(path))
    ]


def test_nothing_unpickles():
    """safetensors and JSON only."""
    words = re.compile(r"torch\.load|import pickle|allow_pickle=True|unsafe_load|FullLoader|weights_only=False")
    assert not [path for path in (ROOT / "i2v").rglob("*.py") if words.search(path.read_text(encoding="utf-8"))]


def test_every_room_is_drawn():
    """docs/architecture.md names every folder and top module of the package."""
    drawn = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = [p for p in (ROOT / "i2v").iterdir() if p.name not in ("__pycache__", "__init__.py", "__main__.py")]
    assert not [p.name for p in rooms if p.name not in drawn]


def test_drawn_files_are_there():
    drawn = re.findall(
        r"`((?:i2v|tests|bench|tools|docs|presets)/[\w./-]+)`", (ROOT / "docs/architecture.md").read_text()
    )
    assert drawn
    assert not [name for name in drawn if not (ROOT / name).exists()]


def test_the_top_level_is_as_agreed():
    agreed = "app.py start_app.sh config.yaml i2v presets outputs logs requirements.txt README_OPTIMIZATION.md"
    also = "README.md LICENSE run_tests.sh tests bench tools docs .ci requirements-dev.txt pyproject.toml .gitignore"
    extra = "requirements-mcp.txt requirements-modelscope.txt requirements-quantised.txt"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not listed:
        pytest.skip("not a git checkout")
    tracked = {line.split("/")[0] for line in listed.splitlines()}
    assert tracked == set(f"{agreed} {also} {extra}".split())
