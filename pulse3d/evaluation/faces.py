"""Tracks the face in a video for the baselines: a box is detected every second, then smoothed.

The detector is scikit-image's cascade of local binary patterns for frontal faces. scikit-image is an
extra: `pip install scikit-image`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import scipy.ndimage
from jaxtyping import Float, Shaped
from PIL import Image

from pulse3d.errors import InputError
from pulse3d.video import Video, to_bytes

# top, left, bottom, right, in pixels
Box = Float[np.ndarray, "4"]
Boxes = Float[np.ndarray, "found 4"]

EVERY_S = 1.0  # from one detection to the next
MEDIAN = 11  # detections in the running median
SMOOTH = 5.0  # SD, in detections, of the Gaussian after it: a box that jumps changes the colour inside
LEAST_SHARE = 0.3  # of the detections that must find a face
INNER = 0.6  # of a face's box along each axis: the part with little hair and background
DETECTED_PX = 320  # faces are detected in images of about this size
SCALES, STEP = 1.15, 1.0  # factor from one size of the detector's window to the next; its stride
SMALLEST = 6  # a face is at least the image's shorter side over this ...
SMALLEST_PX = 24  # ... and at least this


@cache
def make_detector() -> Callable[[Shaped[np.ndarray, "height width 3"]], Box | None]:
    """A function from an image, RGB, uint8 or float 0...1, to the box of its largest face; None without one.

    Raises InputError where scikit-image is missing.
    """
    try:
        from skimage import data, feature
    except ImportError:
        raise InputError(
            "--roi=face: finding faces needs scikit-image; pip install scikit-image, or --roi=skin"
        ) from None
    cascade = feature.Cascade(data.lbp_frontal_face_cascade_filename())

    def find(image: Shaped[np.ndarray, "height width 3"]) -> Box | None:
        factor = max(1, round(max(image.shape) / DETECTED_PX))
        small = np.asarray(Image.fromarray(to_bytes(image)).reduce(factor))
        side = min(small.shape[:2])
        smallest = max(SMALLEST_PX, side // SMALLEST)
        if side < smallest:
            return None
        found = cascade.detect_multi_scale(small, SCALES, STEP, (smallest, smallest), (side, side))
        if not found:
            return None
        face = max(found, key=lambda one: one["width"] * one["height"])
        top, left = face["r"], face["c"]
        return factor * np.array([top, left, top + face["height"], left + face["width"]], float)

    return find


class Track(NamedTuple):
    """The smoothed boxes of a face and the times in s at which they were detected."""

    time_s: Float[np.ndarray, "found"]
    boxes: Boxes


def smooth(found: Boxes) -> Boxes:
    """Removes false boxes and jumps: a running median, then a Gaussian filter, edge by edge."""
    steady = scipy.ndimage.median_filter(found, size=(MEDIAN, 1), mode="nearest")
    return scipy.ndimage.gaussian_filter1d(steady, SMOOTH, axis=0, mode="nearest")


def box_at(track: Track, time_s: float) -> Box:
    """The box at a time: linear interpolation; constant before the first and after the last box."""
    return np.array([np.interp(time_s, track.time_s, edge) for edge in track.boxes.T])


def inner(box: Box) -> Box:
    """The inner part of a box: INNER of its height and width."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    return np.concatenate([centre - INNER * half, centre + INNER * half])


def find_faces(video: Video) -> tuple[Track | None, float]:
    """Tracks the face in a video; also returns the share of detections that found it.

    Reads the video once. The track is None if fewer than LEAST_SHARE found one. Raises InputError if the
    video cannot be read or scikit-image is missing.
    """
    detect, due_s, tried = make_detector(), 0.0, 0
    found_s, found = [], []
    for frame in video.frames():
        if frame.time_s < due_s:
            continue
        due_s, tried = frame.time_s + EVERY_S, tried + 1
        box = detect(frame.image)
        if box is not None:
            found_s.append(frame.time_s)
            found.append(box)
    share = len(found) / max(tried, 1)
    if share < LEAST_SHARE:
        return None, share
    return Track(np.array(found_s), smooth(np.stack(found))), share
