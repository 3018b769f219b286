from __future__ import annotations

import itertools

import numpy as np
import pytest

from pulse3d import video
from pulse3d.evaluation import pulseless, recordings
from pulse3d.evaluation.map_truth import BACKGROUND, LEFT_OUT, SKIN, Mask


def images(recording):
    return np.stack([frame.image for frame in recording.open_video().frames()])


def make_recording(mask=None, *, shape=(120, 400), fps=10.0, seconds=40.0):
    """A recording whose pixels are their columns, brighter from frame to frame."""
    columns = np.broadcast_to(np.arange(shape[1])[:, None] % 100, (*shape, 3))
    frames = (columns + np.arange(round(fps * seconds))[:, None, None, None] % 100).astype(np.uint8)
    return recordings.Recording(
        "me",
        "clips",
        lambda: video.from_array(frames, fps=fps, name="me"),
        lambda: None,
        mask=lambda: None if mask is None else Mask(mask),
    )


@pytest.mark.long
def test_generated_videos_are_the_same_every_time_and_differ_from_each_other():
    made = pulseless.generate(2)
    assert len({one.name for one in made}) == len(made) == 2 * 2 * len(pulseless.GENERATED)
    assert {one.truth for one in made} == {recordings.PULSELESS}
    first = {one.name: images(one) for one in made if one.name.startswith(("still", "black"))}
    for one in made:
        if one.name in first:
            np.testing.assert_array_equal(images(one), first[one.name])
    for a, b in itertools.combinations(first.values(), 2):
        assert a.shape == b.shape == (pulseless.FRAMES, *pulseless.SHAPE, 3)
        assert (a != b).any()


@pytest.mark.slow
def test_kinds_are_what_their_names_say():
    def take(kind, seed=0):
        return np.stack(list(pulseless.grey_levels(pulseless.GENERATED[kind](np.random.default_rng(seed)))))

    still, moving, flicker = (take(kind).astype(float) for kind in ("still", "moving camera", "flicker"))
    noise = still.std(0).mean()
    assert 0.5 < noise < 5
    change = abs(np.diff(still.mean((1, 2, 3)))).max()
    assert change < 0.2, "a still picture is as bright all the time"
    blurred = moving[::30].mean((-1,))
    assert abs(np.diff(blurred, axis=0)).mean() > 3 * noise
    assert flicker.mean((1, 2, 3)).std() > 2
    assert take("black").mean() < 2
    assert take("saturated").mean() > 253


def test_x264_leaves_less_at_a_lower_bit_rate():
    rng = np.random.default_rng(0)
    # grey, since colours are stored at half the size
    given = [np.repeat(rng.integers(0, 256, (48, 64, 1), np.uint8), 3, 2) for _ in range(30)]
    left = {
        kbit_s: np.stack(list(video.through_x264(given, fps=30.0, kbit_s=kbit_s)))
        for kbit_s in (50.0, 5000.0)
    }
    lost = {kbit_s: abs(made - np.stack(given).astype(float)).mean() for kbit_s, made in left.items()}
    assert left[50.0].shape == (30, 48, 64, 3)
    assert lost[50.0] > 1.5 * lost[5000.0] > 0


@pytest.mark.slow
def test_a_photograph_is_the_first_frame_under_noise():
    (photograph,) = pulseless.take_from(make_recording())
    assert photograph.name == "photograph/me"
    assert pulseless.kind_of(photograph.name) == "photograph"
    opened = photograph.open_video()
    taken = images(photograph)
    assert taken.shape == (pulseless.FRAMES, 120, 400, 3)
    assert (opened.height, opened.width, opened.fps, opened.duration_s) == (120, 400, 30, 15)
    bright = taken[..., 20:90, :].astype(float)
    expected = np.arange(20, 90)[:, None]
    np.testing.assert_allclose((bright - expected).mean((0, 1, 3)), 0, atol=0.05)
    assert (bright - expected).std() == pytest.approx(np.hypot(2, 12**-0.5), rel=0.01)


def test_a_photograph_of_a_large_frame_is_smaller():
    (photograph,) = pulseless.take_from(make_recording(shape=(100, 1300), seconds=0.1))
    opened = photograph.open_video()
    assert (opened.height, opened.width) == (34, 434)
    assert next(iter(opened.frames())).image.shape == (34, 434, 3)


def test_walls_are_beside_all_that_may_be_skin_and_above_the_shoulders():
    mask = np.full((120, 400), BACKGROUND, np.uint8)
    mask[20:101, 150:200] = SKIN
    mask[20:119, 140:260] = np.where(mask[20:119, 140:260] == SKIN, SKIN, LEFT_OUT)
    recording = make_recording(mask)
    photograph, left, right = pulseless.take_from(recording)
    assert (left.name, right.name) == ("wall/me left", "wall/me right")
    assert {photograph.truth, left.truth, right.truth} == {recordings.PULSELESS}
    whole = images(recording)
    # 20 px (5 % of the width) from 140 and 260; rows up to 0.8 x 100; 25 s of 40
    np.testing.assert_array_equal(images(left), whole[:251, :80, :120])
    np.testing.assert_array_equal(images(right), whole[:251, :80, 280:])
    opened = left.open_video()
    assert (opened.height, opened.width, opened.duration_s) == (80, 120, 25)


def test_narrow_walls_and_masks_without_skin_give_none():
    mask = np.full((120, 400), BACKGROUND, np.uint8)
    assert pulseless.walls(mask) == {}
    mask[:, 60:300] = SKIN
    assert list(pulseless.walls(mask)) == ["right"]
    mask[:, 60:390] = SKIN
    assert pulseless.walls(mask) == {}
