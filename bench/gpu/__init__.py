"""What only a card can tell. torch reads its allocator's setting once, so it is set before anything else happens."""

import os
import platform
from pathlib import Path

from i2v.jobs.process.allocator import allocator_setting

os.environ.update(allocator_setting(platform.release(), Path("/"), os.environ))
