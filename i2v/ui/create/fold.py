"""A part of the page that is folded away, and there all the same: Gradio's own accordion makes what it holds only when
it is opened; until then nothing in it can be heard to change, and what is typed at once is taken back. The page's
script turns it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr


@contextmanager
def fold(label: Any, elem_id: str) -> Iterator[gr.Button]:
    """What is laid out within is shown while the button above it, named `label`, stands open. Gives the button."""
    with gr.Column(elem_id=elem_id, elem_classes="i2v-fold"):
        button = gr.Button(label, elem_classes="i2v-fold-button")
        with gr.Column(elem_classes="i2v-folded"):
            yield button
