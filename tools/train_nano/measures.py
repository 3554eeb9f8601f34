"""What is measured on finished frames. Clips are (F, H, W, 3) uint8; lengths in short sides, as in `motions`."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from i2v.families.nano.camera import eased
from i2v.families.nano.fields import CLIP_SECONDS
from tools.train_nano.motions import PAN_RATE, ROTATION_RATE, TILT_RATE, ZOOM_RATE

READ_AT = 0.5  # share of a clip; camera motion is read between its first frame and this one
STILL_SHARE = 0.2  # of a taught motion's size; less counts as standing still
# Directions as the picture moves: x right, y down, turning clockwise, growing.
TAUGHT = {
    "zoom_in": ("grow", ZOOM_RATE), "zoom_out": ("grow", -ZOOM_RATE),
    "pan_left": ("x", PAN_RATE), "pan_right": ("x", -PAN_RATE),
    "tilt_up": ("y", TILT_RATE), "tilt_down": ("y", -TILT_RATE),
    "rotate_cw": ("turn", ROTATION_RATE), "rotate_ccw": ("turn", -ROTATION_RATE),
    "still": (None, 0.0),
}  # fmt: skip
_MOTIONS = ("grow", "x", "y", "turn")


@dataclass(frozen=True)
class CameraReading:
    """How the whole picture moved, each as a multiple of the size taught for that motion."""

    grow: float
    x: float
    y: float
    turn: float

    def follows(self, motion: str) -> bool:
        """Whether the largest motion is the one asked for, in its direction; for `still`, that there is none."""
        if TAUGHT[motion][0] is None:
            return self.besides(motion) < STILL_SHARE
        return self.towards(motion) >= STILL_SHARE and self.towards(motion) > self.besides(motion)

    def towards(self, motion: str) -> float:
        """The asked motion's size in its direction, 1 being as taught; below zero where it went the other way."""
        asked, rate = TAUGHT[motion]
        return float(np.copysign(1, rate)) * getattr(self, asked) if asked else 0.0

    def besides(self, motion: str) -> float:
        """The size of the largest motion that was not asked for."""
        return max(abs(getattr(self, name)) for name in _MOTIONS if name != TAUGHT[motion][0])

    def size_of(self, motion: str) -> float:
        """The asked motion's size in either direction, 1 being as taught."""
        return abs(self.towards(motion))


def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Dense optical flow (H, W, 2) in pixels, OpenCV's DIS."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return dis.calc(cv2.cvtColor(first, cv2.COLOR_RGB2GRAY), cv2.cvtColor(second, cv2.COLOR_RGB2GRAY), None)


def camera(first: np.ndarray, middle: np.ndarray, seconds: float) -> CameraReading:
    """What the camera did from the first frame of a clip of `seconds` to the one at READ_AT of it: growth, turn and
    shift fitted to the flow, robustly, in three rounds that leave out the worst fitting third."""
    moved = flow(first, middle)
    height, width = moved.shape[:2]
    short = min(height, width)
    y, x = np.mgrid[8 : height - 8 : 4, 8 : width - 8 : 4]
    target = moved[y, x].reshape(-1, 2) / short
    x = ((x + 0.5 - width / 2) / short).ravel()
    y = ((y + 0.5 - height / 2) / short).ravel()
    kept = np.ones(len(x), bool)
    for _ in range(3):
        one, none = np.ones(kept.sum()), np.zeros(kept.sum())
        rows_x = np.stack([one, none, x[kept], -y[kept]], 1)
        rows_y = np.stack([none, one, y[kept], x[kept]], 1)
        solved = np.linalg.lstsq(np.concatenate([rows_x, rows_y]), target[kept].T.ravel(), rcond=None)[0]
        shift_x, shift_y, grow, turn = solved
        fit = np.stack([shift_x + grow * x - turn * y, shift_y + grow * y + turn * x], 1)
        error = np.linalg.norm(target - fit, axis=1)
        kept = error <= np.quantile(error, 0.67)
    time = eased(READ_AT) * seconds / CLIP_SECONDS
    return CameraReading(
        grow=float(np.log1p(np.hypot(1 + grow, turn) - 1) / (ZOOM_RATE * time)),
        x=float(shift_x / (PAN_RATE * time)),
        y=float(shift_y / (TILT_RATE * time)),
        turn=float(np.arctan2(turn, 1 + grow) / (ROTATION_RATE * time)),
    )


