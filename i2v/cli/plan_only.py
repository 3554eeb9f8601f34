"""`bash start_app.sh --plan-only`: what this machine has and which preset that gives, as JSON on standard output."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from i2v.messages import UserError
from i2v.settings.settings import settings_and_probe


def plan(overrides: dict[str, Any]) -> dict[str, Any]:
    """The probe, the preset in force and who set it. `overrides` are settings by key; None means not given."""
    settings, probe = settings_and_probe(overrides=overrides)
    return {
        "preset": settings.preset,
        "preset_source": settings.sources["preset"],
        "probe": probe.read().to_json(),
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--preset")
    parser.add_argument("--gpu")
    parser.add_argument("--cpu", action="store_true", default=None)
    parser.add_argument("--models", dest="models_dir")
    parser.add_argument("--simulate", dest="simulate_gib")
    try:
        print(json.dumps(plan(vars(parser.parse_args(argv))), indent=2))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
