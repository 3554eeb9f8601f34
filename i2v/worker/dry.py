"""The child that plans: it runs jobs dry, one line in, one line out, and stays warm, since imports are most of the
time. A dry run loads no weights, and no card is seen.

    in   {"family": ..., "folder": ... or null, "request": {...}, "plan": {...}, "phases": [...]}
    out  {"found": {...}} or {"error": "..."}

It also answers what a model says of a sentence. For that it loads the parts of the model that read, and keeps them.

    in   {"telling": family, "folder": ..., "request": {...}}
    out  {"said": [message, ...]} or {"error": "..."}

With a small photograph besides ("photograph": an image file in base64) it answers where in it that is to happen.

    out  {"region": "..." or null} or {"error": "..."}
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import logging
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.worker.life import end_with_parent, take_stdin

if TYPE_CHECKING:
    from i2v.families.base import Teller


def main() -> int:
    """Answer until the parent hangs up or dies."""
    end_with_parent(int(sys.argv[1]))
    logging.disable(logging.WARNING)
    questions, answers = take_stdin(), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    from i2v.dryrun.runner import DryRunner

    runner, teller = lru_cache(maxsize=4)(DryRunner), lru_cache(maxsize=2)(_load_teller)
    for line in questions:
        asked = json.loads(line)
        answer = _said(teller, asked) if "telling" in asked else _answer(runner, asked)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


def _answer(runner: Any, asked: dict[str, Any]) -> dict[str, Any]:
    request, plan = GenerationRequest.from_json(asked["request"]), Plan.from_json(asked["plan"])
    folder = None if asked["folder"] is None else Path(asked["folder"])
    try:
        model = runner(asked["family"], folder, plan.precision, plan.weights, plan.wide_convolutions)
        return {"found": model.run(request, plan, asked["phases"]).to_json()}
    except Exception as error:  # whatever a stranger's configuration makes of it: the parent says so and goes on
        logging.getLogger(__name__).exception("A dry run failed")
        return {"error": f"{type(error).__name__}: {error}"}


def _load_teller(family: str, folder: Path) -> Teller:
    return importlib.import_module(f"i2v.families.{family}.telling").load(folder)


def _said(teller: Callable[[str, Path], Teller], asked: dict[str, Any]) -> dict[str, Any]:
    request = GenerationRequest.from_json(asked["request"])
    try:
        model = teller(asked["telling"], Path(asked["folder"]))
        if "photograph" in asked:
            with Image.open(io.BytesIO(base64.b64decode(asked["photograph"]))) as photograph:
                return {"region": model.finds(request, photograph.convert("RGB"))}
        return {"said": [text.to_json() for text in model.said(request)]}
    except Exception as error:  # whatever a folder holds: the parent says so and goes on
        logging.getLogger(__name__).exception("A sentence could not be read")
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    sys.exit(main())
