"""What is measured on videos of real photographs. Frames are (T, H, W, 3) uint8, a region (H, W) float 0..1.

Lengths are shares of the short side, so that a size of the video changes no number; a bend is told in pixels of a video
whose short side is 512. What the camera does is fitted to what lies outside the region and taken away.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

from tools.train_nano.measures import agreed_flow

LOOKS = 6  # how many frames are compared with the first one
STEP_SHARE = 8  # motion is read over steps of a video's eighth
MARGIN = 0.012  # how far from the region's edge pixels count, as a share of the short side: flow blurs edges
RIM = 0.03  # how far the rim reaches beyond that margin, as a share of the short side
LEAST_LENGTH = 1e-4  # below this share of the short side (0.05 pixels at 512) optical flow is noise
MOVES = 4e-4  # above this share of the short side in a step (0.2 pixels at 512) a pixel moves
RANSAC_REACH = 0.002  # how far a point may lie from the camera's motion and still belong to it, of the short side
LINE_POINTS = 64
LINE_SMOOTHING = 5  # points whose median is taken along a line
CONTRAST_SIZE = 7  # pixels of the square whose standard deviation is the local contrast
SAME_LEVELS = 8  # of 255: a pixel this close to where the camera's motion puts it was there before
LEAST_UNCOVERED = 12  # pixels; smaller spots are flow's mistakes


@dataclass(frozen=True)
class RegionMotion:
    """Mean lengths of what moved over a step inside and outside, and how far the worst of the outside strayed.

    `outside_95` is the 95th percentile of the distance from where the camera alone would have taken a pixel, in the
    frame where it is largest; `rim_95` the same along the region's edge only, where a ridge or a shore tears while the
    rest stands. These are shares of the short side. `filled` is the share of the inside that moves at all in some step:
    a patch that moves in a brook that stands has a fine ratio and fills little.
    """

    inside: float
    outside: float
    outside_95: float
    rim_95: float
    filled: float

    @property
    def ratio(self) -> float:
        """How many times more moves inside than outside; a still outside counts as LEAST_LENGTH."""
        return self.inside / max(self.outside, LEAST_LENGTH)


@dataclass(frozen=True)
class Uncovered:
    """Pixels that the first frame does not show: their share of the picture in the frame that has most of them, and
    their local contrast as a share of that of the surface around them. Without such pixels the contrast is 1."""

    share: float
    contrast: float


def region_motion(frames: np.ndarray, region: np.ndarray) -> RegionMotion:
    """How a region moves beside the rest. ValueError where the region leaves nothing inside or nothing outside."""
    inside, outside = parts(region, frames.shape[1:3])
    short = min(frames.shape[1:3])
    step = max(1, round(len(frames) / STEP_SHARE))
    lengths: tuple[list[float], list[float]] = ([], [])
    moved = np.zeros_like(inside)
    for start in range(0, len(frames) - step, step):
        rest, seen = left_by_camera(frames[start], frames[start + step], outside)
        moved |= rest > MOVES * short
        for part, where in zip(lengths, (inside & seen, outside & seen), strict=True):
            if where.any():
                part.append(float(rest[where].mean()))
    rim = outside & near_edge(inside)
    strayed: tuple[list[float], list[float]] = ([0.0], [0.0])
    for frame in looked_at(frames):
        rest, seen = left_by_camera(frames[0], frame, outside)
        for part, where in zip(strayed, (outside & seen, rim & seen), strict=True):
            if where.any():
                part.append(float(np.percentile(rest[where], 95)))
    return RegionMotion(
        inside=float(np.mean(lengths[0] or 0)) / short,
        outside=float(np.mean(lengths[1] or 0)) / short,
        outside_95=max(strayed[0]) / short,
        rim_95=max(strayed[1]) / short,
        filled=float(moved[inside].mean()),
    )


def near_edge(inside: np.ndarray) -> np.ndarray:
    """Pixels (H, W) bool within RIM of what lies inside a region."""
    reach = round((RIM + 2 * MARGIN) * min(inside.shape))
    return cv2.dilate(inside.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0


def parts(region: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What lies inside a region and what outside, (H, W) bool each, both away from its edge."""
    height, width = shape
    region = cv2.resize(region.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    reach = max(1, round(MARGIN * min(shape)))
    brush = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    inside, outside = cv2.erode(region, brush) > 0.6, cv2.dilate(region, brush) < 0.1
    if not inside.any() or not outside.any():
        raise ValueError("the region leaves nothing inside or nothing outside to look at")
    return inside, outside


def left_by_camera(first: np.ndarray, second: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length (H, W) in pixels of the motion that is not the camera's, and where (H, W) it can be read."""
    there, seen = agreed_flow(first, second)
    return np.linalg.norm(there - camera_flow(there, outside & seen), axis=-1), seen


def camera_flow(there: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The flow (H, W, 2) that the camera alone makes: a homography fitted by RANSAC to `there` in pixels `where`."""
    height, width = there.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    rows, columns = np.nonzero(where)
    if len(rows) < 16:
        return np.zeros_like(there)
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), 2000)).astype(int)
    source = grid[rows[chosen], columns[chosen]]
    cv2.setRNGSeed(0)
    reach = max(0.25, RANSAC_REACH * min(height, width))
    fitted, _ = cv2.findHomography(source, source + there[rows[chosen], columns[chosen]], cv2.RANSAC, reach)
    if fitted is None:
        return np.zeros_like(there)
    return cv2.perspectiveTransform(grid.reshape(-1, 1, 2), fitted).reshape(height, width, 2) - grid


def looked_at(frames: np.ndarray) -> np.ndarray:
    """The frames compared with the first one: LOOKS of them, evenly spaced, the last among them."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, LOOKS + 1).round().astype(int))[1:]
    return frames[chosen]


def line_bend(frames: np.ndarray, line: tuple[tuple[float, float], tuple[float, float]]) -> float:
    """How far a straight edge of the photograph bends at most, in pixels of a video whose short side is 512.

    `line` holds two end points as shares of width and height. Only the distance across the edge counts: along it, flow
    cannot be read."""
    height, width = frames.shape[1:3]
    start, end = (np.float32(point) * [width, height] - 0.5 for point in line)
    points = (start + (end - start) * np.linspace(0, 1, LINE_POINTS)[:, None]).astype(np.float32)
    bends = [0.0]
    for frame in looked_at(frames):
        there, seen = agreed_flow(frames[0], frame)
        x, y = points[:, None, 0], points[:, None, 1]
        moved = points + cv2.remap(there, x, y, cv2.INTER_LINEAR)[:, 0]
        moved = moved[cv2.remap(seen.astype(np.float32), x, y, cv2.INTER_LINEAR)[:, 0] > 0.9]
        if len(moved) < LINE_POINTS // 4:
            continue
        centred = moved - moved.mean(0)
        across = centred @ np.linalg.svd(centred, full_matrices=False)[2][1]
        windows = np.lib.stride_tricks.sliding_window_view(across, LINE_SMOOTHING)
        bends.append(float(np.abs(np.median(windows, axis=1)).max()))
    return max(bends) / min(height, width) * 512


def loop_difference(frames: np.ndarray) -> float:
    """The last frame's difference from the first over the largest of neighbours: a loop has 1 or less."""
    return difference(frames[-1], frames[0]) / max(*neighbour_differences(frames), 1e-6)


def light_evenness(frames: np.ndarray) -> float:
    """The largest difference of neighbours over the smallest: 1 is even, infinite where it stops and goes on."""
    differences = neighbour_differences(frames)
    if max(differences) == 0:
        return 1.0
    return max(differences) / min(differences) if min(differences) > 0 else float("inf")


def neighbour_differences(frames: np.ndarray) -> list[float]:
    """The mean difference of each frame from the one before, in levels of 255."""
    return [difference(first, second) for first, second in itertools.pairwise(frames)]


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """The mean absolute difference of two frames, in levels of 255."""
    return float(cv2.absdiff(first, second).mean())


def uncovered(frames: np.ndarray) -> Uncovered:
    """Whether what gets uncovered is as rich in detail as the surface that it continues.

    Uncovered is what a later frame shows and the first does not: flow back to the first frame finds no agreement, and
    the camera's motion does not explain the pixel either. The surface is that half of the pixels around each such spot
    whose colours are closest to the spot's."""
    shares, contrasts, weights = [0.0], [], []
    for frame in looked_at(frames):
        new = cv2.morphologyEx(unexplained(frame, frames[0]), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        contrast = local_contrast(frame)
        smooth = cv2.blur(frame, (CONTRAST_SIZE, CONTRAST_SIZE)).astype(np.float32)
        count, spots, sizes, _ = cv2.connectedComponentsWithStats(new)
        shares.append(float(new.mean()))
        for spot in range(1, count):
            if sizes[spot, cv2.CC_STAT_AREA] < LEAST_UNCOVERED:
                continue
            here = spots == spot
            near = cv2.dilate(here.astype(np.uint8), np.ones((4 * CONTRAST_SIZE + 1,) * 2, np.uint8)) > 0
            around = near & (cv2.dilate(new, np.ones((CONTRAST_SIZE, CONTRAST_SIZE), np.uint8)) == 0)
            if not around.any():
                continue
            far = np.linalg.norm(smooth[around] - smooth[here].mean(0), axis=-1)
            surface = float(contrast[around][far <= np.median(far)].mean())
            contrasts.append(min(1.0, float(contrast[here].mean()) / max(surface, 1e-6)))
            weights.append(int(sizes[spot, cv2.CC_STAT_AREA]))
    return Uncovered(max(shares), float(np.average(contrasts, weights=weights)) if contrasts else 1.0)


def unexplained(frame: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Pixels (H, W) uint8, 0 or 1, that come from nowhere in the first frame."""
    height, width = frame.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    back, seen = agreed_flow(frame, first)
    source = grid + camera_flow(back, seen)
    stood = cv2.remap(first, source, None, cv2.INTER_LINEAR)
    inside = ((source > -0.5) & (source < [width - 0.5, height - 0.5])).all(-1)
    alike = cv2.blur(cv2.absdiff(frame, stood).max(-1), (3, 3)) < SAME_LEVELS
    return (~seen & ~(alike & inside)).astype(np.uint8)


def local_contrast(frame: np.ndarray) -> np.ndarray:
    """Standard deviation (H, W) of the grey levels in a small square around each pixel."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    size = (CONTRAST_SIZE, CONTRAST_SIZE)
    return np.sqrt(np.maximum(cv2.blur(grey * grey, size) - cv2.blur(grey, size) ** 2, 0))
