"""A process that compares a model's weights with its configurations, tensor by tensor, as a run does before it loads
them: `python -m i2v.worker.tensors FAMILY FOLDER PRECISION`. It prints one line: null, or the message that says what is
wrong. No weight is read."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from i2v.engine.weights import find_tensors
from i2v.families import SPECS
from i2v.messages import UserError


def main() -> int:
    """Compare, and tell; 0 whatever is told."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    family, folder, precision = sys.argv[1:]
    wrong = None
    try:
        find_tensors(Path(folder), SPECS[family], precision)
    except UserError as error:
        wrong = error.message.to_json()
    answers.write(json.dumps(wrong, ensure_ascii=False) + "\n")
    answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
