"""What the first of LTX-2's two stages has made, twice as high and wide: its latents, or frames of it."""

from __future__ import annotations

from PIL import Image
from torch import Tensor, dtype, frombuffer, nn, uint8


def enlarged(upsampler: nn.Module, latents: Tensor, mean: Tensor, std: Tensor, precision: dtype) -> Tensor:
    """(1, C, f, 2 h, 2 w) of (1, C, f, h, w). The network knows latents as the autoencoder gives them, without `mean`
    and `std` taken out, in `precision`."""
    made = upsampler((latents * std + mean).to(precision))
    return (made.float() - mean) / std


def enlarged_frame(frame: Tensor, width: int, height: int) -> Tensor:
    """A picture (h, w, 3) of bytes in another size."""
    picture = Image.fromarray(frame.numpy()).resize((width, height), Image.Resampling.BICUBIC)
    return frombuffer(bytearray(picture.tobytes()), dtype=uint8).view(height, width, 3)
