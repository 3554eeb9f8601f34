"""`python -m i2v`: the command line."""

from __future__ import annotations

import sys

from i2v.setup.surroundings import enter

enter()  # before anything is imported that a foreign variable could break

from i2v.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
