"""Gradio is imported without the stubs it writes about itself, and is the same Gradio."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WRITES_A_COMPONENT = """
{before}
import gradio as gr
import mine
assert mine.Mine.EVENTS and callable(mine.Mine().change)
with gr.Blocks():
    mine.Mine().change(lambda text: text)
"""
COMPONENT = "import gradio as gr\n\n\nclass Mine(gr.Textbox):\n    pass\n"


def stub_after(folder: Path, before: str) -> bool:
    """Whether a stub stands beside a component of ours after it was imported and made use of."""
    (folder / "mine.py").write_text(COMPONENT)
    program = WRITES_A_COMPONENT.format(before=f"import sys; sys.path.insert(0, {str(folder)!r})\n{before}")
    subprocess.run([sys.executable, "-c", program], check=True)
    return (folder / "mine.pyi").exists()


@pytest.mark.parametrize("before", ["import i2v.ui", "import gradio, i2v.ui"])
def test_a_component_gets_no_stub_and_keeps_its_events(tmp_path: Path, before: str) -> None:
    assert not stub_after(tmp_path, before)


def test_gradio_alone_still_writes_them(tmp_path: Path) -> None:
    """Where it no longer does, `i2v/ui/quick_import.py` can go."""
    assert stub_after(tmp_path, "")
