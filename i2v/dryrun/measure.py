"""Measure a card in a few seconds: matrix rate by type, memory, the bus, launches, what the context takes, and whether
convolutions in half precision come out right."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn import functional

from i2v.planning.measured import HOST, Measurement

SECONDS = 0.3  # for each figure
# Channels, side and kernel: over the picture at two levels of the network, and over time.
CONVOLUTIONS = ((320, 32, (3, 3)), (640, 16, (3, 3)), (320, 32, (3, 1)))
# Channels and side of a picture, as autoencoders decode them: the rate of convolutions is taken of it.
LARGE_CONVOLUTION = {"cuda": (128, 512), "cpu": (16, 64)}
HALF_TOLERANCE = 0.01  # relative; half precision's own rounding gives a tenth of that
SIDE = {"cuda": 4096, "cpu": 512}
COPIED_BYTES = {"cuda": 256 * 2**20, "cpu": 32 * 2**20}


def measure(device: torch.device, free_before_bytes: int = 0) -> Measurement:
    """What `device` does now; `free_before_bytes` is what NVML called free before this process had a context. The
    processor is measured in the same way, as a card that is its own host."""
    cuda = device.type == "cuda"
    if cuda:
        load_libraries(device)
    side, size = SIDE[device.type], COPIED_BYTES[device.type]
    half_type = torch.float16 if cuda else torch.bfloat16
    half = _matrix_rate(half_type, side, device)
    single = _matrix_rate(torch.float32, side, device)
    convolutions = _convolution_rate(half_type, *LARGE_CONVOLUTION[device.type], device)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        wide_convolutions = _convolution_rate(torch.float32, *LARGE_CONVOLUTION[device.type], device)
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    on_card = 2 * size / _seconds(lambda: target.copy_(source), device)
    host = torch.empty(size, dtype=torch.uint8)
    plain = size / _seconds(lambda: target.copy_(host), device)
    pinned_host = host.pin_memory() if cuda else host
    pinned = size / _seconds(lambda: target.copy_(pinned_host, non_blocking=True), device)
    small = torch.zeros(1, device=device)
    launch = _seconds(lambda: small.add_(1), device)
    held = torch.cuda.memory_reserved(device) if cuda else 0
    after = torch.cuda.mem_get_info(device)[0] if cuda else 0
    return Measurement(
        card=torch.cuda.get_device_name(device) if cuda else HOST,
        torch=torch.__version__,
        half_flops=half,
        single_flops=single,
        convolution_flops=convolutions,
        wide_convolution_flops=wide_convolutions,
        bandwidth=on_card,
        link_pinned=pinned,
        link=plain,
        launch_seconds=launch,
        context_bytes=max(0, free_before_bytes - after - held) if cuda else 0,
        half_convolutions=not cuda or half_convolutions_work(device),
    )


def half_convolutions_work(device: torch.device) -> bool:
    """Whether convolutions of the shapes of I2VGen-XL's UNet come out in half precision as in float32. On cards of
    NVIDIA's GTX 16 series and their relatives (T500 to T1200, MX450, MX550) some give values that are not numbers."""
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for channels, side, kernel in CONVOLUTIONS:
            picture = torch.randn(1, channels, side, side, generator=drawn).to(device)
            weight = (torch.randn(channels, channels, *kernel, generator=drawn) / (channels * 9) ** 0.5).to(device)
            padding = tuple(size // 2 for size in kernel)
            wanted = functional.conv2d(picture, weight, padding=padding)
            half = functional.conv2d(picture.half(), weight.half(), padding=padding).float()
            # What is not a number is not below anything.
            if not bool((half - wanted).norm() < HALF_TOLERANCE * wanted.norm()):
                return False
    return True


def load_libraries(device: torch.device) -> None:
    """Have the context made, and loaded into it what every run loads when it first computes: cuBLAS, cuDNN, attention,
    normalisation, in both half precisions. Nothing else is left on `device`."""
    with torch.no_grad():
        for dtype in (torch.float16, torch.bfloat16):
            picture = torch.ones(1, 64, 64, 64, device=device, dtype=dtype)
            for kernel in ((3, 3), (3, 1)):
                picture = functional.conv2d(picture, picture.new_ones(64, 64, *kernel) / 64, padding="same")
            clip = picture[:, :, None, :8, :8].expand(-1, -1, 3, -1, -1)
            functional.conv3d(clip, clip.new_ones(64, 64, 3, 3, 3) / 64)
            picture = functional.silu(functional.group_norm(picture, 32))
            tokens = functional.layer_norm(picture.flatten(2).transpose(1, 2), (64,))
            tokens = functional.gelu(tokens @ tokens.new_ones(64, 64))
            for heads_tokens in (tokens.view(1, 1, 4096, 64), tokens.view(1, 1, 2048, 128)):
                functional.scaled_dot_product_attention(heads_tokens, heads_tokens, heads_tokens)
    _wait(device)
    del picture, clip, tokens, heads_tokens
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _matrix_rate(dtype: torch.dtype, side: int, device: torch.device) -> float:
    # Of random numbers: a card multiplies equal ones faster than any layer's.
    a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / _seconds(lambda: a @ b, device)


def _convolution_rate(dtype: torch.dtype, channels: int, side: int, device: torch.device) -> float:
    picture = torch.rand(1, channels, side, side, device=device).to(dtype)
    weight = torch.rand(channels, channels, 3, 3, device=device).to(dtype)
    with torch.no_grad():
        took = _seconds(lambda: functional.conv2d(picture, weight, padding=1), device)
    return 2 * channels * channels * 9 * side * side / took


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Mean time of one run, over as many as fill SECONDS, after three that do not count."""
    for _ in range(3):
        run()
    _wait(device)
    count, began = 0, time.perf_counter()
    while True:
        for _ in range(20):
            run()
        count += 20
        _wait(device)
        if (passed := time.perf_counter() - began) > SECONDS:
            return passed / count


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
