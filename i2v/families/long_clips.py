"""Clips longer than those that a model was trained on, in numbers: which windows of frames they are made in, how much
each window counts, and what a dry run of one short such clip says of all others. No torch here.

In windows (the way of MultiDiffusion, Bar-Tal et al., 2023, along time) every denoising step asks the network about one
window of frames after the other, as many frames at a time as it was trained on. Where windows overlap, its answers are
averaged, with weights that fall towards a window's edges; the scheduler then steps once for the whole clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LongClips:
    """How a family makes clips of more than `native_frames` frames, all counted in latent frames. `overlap_frames`:
    what two neighbouring windows have in common at least. `anchor_frames`: of the clip's beginning, which every window
    attends to over time."""

    native_frames: int
    overlap_frames: int = 4
    anchor_frames: int = 1

    def is_long(self, frames: int) -> bool:
        """Whether a clip of so many frames is longer than the model makes at once."""
        return frames > self.native_frames

    def windows(self, frames: int) -> tuple[slice, ...]:
        """The windows of a clip, in order: the fewest that overlap enough, spread evenly. Each has `native_frames`
        frames, so that all hold the same memory; a clip that is not long is one window."""
        if not self.is_long(frames):
            return (slice(0, frames),)
        last = frames - self.native_frames  # where the last one begins
        between = -(-last // (self.native_frames - self.overlap_frames))
        begins = (round(last * number / between) for number in range(between + 1))
        return tuple(slice(begin, begin + self.native_frames) for begin in begins)

    def seams(self, frames: int) -> tuple[int, ...]:
        """The frames with which another window begins."""
        return tuple(window.start for window in self.windows(frames)[1:])

    def weights(self) -> tuple[int, ...]:
        """How much each frame of a window counts where others have it too: less and less towards both edges."""
        return tuple(min(place + 1, self.native_frames - place) for place in range(self.native_frames))

    def dry_frames(self, frames: int) -> int:
        """How many frames a dry run has that tells of a clip of `frames`: of every long one, those of two windows."""
        return 2 * self.native_frames - self.overlap_frames if self.is_long(frames) else frames

    def shares(self, frames: int) -> Mapping[str, float]:
        """How many times the work of its dry run a clip of `frames` takes, by phase: 1 where nothing is said."""
        sample = self.dry_frames(frames)
        windows = len(self.windows(frames)) / len(self.windows(sample))
        return {"denoise": windows, "decode": frames / sample} if self.is_long(frames) else {}


SIXTEEN_FRAMES = LongClips(native_frames=16)
"""Of models that were trained on clips of sixteen frames."""