def region_ratio(clip: np.ndarray, region: np.ndarray) -> float:
    """How much more moves inside `region` (at any size) than outside: ratio of the mean lengths of optical flow from
    the first frame, where the flow agrees both ways, since what gets covered is not seen to move."""
    region = cv2.resize(region, clip.shape[2:0:-1], interpolation=cv2.INTER_LINEAR)
    inside, outside = cv2.erode(region, np.ones((9, 9))) > 0.6, cv2.dilate(region, np.ones((9, 9))) < 0.1
    lengths: tuple[list[float], list[float]] = ([], [])
    for frame in clip[3::3]:
        there, seen = agreed_flow(clip[0], frame)
        for part, where in zip(lengths, (inside & seen, outside & seen), strict=True):
            part.append(float(np.linalg.norm(there[where], axis=-1).mean()) if where.any() else 0.0)
    return float(np.mean(lengths[0]) / max(np.mean(lengths[1]), 1e-3))


def agreed_flow(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flow (H, W, 2) in pixels, and where (H, W) it leads inside the frame and the way back agrees with it."""
    height, width = first.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    there, back = flow(first, second), flow(second, first)
    returned = cv2.remap(back, grid + there, None, cv2.INTER_LINEAR)
    seen = np.linalg.norm(there + returned, axis=-1) < 0.5
    return there, seen & ((grid + there) >= 0).all(-1) & ((grid + there) < [width, height]).all(-1)


def sharpness(frame: np.ndarray) -> float:
    """Mean gradient of the grey picture."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)).mean())


def warping_error(clip: np.ndarray) -> float:
    """Mean squared difference of neighbouring frames after compensating their flow, where the flow agrees both ways.

    The difference is blurred by a pixel first: how a photograph's finest detail falls between pixels outweighs the rest
    otherwise (an exact pan reads 3e-5 at 2.1 pixels a frame and 4e-4 at 2.3)."""
    errors = []
    height, width = clip.shape[1:3]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    for first, second in zip(clip[:-1:3], clip[1::3], strict=False):
        there, seen = agreed_flow(first, second)
        warped = cv2.remap(second, grid + there, None, cv2.INTER_CUBIC)
        difference = (warped.astype(np.float32) - first) / 255 * seen[..., None]
        difference = cv2.GaussianBlur(difference, (0, 0), 1.0)
        errors.append((difference**2).mean(-1)[seen].mean())
    return float(np.mean(errors))


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal to noise ratio in dB; 99 for equal pictures."""
    error = float(((first.astype(np.float32) - second.astype(np.float32)) ** 2).mean())
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


LIFTED = 40  # the darkest value of a picture lifted for `dark_share`


def dark_share(clip: np.ndarray) -> float:
    """Share of pixels, in the worst frame, darker than anything the picture holds: a border or a gap left black.
    `clip` was rendered over a picture without values below LIFTED; bicubic overshoot is allowed for."""
    return float((clip.max(-1) < LIFTED * 0.6).mean((1, 2)).max())


def field_error(made: np.ndarray, exact: np.ndarray, edge: np.ndarray) -> tuple[float, float]:
    """Mean error of fields (2, H, W) at `edge` (H, W) and elsewhere, as shares of the mean exact motion, after the
    one factor that brings them closest: the seed chooses how fast, which is not an error."""
    gain = float((made * exact).sum() / max((made * made).sum(), 1e-12))
    error = np.linalg.norm(made * gain - exact, axis=0)
    size = np.linalg.norm(exact, axis=0).mean()
    return float(error[edge].mean() / size), float(error[~edge].mean() / size)
