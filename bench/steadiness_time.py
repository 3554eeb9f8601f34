"""What part of a run measuring its steadiness takes.

    OMP_NUM_THREADS=1 python -m bench.steadiness_time

Makes the bundled model's usual video (512 x 512, 96 frames, 25 steps) on the processor and counts processor seconds,
which depend little on who else is at work while one thread computes: of the whole run, with its loading, and of
measuring alone. Prints them, writes bench/results/steadiness_time.json, exits 1 when measuring takes a tenth or more.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from i2v.engine.engine import Engine
from i2v.engine.measuring import SteadinessWatch
from i2v.families import SPECS
from i2v.models.entry import ASSETS, ModelEntry
from i2v.plan import Plan
from i2v.request import GenerationRequest, Input
from i2v.video.picture import load_picture
from i2v.video.steadiness_files import kept_steadiness

RESULTS = Path(__file__).parent / "results" / "steadiness_time.json"
MOST = 0.1


def main() -> int:
    measuring = 0.0

    def timed(name: str) -> None:
        whole = getattr(SteadinessWatch, name)

        def counted(self: SteadinessWatch, *values: Any) -> Any:
            nonlocal measuring
            began = time.process_time()
            try:
                return whole(self, *values)
            finally:
                measuring += time.process_time() - began

        setattr(SteadinessWatch, name, counted)

    timed("add")
    timed("finish")
    usual = SPECS["nano"].defaults
    request = GenerationRequest(
        "nano", "the water flows, slow zoom in", usual.width, usual.height, usual.num_frames, usual.fps,
        usual.num_inference_steps, usual.guidance_scale, 1, inputs=(Input("image", "input.png"),),
    )  # fmt: skip
    entry = ModelEntry("nano", "nano", "nano", ASSETS / "nano", None, True, 0, None)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        load_picture(ASSETS / "examples" / "brook.jpg").save(folder / "input.png")
        began = time.process_time()
        Engine().run(
            request, Plan(), entry=entry, job_folder=folder, emit=lambda event: None, cancelled=lambda: False
        )  # fmt: skip
        whole = time.process_time() - began
        report = kept_steadiness(folder)
    assert report is not None
    found = {
        "method": report.method,
        "frames": len(report.frames),
        "run_processor_seconds": round(whole, 2),
        "measuring_processor_seconds": round(measuring, 2),
        "part": round(measuring / whole, 3),
    }
    print(json.dumps(found, indent=1))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 1 if measuring >= MOST * whole else 0


if __name__ == "__main__":
    sys.exit(main())
