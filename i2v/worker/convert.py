"""A process that writes the weights of a single file in the layout of diffusers: `python -m i2v.worker.convert`. It
reads one line of JSON, the order, and prints one for each part that is written, and one with what came of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from i2v.engine.converted import convert
from i2v.memory.errors import named_line
from i2v.messages import UserError, message


def main() -> int:
    """Convert, and tell; 0 whatever is told."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def tell(**said: Any) -> None:
        answers.write(json.dumps(said, ensure_ascii=False) + "\n")
        answers.flush()

    order = json.loads(sys.stdin.readline())
    file, out = Path(order["file"]), Path(order["out"])
    bases = [Path(one) for one in order["bases"]]
    try:
        tell(base=convert(file, bases, order["stems"], out, lambda count: tell(bytes=count)))
    except UserError as error:
        tell(error=error.message.to_json())
    except Exception as error:
        tell(error=message("models.single_failed", file=str(file), error=named_line(error)).to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
