"""A fixed set of videos without a pulse, in which every answer is made up.

Some are generated, raw or after x264. Others are cut from recordings: a photograph of the first frame, and
the walls beside the skin, by the mask. All are made when they are opened, and are the same every time.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import scipy.ndimage
from jaxtyping import Float, UInt8

from pulse3d import video
from pulse3d.evaluation.map_truth import BACKGROUND, SKIN
from pulse3d.evaluation.recordings import PULSELESS, Recording

SHAPE = (90, 120)  # height and width of the generated videos, in pixels
FPS, SECONDS = 30.0, 15.0
FRAMES = round(FPS * SECONDS)
DETAILS_PX = (1, 3, 8)  # sizes of the details in a generated photograph
KBIT_S = (100.0, 200.0)  # x264 is given a bit rate in this range
PHOTOGRAPH_NOISE = 2.0  # SD of the noise over a photograph of a recording, in grey levels
MOST_PHOTOGRAPH_PX = 640  # larger ones keep every second pixel, or fewer
WALL_S = 25.0  # walls are cut from this much of a recording
LEAST_WALL_PX = 48
MARGIN = 0.05  # between a wall and what may be skin, relative to the width of the frame
ABOVE = 0.8  # a wall ends at this share of the height where the skin ends: below are shoulders

Image = Float[np.ndarray, "height width 3"]
Images = Iterator[Image]


def photograph(rng: np.random.Generator, *, margin_px: int = 0) -> Image:
    """A random picture with details of all sizes, in grey levels around 110."""
    shape = (SHAPE[0] + 2 * margin_px, SHAPE[1] + 2 * margin_px, 3)
    rough = rng.normal(size=shape)
    rough = sum(scipy.ndimage.gaussian_filter(rough, (size, size, 0)) * size for size in DETAILS_PX)
    return 110 + 35 * rough / rough.std()


def still(rng: np.random.Generator) -> Images:
    """A photograph with sensor noise, SD 0.5 to 5 grey levels."""
    picture, noise = photograph(rng), rng.uniform(0.5, 5)
    for _ in range(FRAMES):
        yield picture + rng.normal(0, noise, picture.shape)


def moving_camera(rng: np.random.Generator) -> Images:
    """A photograph that wanders by some pixels, slowly and smoothly."""
    margin = 20
    picture = photograph(rng, margin_px=margin)
    path = scipy.ndimage.gaussian_filter1d(rng.normal(size=(2, FRAMES)), 20, axis=1)
    path *= 3 / path.std(1, keepdims=True)
    for down, across in margin + path.T:
        # linear between pixels, one axis after the other
        row, col = int(down), int(across)
        part = picture[row : row + SHAPE[0] + 1, col : col + SHAPE[1] + 1]
        part = part[:-1] + (down - row) * np.diff(part, axis=0)
        part = part[:, :-1] + (across - col) * np.diff(part, axis=1)
        yield part + rng.normal(0, 1, part.shape)


def flicker(rng: np.random.Generator) -> Images:
    """A photograph under light that changes in every frame, by 2 to 30 %."""
    picture = photograph(rng)
    light = np.exp(rng.uniform(0.02, 0.3) * rng.normal(size=FRAMES))
    for now in light / light.mean():
        yield picture * now + rng.normal(0, 1, picture.shape)


def black(rng: np.random.Generator) -> Images:
    """A covered lens: sensor noise, cut off at 0."""
    noise = rng.uniform(0, 2)
    for _ in range(FRAMES):
        yield rng.normal(0, noise, (*SHAPE, 3))


def saturated(rng: np.random.Generator) -> Images:
    """Too much light: noise, cut off at 255."""
    noise = rng.uniform(0, 2)
    for _ in range(FRAMES):
        yield 255 + rng.normal(0, noise, (*SHAPE, 3))


GENERATED: dict[str, Callable[[np.random.Generator], Images]] = {
    "still": still,
    "moving camera": moving_camera,
    "flicker": flicker,
    "black": black,
    "saturated": saturated,
}


def grey_levels(images: Iterable[np.ndarray]) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """The images as a camera gives them: rounded, and cut off at 0 and 255."""
    return (np.clip(np.round(image), 0, 255).astype(np.uint8) for image in images)


def generate(number: int) -> list[Recording]:
    """`number` videos of every kind of GENERATED, and as many after x264, named "still/1", "still x264/1"."""
    return [
        _recording(f"{kind}{' x264' * coded}/{seed}", partial(_open_generated, kind, seed, coded=coded))
        for kind in GENERATED
        for coded in (False, True)
        for seed in range(1, number + 1)
    ]


def take_from(recording: Recording) -> list[Recording]:
    """Pulseless videos cut from a recording: "photograph/<name>", "wall/<name> left", "... right".

    Walls need a mask and must be large enough. Reads the mask; raises InputError if it is damaged.
    """
    mask = recording.mask()
    return [
        _recording(f"photograph/{recording.name}", partial(_open_photograph, recording)),
        *(
            _recording(f"wall/{recording.name} {side}", partial(_open_part, recording, part))
            for side, part in (walls(mask.skin) if mask is not None else {}).items()
        ),
    ]


def kind_of(name: str) -> str:
    """The kind of a recording of this set, by its name: "still", "still x264", "wall" ..."""
    return name.partition("/")[0]


def walls(skin: UInt8[np.ndarray, "height width"]) -> dict[str, tuple[slice, slice]]:
    """The parts of a frame (rows, columns) to the left and to the right of all that may be skin.

    They are MARGIN away from it and end above the shoulders; those below LEAST_WALL_PX are left out.
    """
    if not (skin == SKIN).any():
        return {}
    width = skin.shape[1]
    columns = np.flatnonzero((skin != BACKGROUND).any(0))
    bottom = round(ABOVE * np.flatnonzero((skin == SKIN).any(1))[-1])
    first, last = columns[0] - round(MARGIN * width), columns[-1] + 1 + round(MARGIN * width)
    sides = {"left": slice(0, max(0, int(first))), "right": slice(int(last), width)}
    return {
        side: (slice(0, bottom), part)
        for side, part in sides.items()
        if min(bottom, part.stop - part.start) >= LEAST_WALL_PX
    }


def _recording(name: str, open_video: Callable[[], video.Video]) -> Recording:
    return Recording(name, "pulseless", open_video, reference=lambda: None, truth=PULSELESS)


def _open_generated(kind: str, seed: int, *, coded: bool) -> video.Video:
    rng = np.random.default_rng([zlib.crc32(kind.encode()), seed])
    kbit_s = rng.uniform(*KBIT_S)
    images = grey_levels(GENERATED[kind](rng))
    if coded:
        images = video.through_x264(images, fps=FPS, kbit_s=kbit_s)
    return video.from_array(np.stack(list(images)), fps=FPS, name=kind)


def _open_photograph(recording: Recording) -> video.Video:
    """A video of a recording's first frame with sensor noise."""
    source = recording.open_video()
    first = next(iter(source.frames())).image
    step = -(-max(first.shape) // MOST_PHOTOGRAPH_PX)
    picture = first[::step, ::step].astype(np.float32) * (1 if first.dtype == np.uint8 else 255)
    height, width = picture.shape[:2]

    def frames() -> Iterator[video.Frame]:
        rng = np.random.default_rng(0)
        noisy = (
            picture + np.float32(PHOTOGRAPH_NOISE) * rng.standard_normal(picture.shape, np.float32)
            for _ in range(FRAMES)
        )
        for index, image in enumerate(grey_levels(noisy)):
            yield video.Frame(index / FPS, image)

    return dataclasses.replace(
        source,
        height=height,
        width=width,
        fps=FPS,
        duration_s=SECONDS,
        frames=frames,
        pictures=None,
    )


def _open_part(recording: Recording, part: tuple[slice, slice]) -> video.Video:
    """A part of the frames from the beginning of a recording."""
    source = recording.open_video()
    height, width = (axis.stop - axis.start for axis in part)

    def frames() -> Iterator[video.Frame]:
        for frame in source.frames():
            if frame.time_s > WALL_S:
                return
            yield video.Frame(frame.time_s, np.ascontiguousarray(frame.image[part]))

    return dataclasses.replace(
        source,
        height=height,
        width=width,
        duration_s=min(WALL_S, source.duration_s),
        frames=frames,
        pictures=None,
    )
