"""Suite `nano`: train a larger nano for the minutes there are, and bring its weights out.

A thin driver of `tools.train_nano`: the sentence's encoder is taught first, then the UNet is trained on the card. It
needs what `python -m tools.train_nano.prepare` made (`--data`), and OpenCV. The averaged weights come out in half
precision, in files of at most PART_BYTES; to go on from them is to start the optimiser anew.
"""

from __future__ import annotations

import csv
import importlib.util
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.gpu.record import Clock, Record
from bench.gpu.suite import Bench

CHANNELS, SMALL_CHANNELS = (96, 160, 224), (16, 16, 32)
BATCH, SMALL_BATCH = 64, 2
READING_SHARE = 0.15
PART_BYTES = 15 * 2**20
SAVING_SECONDS = 10  # between the end of training and the files


def suite(bench: Bench, record: Record, clock: Clock, data: Path | None) -> None:
    """Teach, train, export."""
    if record.has("training"):
        return
    small, device = bench.scale.small, bench.rig.device.type
    missing = [name for name in ("cv2",) if importlib.util.find_spec(name) is None]
    if data is None or missing:
        record.put("training", {"error": f"needs {', '.join(missing) or '--data, the folder that prepare made'}"})
        return
    bench.need(clock, 60)
    from tools.train_nano import reading, train

    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        reading.main(["--out", f"{out}", "--minutes", f"{READING_SHARE * clock.left_seconds / 60}"])
        bench.need(clock, 30)
        minutes = max(0.0, clock.left_seconds - (0 if small else SAVING_SECONDS)) / 60
        channels = SMALL_CHANNELS if small else CHANNELS
        arguments = ["--data", f"{data}", "--out", f"{out}", "--minutes", f"{minutes}", "--device", device]
        arguments += [
            "--precision",
            "float32" if small else "bfloat16",
            "--batch",
            f"{SMALL_BATCH if small else BATCH}",
        ]
        bench.rig.reset_peak()
        train.main([*arguments, "--channels", *map(str, channels)])
        peak = bench.rig.peak().to_json()
        weights = load_file(out / "checkpoint.safetensors")
        average = {name.removeprefix("average."): one.half() for name, one in weights.items() if "average." in name}
        with (out / "train.csv").open(encoding="utf-8", newline="") as log:
            losses = list(csv.reader(log))
        progress = (out / "progress.json").read_text(encoding="utf-8")
    parts = write_parts(bench.out, average)
    size = sum(one.numel() for one in average.values())
    told = {"channels": list(channels), "parameters": size, "minutes": minutes, "progress": progress, "peak": peak}
    record.put("training", {**told, "losses": losses, "files": parts, "error": ""})


def write_parts(folder: Path, tensors: dict[str, Tensor]) -> list[str]:
    """`nano-<n>.safetensors` in `folder`, each of PART_BYTES at most where no tensor is larger; their names."""
    groups: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if groups[-1] and filled + size > PART_BYTES:
            groups.append({})
            filled = 0
        groups[-1][name] = tensor.to(torch.device("cpu")).contiguous()
        filled += size
    names = [f"nano-{number}.safetensors" for number in range(1, len(groups) + 1)]
    for name, group in zip(names, groups, strict=True):
        save_file(group, folder / name)
    return names
