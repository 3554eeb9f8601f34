"""Gradio is imported without the stubs it writes about itself, and is the same Gradio."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MAKES_USE_OF_IT = """
assert {name}.Mine.EVENTS and callable({name}.Mine().change)
with gr.Blocks():
    {name}.Mine().change(lambda text: text)
"""
COMPONENT = "import gradio as gr\n\n\nclass Mine(gr.Textbox):\n    pass\n"


def stubs_after(folder: Path, *lines: str) -> set[str]:
    """Which components of ours have a stub beside them after a process ran `lines`. Those that the lines import are
    made use of."""
    program = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    for line in lines:
        program += f"{line}\n"
        name = line.removeprefix("import ")
        if name.startswith("component_"):
            (folder / f"{name}.py").write_text(COMPONENT)
            program += "import gradio as gr" + MAKES_USE_OF_IT.format(name=name)
    subprocess.run([sys.executable, "-c", program], check=True)
    return {path.stem for path in folder.glob("*.pyi")}


def test_a_component_gets_no_stub_and_keeps_its_events(tmp_path: Path) -> None:
    assert stubs_after(tmp_path, "import i2v.ui", "import component_a") == set()


def test_gradio_alone_still_writes_them_until_our_page_is_imported(tmp_path: Path) -> None:
    """Where it no longer does, `i2v/ui/quick_import.py` can go."""
    made = stubs_after(tmp_path, "import gradio", "import component_a", "import i2v.ui", "import component_b")
    assert made == {"component_a"}
