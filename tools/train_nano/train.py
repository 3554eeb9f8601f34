"""Train nano's UNet on scenes made as it goes, to a text encoder that can read already.

    python -m tools.train_nano.reading --out RUN --minutes 4
    python -m tools.train_nano.train --data DATA --out RUN --stage coarse --minutes 40
    python -m tools.train_nano.train --data DATA --out RUN --stage fine --minutes 70

Run again it goes on from RUN/checkpoint.safetensors (weights, average, optimiser, step), also into another stage;
SIGTERM ends it after the step it is in, saved.
`train.csv` has a line every 20 steps. CPU: `--precision bfloat16` is the faster one where the processor has it.
On a GPU: `--device cuda --precision bfloat16 --batch 64`, with `--gradient-checkpointing` where memory is short.
"""

from __future__ import annotations

import argparse
import csv
import json
import signal
import time
from functools import partial
from pathlib import Path

import cv2
import torch
from diffusers import UNet3DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import CLIPTextModel, CLIPTokenizer

from i2v.families.nano.fields import summary, time_channels, unet_input
from i2v.families.nano.training import loss_weights, noisy_steps, signal_and_noise
from i2v.whole_file import whole_file, write_whole
from tools.train_nano.dataset import Batch, make_batch, shapes_of
from tools.train_nano.network import TOKENS, make_scheduler, make_text_encoder, make_unet
from tools.train_nano.scenes import Library

AVERAGE_DECAY = 0.995
WARMUP_STEPS = 100
SAVE_SECONDS = 120
LOG_STEPS = 20


