"""What LTX-2's transformer is told beside latents and sentences: where tokens stand, how noisy they are, and the frames
that a person gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from i2v.families.ltx2.layout import ClipLayout
from i2v.families.ltx2.spans import Spans
from i2v.request import GenerationRequest

PICTURE, LAST = "picture", "last"  # in the conditioning: first and last frame; those between are `picture_<frame>`
SMALLER = "_half"  # behind these: at half the size, for the first of two stages


def added_frames(request: GenerationRequest) -> Mapping[str, int]:
    """The frames that a person gave beside the first one, -1 for the last, by their names in the conditioning; the last
    one comes last."""
    if request.task != "i2v":
        return {}
    given = {one.at for one in request.inputs if one.kind == "image" and one.at}
    return {LAST if at == -1 else f"{PICTURE}_{at}": at for at in sorted(given, key=lambda at: (at < 0, at))}


def held_tokens(request: GenerationRequest, layout: ClipLayout) -> int:
    """How many of the clip's tokens are the photograph's, and stay so."""
    return layout.each_frame if request.task == "i2v" else 0


def given_beside(
    transformer: nn.Module, request: GenerationRequest, layout: ClipLayout, timestep: Tensor, later: bool
) -> dict[str, Any]:
    """All of it for one step, on the host; `later`: as `guides.is_later`."""
    tokens, held = layout.tokens, held_tokens(request, layout)
    timestep = timestep.reshape(1)
    spans: Spans = ((held, 1), (tokens, 0)) if held else ((tokens, 0),)
    where = transformer.rope.prepare_video_coords(
        1, layout.frames, layout.height, layout.width, timestep.device, fps=request.fps
    )
    if added := added_frames(request).values():
        spans += ((tokens + layout.each_frame * len(added), 1),)
        frames = (layout.last_begins if at == -1 else at for at in added)
        where = torch.cat([where, *(layout.of_one_frame(frame, request.fps) for frame in frames)], dim=2)
    return {
        "timesteps": torch.cat([timestep, torch.zeros_like(timestep)]) if held else timestep,
        "spans": spans,
        "timestep": timestep,
        "coordinates": where,
        "sound_coordinates": transformer.audio_rope.prepare_audio_coords(1, layout.sounds, timestep.device),
        "across_by_timestep": later,
    }
