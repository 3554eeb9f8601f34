"""What finishing takes, foretold: processor time, and memory beside what decoding holds.

The rates are those of one slow processor core, for frames that do change; one that stays as it is takes less.
"""

from __future__ import annotations

from dataclasses import dataclass

from i2v.finishing import deflicker, match_colours
from i2v.request import GenerationRequest

FRAME_BYTES = 3  # a pixel
# Seconds for each frame, and for each million of its pixels.
COLOURS_SECONDS = (0.03, 0.1)  # deflickering, and matching colours
MOTION_SECONDS = (0.0, 0.4)  # of the motion between two frames
BETWEEN_SECONDS = (0.06, 0.25)  # of each frame that is made between them
UPSCALING_SECONDS = (0.0, 0.12)
ENCODING_SECONDS = (0.0, 0.08)  # of each frame that is written beyond those that are decoded
# Bytes at work for each pixel, beside the frames that wait.
COLOURS_BYTES, BETWEEN_BYTES, UPSCALING_BYTES = 40, 160, 36


@dataclass(frozen=True)
class FinishingCost:
    """`seconds` of a processor, `size_bytes` of RAM."""

    seconds: float = 0.0
    size_bytes: int = 0


def finishing_cost(request: GenerationRequest) -> FinishingCost:
    """What the finishing of `request` takes; nothing where none is asked for."""
    finish, decoded, written = request.finish, request.num_frames, request.video_frames
    pixels = request.width * request.height
    large = pixels * finish.upscale**2

    def seconds(rate: tuple[float, float], frames: int, size: int = pixels) -> float:
        return frames * (rate[0] + rate[1] * size / 1e6)

    took, waiting, at_work = 0.0, 0, 0
    for asked, look_ahead in (
        (finish.deflicker, deflicker.LOOK_AHEAD),
        (finish.match_colours, match_colours.LOOK_AHEAD),
    ):
        if asked:
            took += seconds(COLOURS_SECONDS, decoded)
            waiting += look_ahead + 1
            at_work = max(at_work, COLOURS_BYTES)
    if finish.interpolate > 1:
        took += seconds(MOTION_SECONDS, decoded - 1) + seconds(BETWEEN_SECONDS, written - decoded)
        waiting += 2
        at_work = max(at_work, BETWEEN_BYTES)
    if finish.upscale > 1:
        took += seconds(UPSCALING_SECONDS, written)
        at_work = max(at_work, UPSCALING_BYTES)
    took += seconds(ENCODING_SECONDS, written, large) - seconds(ENCODING_SECONDS, decoded)
    return FinishingCost(took, pixels * (at_work + FRAME_BYTES * waiting))
