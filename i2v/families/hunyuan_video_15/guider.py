"""How a checkpoint of HunyuanVideo-1.5 says that it is guided: in a file of its own, of which we know one kind."""

from __future__ import annotations

import json
from pathlib import Path

from i2v.messages import UserError

FILE = "guider_config.json"
KNOWN = "ClassifierFreeGuidance"
PLAIN = {"use_original_formulation": False, "start": 0.0, "stop": 1.0}
"""What else it may say. How strong guidance is, and by how much it is scaled back, a request says."""


def check_guider(folder: Path) -> None:
    """Raise UserError where the checkpoint in `folder` is guided otherwise than by a second pass without the sentence,
    in every step. A checkpoint that does not say is guided so."""
    path = folder / "guider" / FILE
    if not path.is_file():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    found = {name: config[name] for name, plain in PLAIN.items() if config.get(name, plain) != plain}
    kind = config.get("_class_name", KNOWN)
    if kind != KNOWN or found:
        settings = ", ".join(f"{name}={value}" for name, value in found.items())
        raise UserError("family.guider_unknown", guider=kind, settings=settings or "-", known=KNOWN)
