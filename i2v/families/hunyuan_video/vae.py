"""HunyuanVideo's autoencoder in windows: those that diffusers uses with tiling on, as its authors do; or others, which
make another picture, since its group norms look at a whole window."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from diffusers import AutoencoderKLHunyuanVideo
from torch import Tensor

from i2v.families.hunyuan_video.frames import frame_chunks
from i2v.memory.windows import Extent, Part, Scale, Windows, in_windows
from i2v.vae_window import OWN, VaeWindow


def decoded(
    vae: AutoencoderKLHunyuanVideo, latents: Tensor, frames_at_once: int = 0, window: str = OWN
) -> Iterator[Tensor]:
    """Frames (1, 3, n, H, W) in -1..1, a few at a time and in order, of latents (1, C, f, h, w); `frames_at_once` as in
    `frame_chunks`, `window` as a plan has it."""
    time, space = vae.temporal_compression_ratio, vae.spatial_compression_ratio

    def code(part: Part) -> Tensor:
        with frame_chunks(vae, frames_at_once):
            return vae.decoder(vae.post_quant_conv(latents[:, :, *part]))

    scale = Scale(time_up=time, space_up=space)
    return (frames for _, frames in in_windows(code, latents.shape[2:], _windows(vae, window, time, space), scale))


def encoded(
    vae: AutoencoderKLHunyuanVideo,
    size: tuple[int, int, int],
    pixels: Callable[[Part], Tensor],
    frames_at_once: int = 0,
    window: str = OWN,
) -> Tensor:
    """The most likely latents (1, C, f, h, w) of a clip of `size` (F, H, W), of which `pixels` gives a part at a time,
    (1, 3, F', H', W') in -1..1."""
    time, space = vae.temporal_compression_ratio, vae.spatial_compression_ratio

    def code(part: Part) -> Tensor:
        with frame_chunks(vae, frames_at_once):
            return vae.quant_conv(vae.encoder(pixels(part)))

    scale, latents = Scale(time_down=time, space_down=space), None
    for first, moments in in_windows(code, size, _windows(vae, window, 1, 1), scale):
        mean, _ = moments.chunk(2, dim=1)
        if latents is None:
            latents = mean.new_empty(*mean.shape[:2], scale.frames(size[0]), *mean.shape[3:])
        latents[:, :, first : first + mean.shape[2]] = mean
        del moments, mean
    assert latents is not None
    return latents


def _windows(vae: AutoencoderKLHunyuanVideo, window: str, time: int, space: int) -> Windows:
    """Those that `window` names, or the autoencoder's own, in units of so many frames and pixels."""
    if named := VaeWindow.read(window):
        return Windows.of(named, vae.temporal_compression_ratio // time, vae.spatial_compression_ratio // space)
    return Windows(
        Extent(vae.tile_sample_min_num_frames // time, vae.tile_sample_stride_num_frames // time),
        Extent(vae.tile_sample_min_height // space, vae.tile_sample_stride_height // space),
        Extent(vae.tile_sample_min_width // space, vae.tile_sample_stride_width // space),
    )
