"""The page: Gradio Blocks on its own web server. Nothing here loads torch; jobs run behind the service."""

import os
from pathlib import Path

from i2v.ui.quick_import import skip_stubs

CACHE_DIR = Path(__file__).resolve().parents[2] / "cache"

# Gradio reads these when it is first imported, which only happens below this package. Uploads wait in a folder of
# ours, not in a temporary one that the users of one computer would share.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_TEMP_DIR", str(CACHE_DIR / "uploads"))
skip_stubs()
