"""The command line: `python -m i2v generate | plan | probe | doctor | serve | show | jobs | retry | redecode | extend |
pause | resume`. `main` takes the words, returns the exit code and never lets a traceback through."""

from __future__ import annotations

from i2v.cli.program import main

__all__ = ["main"]
