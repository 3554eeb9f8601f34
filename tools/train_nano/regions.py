"""Sky, plants and subject in a photograph, found by simple rules: good enough to teach where things move."""

from __future__ import annotations

import cv2
import numpy as np


def sky(colour: np.ndarray) -> np.ndarray:
    """(H, W) float 0..1: smooth, light or blue, and joined to the upper edge. `colour` (H, W, 3) uint8."""
    height, width = colour.shape[:2]
    rgb = colour.astype(np.float32) / 255
    luma = rgb @ np.float32([0.299, 0.587, 0.114])
    gradient = cv2.GaussianBlur(np.hypot(*np.gradient(luma)), (5, 5), 0)
    blue = rgb[..., 2] - 0.5 * (rgb[..., 0] + rgb[..., 1])
    candidate = (gradient < 0.035) & (luma > 0.3) & ((blue > 0.03) | (luma > 0.6)) & (rgb[..., 1] < rgb[..., 2] + 0.15)
    labels_count, labels = cv2.connectedComponents(candidate.astype(np.uint8))
    mask = np.zeros((height, width), np.float32)
    for label in range(1, labels_count):
        part = labels == label
        if part[: max(2, height // 20)].mean() > 0.1 and part.mean() > 0.04:
            mask[part] = 1
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((7, 7)))
    if mask[: height // 10].mean() < 0.4 or mask[-height // 5 :].mean() > 0.2:
        return np.zeros((height, width), np.float32)  # a plain wall or a studio background, not a sky
    return mask


def plants(colour: np.ndarray) -> np.ndarray:
    """(H, W) float 0..1: leaf green or straw, saturated, and in patches rather than specks."""
    rgb = cv2.GaussianBlur(colour, (5, 5), 0).astype(np.float32) / 255
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    spread = rgb.max(-1) - rgb.min(-1)
    leaf = (green > red * 1.02) & (green > blue * 1.15) & (spread > 0.1)
    straw = (green > red * 0.93) & (green > blue * 1.6) & (spread > 0.15) & (green < 0.75)
    return (cv2.blur((leaf | straw).astype(np.float32), (9, 9)) > 0.5).astype(np.float32)


def subject(colour: np.ndarray) -> np.ndarray:
    """(H, W) float 0..1: what stands in the middle, cut out with GrabCut; zero when the cut looks wrong."""
    height, width = colour.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    box = (int(width * 0.1), int(height * 0.08), int(width * 0.8), int(height * 0.86))
    cv2.setRNGSeed(0)
    cv2.grabCut(colour[..., ::-1].copy(), mask, box, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_RECT)
    cut = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    cut = cv2.morphologyEx(cut, cv2.MORPH_OPEN, np.ones((5, 5)))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cut)
    if count < 2:
        return np.zeros((height, width), np.float32)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    share = stats[largest, cv2.CC_STAT_AREA] / (height * width)
    rest = stats[1:, cv2.CC_STAT_AREA].sum() / (height * width) - share
    if not 0.06 < share < 0.6 or rest > share * 0.4:
        return np.zeros((height, width), np.float32)
    return (labels == largest).astype(np.float32)
