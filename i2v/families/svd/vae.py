"""The decoder of Stable Video Diffusion, a few frames at a time, exactly.

It mixes over time and its norms look at the whole clip, so that a few frames decoded by themselves, as diffusers'
`decode_chunk_size` does, are other pictures. Here all frames are one clip: what treats frames alone runs a few frames
at a time, and what looks over time works in the place of the clip, which so is held once. Where it grows, each frame
goes through the enlarging layer and the one after it before the next frame does: that layer's output is never whole.
"""

from __future__ import annotations

from collections.abc import Iterator

from diffusers.models.resnet import SpatioTemporalResBlock
from torch import Tensor, nn

from i2v.memory.chunking import chunks
from i2v.memory.spatio_temporal import over_time


def decoded(decoder: nn.Module, latents: Tensor, frames_at_once: int) -> Iterator[Tensor]:
    """The frames (3, H, W) of `latents` (F, C, h, w), in order; 0 at once are all."""
    clip = _by_frames(decoder.conv_in, latents, decoder.conv_in.out_channels, 1, frames_at_once)
    middle = decoder.mid_block
    clip = _res_block(middle.resnets[0], clip, None, frames_at_once)
    for resnet, attention in zip(middle.resnets[1:], middle.attentions, strict=False):
        for part in chunks(clip.shape[0], frames_at_once):
            clip[part] = attention(clip[part])
        clip = _res_block(resnet, clip, None, frames_at_once)
    enlarge = None
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            clip = _res_block(resnet, clip, enlarge, frames_at_once)
            enlarge = None
        enlarge = block.upsamplers[0] if block.upsamplers else None

    def finished(part: Tensor) -> Tensor:
        return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(part)))

    clip = _by_frames(finished, clip, decoder.conv_out.out_channels, 1, frames_at_once)
    yield from decoder.time_conv_out(clip.transpose(0, 1).unsqueeze(0))[0].transpose(0, 1)


def _by_frames(forward: nn.Module, clip: Tensor, channels: int, times: int, frames_at_once: int) -> Tensor:
    """`forward` of all of `clip`, a few frames at a time; what it gives has so many channels, and sides `times` as
    long."""
    frames, _, height, width = clip.shape
    output = clip.new_empty(frames, channels, height * times, width * times)
    for part in chunks(frames, frames_at_once):
        output[part] = forward(clip[part])
    return output


def _res_block(block: SpatioTemporalResBlock, clip: Tensor, enlarge: nn.Module | None, frames_at_once: int) -> Tensor:
    """The block over all of `clip`, enlarged before; in its place where its shape stays."""
    resnet = block.spatial_res_block
    if enlarge is None and resnet.in_channels == resnet.out_channels:
        for part in chunks(clip.shape[0], frames_at_once):
            clip[part] = resnet(clip[part], None)
    else:

        def spatial(part: Tensor) -> Tensor:
            return resnet(part if enlarge is None else enlarge(part), None)

        clip = _by_frames(spatial, clip, resnet.out_channels, 1 if enlarge is None else 2, frames_at_once)
    pixels = clip.shape[2] * clip.shape[3]
    # As many pixels of all frames as a chunk of frames has.
    over_time(block, clip.flatten(2), None, max(1, pixels * frames_at_once // clip.shape[0]) if frames_at_once else 0)
    return clip
