"""`python -m i2v`: the command line."""

from __future__ import annotations

import sys

from i2v.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
