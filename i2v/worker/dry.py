"""The child that plans: it runs jobs dry, one line in, one line out, and stays warm, since imports are most of the
time. It never loads weights and sees no card.

    in   {"family": ..., "folder": ... or null, "request": {...}, "plan": {...}}
    out  {"found": {...}} or {"error": "..."}
"""

from __future__ import annotations

import json
import logging
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.worker.life import end_with_parent, take_stdin


def main() -> int:
    """Answer until the parent hangs up or dies."""
    end_with_parent(int(sys.argv[1]))
    logging.disable(logging.WARNING)
    questions, answers = take_stdin(), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    from i2v.planning.dryrun import DryRunner

    runner = lru_cache(maxsize=4)(DryRunner)
    for line in questions:
        answers.write(json.dumps(_answer(runner, json.loads(line))) + "\n")
        answers.flush()
    return 0


def _answer(runner: Any, asked: dict[str, Any]) -> dict[str, Any]:
    request, plan = GenerationRequest.from_json(asked["request"]), Plan.from_json(asked["plan"])
    folder = None if asked["folder"] is None else Path(asked["folder"])
    try:
        model = runner(asked["family"], folder, plan.precision, plan.weights, plan.wide_convolutions)
        return {"found": model.run(request, plan).to_json()}
    except Exception as error:  # whatever a stranger's configuration makes of it: the parent says so and goes on
        logging.getLogger(__name__).exception("A dry run failed")
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    sys.exit(main())
