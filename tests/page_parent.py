"""A warm parent for pages: it has imported Gradio and forks the app, `page_parent.py --socket FD --parent PID`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from i2v.worker import warm

if __name__ == "__main__":
    warm.IMPORTED, warm.OF_EACH_FAMILY = ("i2v.cli", "i2v.ui.serve"), ()
    sys.exit(warm.main(sys.argv[1:]))