class Nano(nn.Module):
    """The sentence's encoder, taught by `reading` and left as it is, and the denoiser, which is trained."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet3DConditionModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet

    def forward(self, noisy: Tensor, steps: Tensor, batch: Batch, ids: Tensor) -> Tensor:
        """The predicted velocity (B, 7, K, h, w)."""
        with torch.no_grad():
            sentence = self.text_encoder(ids)[0]
        inputs = unet_input(noisy, batch.seen, time_channels())
        return self.unet(inputs, steps, sentence, timestep_cond=summary(sentence)).sample


def main(argv: list[str] | None = None) -> int:
    args = _arguments(argv)
    cv2.setNumThreads(1)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    library = Library(args.data, held_out=False)
    tokenizer = CLIPTokenizer.from_pretrained(args.out / "tokenizer")
    device = torch.device(args.device)
    model = Nano(make_text_encoder(tokenizer), make_unet(tuple(args.channels))).to(device)
    prepare_for_training(model, args.gradient_checkpointing)
    average = {name: value.detach().clone() for name, value in model.state_dict().items() if value.is_floating_point()}
    optimizer = torch.optim.AdamW(model.unet.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01)
    step = load_checkpoint(args.out, model, average, optimizer)
    load_reading(args.out / "reading.safetensors", model, average)
    alphas = make_scheduler().alphas_cumprod.to(device)
    shapes = shapes_of(args.stage)
    started = saved = time.monotonic()
    losses: list[float] = []
    with (args.out / "train.csv").open("a", newline="") as log:
        table = csv.writer(log)
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
        while (share := (time.monotonic() - started) / (args.minutes * 60)) < 1 and not stopped:
            batch = make_batch(library, shapes[step % len(shapes)], args.batch, args.seed + step)
            loss = training_step(model, batch, tokenizer, alphas, device, args.precision)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            set_rate(optimizer, args.lr * rate(step, share, args.decay_share))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            decay = min(AVERAGE_DECAY, step / (step + 10))
            for name, value in model.state_dict().items():
                if name in average:
                    average[name].lerp_(value.detach(), 1 - decay)
            losses.append(loss.item())
            if step % LOG_STEPS == 0:
                mean = sum(losses) / len(losses)
                table.writerow([step, args.stage, f"{mean:.5f}", f"{time.monotonic() - started:.0f}"])
                log.flush()
                print(f"step {step} loss {mean:.4f} minutes {(time.monotonic() - started) / 60:.1f}", flush=True)
                losses.clear()
            if time.monotonic() - saved > SAVE_SECONDS:
                save_checkpoint(args.out, model, average, optimizer, step)
                saved = time.monotonic()
    save_checkpoint(args.out, model, average, optimizer, step)
    return 0


def training_step(model: Nano, batch: Batch, tokenizer, alphas: Tensor, device: torch.device, precision: str) -> Tensor:
    """The loss of one batch: weighted squared error of the velocity at random noise levels."""
    ids = tokenizer(
        batch.texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
    ).input_ids
    clean = batch.latents.to(device)
    batch = Batch(clean, batch.seen.to(device), batch.texts)
    noise = torch.randn_like(clean)
    # Spread evenly over the batch.
    even = (torch.arange(len(clean)) + torch.rand(len(clean))) / len(clean)
    steps = noisy_steps(even, len(alphas)).to(device)
    kept, spread = signal_and_noise(alphas, steps)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        velocity = model(kept * clean + spread * noise, steps, batch, ids.to(device))
    return ((velocity.float() - (kept * noise - spread * clean)) ** 2 * loss_weights(clean)).mean()


def prepare_for_training(model: Nano, gradient_checkpointing: bool) -> None:
    """No dropout (the data never repeats), and on request activations are computed again instead of kept.

    Temporal convolutions run as 2D ones with the pixels in a row, attention as plain matrix products: the same sums,
    and on a CPU in bfloat16 twice as fast over all.
    """
    model.unet.set_attn_processor(AttnProcessor())
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.Conv3d):
            module.forward = _temporal_convolution(module)
    if gradient_checkpointing:
        # diffusers refuses this for its text-to-video UNet, so the blocks are wrapped here.
        for block in (*model.unet.down_blocks, model.unet.mid_block, *model.unet.up_blocks):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def _temporal_convolution(conv: nn.Conv3d):
    def forward(x: Tensor) -> Tensor:
        batch, channels, frames, h, w = x.shape
        rows = x.reshape(batch, channels, frames, h * w)
        return functional.conv2d(rows, conv.weight.flatten(3), conv.bias, padding=(1, 0)).view(batch, -1, frames, h, w)

    return forward


def rate(step: int, share: float, decay_share: float) -> float:
    """Warm up, hold, and fall linearly to zero over the last `decay_share` of the time."""
    fall = min(1.0, (1 - share) / decay_share) if decay_share > 0 else 1.0
    return min(1.0, (step + 1) / WARMUP_STEPS) * max(fall, 0.02)


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


def save_checkpoint(
    out: Path, model: Nano, average: dict[str, Tensor], optimizer: torch.optim.Optimizer, step: int
) -> None:
    """Everything needed to go on, in one safetensors file that is replaced whole."""
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v.contiguous() for k, v in average.items()}
    names = {id(p): n for n, p in model.named_parameters()}
    for parameter, state in optimizer.state.items():
        for key in ("exp_avg", "exp_avg_sq"):
            tensors[f"{key}.{names[id(parameter)]}"] = state[key].contiguous()
    with whole_file(out / "checkpoint.safetensors") as part:
        save_file(tensors, part, metadata={"step": str(step)})
    write_whole(out / "progress.json", json.dumps({"step": step}))


def load_checkpoint(out: Path, model: Nano, average: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Go on from `out` if there is something to go on from; returns the step."""
    path = out / "checkpoint.safetensors"
    if not path.exists():
        return 0
    tensors = load_file(path)
    model.unet.load_state_dict({k[11:]: v for k, v in tensors.items() if k.startswith("model.unet.")}, strict=False)
    average.update({k[8:]: v.to(average[k[8:]]) for k, v in tensors.items() if k.startswith("average.unet.")})
    step = json.loads((out / "progress.json").read_text())["step"]
    for name, parameter in model.named_parameters():
        if f"exp_avg.{name}" in tensors and name.startswith("unet."):
            optimizer.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": tensors[f"exp_avg.{name}"].to(parameter),
                "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(parameter),
            }
    return step


def load_reading(path: Path, model: Nano, average: dict[str, Tensor]) -> None:
    """Take the text encoder that `reading` taught, and leave it as it is."""
    weights = load_file(path)
    model.text_encoder.load_state_dict(weights)
    model.text_encoder.requires_grad_(False).eval()
    average.update({f"text_encoder.{k}": v.clone().to(average[f"text_encoder.{k}"]) for k, v in weights.items()})


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="what prepare made")
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument("--stage", choices=("coarse", "fine"), default="coarse")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument(
        "--channels", type=int, nargs=3, default=(48, 80, 112), help="of the UNet's levels, finest first"
    )
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--decay-share", type=float, default=0.0, help="last share of the time in which the rate falls")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
