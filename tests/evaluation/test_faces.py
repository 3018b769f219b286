from __future__ import annotations

import sys

import numpy as np
import pytest
import skimage.data

from pulse3d import video
from pulse3d.errors import InputError
from pulse3d.evaluation import faces

PORTRAIT = skimage.data.astronaut()  # the face: about rows 65 to 190, columns 170 to 280


def on_canvas(top, left):
    canvas = np.full((480, 640, 3), 128, np.uint8)
    canvas[top : top + 300, left : left + 400] = PORTRAIT[:300, :400]
    return canvas


def test_a_face_is_found_where_it_is():
    detect = faces.make_detector()
    boxes = [detect(on_canvas(top, left)) for top, left in ((0, 0), (150, 200))]
    for box, (down, right) in zip(boxes, ((0, 0), (150, 200)), strict=True):
        top, left, bottom, far = box - [down, right, down, right]
        assert 30 < top < 100
        assert 150 < left < 190
        assert 160 < bottom < 230
        assert 260 < far < 320
    as_floats = detect((on_canvas(0, 0) / 255).astype(np.float32))
    np.testing.assert_array_equal(as_floats, boxes[0])


def test_there_is_no_face_in_noise_or_in_a_few_pixels():
    detect = faces.make_detector()
    assert detect(np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)) is None
    assert detect(np.zeros((8, 8, 3), np.uint8)) is None


def test_boxes_are_followed_smoothly_and_past_what_is_false():
    found_s, edges = np.arange(60.0), np.array([1.0, 2.0, 3.0, 4.0])
    found = np.repeat(found_s[:, None], 4, 1) * edges
    times = np.array([-1.0, 30.0, 30.25, 99.0])

    def follow(found, times):
        track = faces.Track(found_s, faces.smooth(found))
        return np.stack([faces.box_at(track, time) for time in times])

    followed = follow(found, times)
    np.testing.assert_allclose(followed[1:3], times[1:3, None] * edges, atol=1e-3)
    np.testing.assert_array_equal(followed[[0, 3]], follow(found, [0.0, 59.0]))
    found[28:33] = 1000  # false ones, fewer than half of the median's
    away = follow(found, times)
    assert abs(away - followed).max() < 12


def test_the_inner_part_keeps_the_centre():
    np.testing.assert_allclose(faces.inner(np.array([0.0, 100.0, 100.0, 300.0])), [20, 140, 80, 260])


@pytest.mark.parametrize(("every", "follows"), [(3, True), (4, False)])
def test_a_face_in_too_few_frames_is_none(every, follows):
    there, away = on_canvas(90, 100), np.full((480, 640, 3), 128, np.uint8)
    frames = np.stack([there if index % every == 0 else away for index in range(12)])
    track, share = faces.find_faces(video.from_array(frames, fps=1.0))
    assert share == pytest.approx(1 / every)
    assert (track is not None) == follows


def test_faces_are_looked_for_once_a_second():
    track, share = faces.find_faces(video.from_array(np.stack([on_canvas(0, 0)] * 5), fps=2.0))
    assert share == 1
    np.testing.assert_array_equal(track.time_s, [0, 1, 2])


def test_without_the_extra_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    faces.make_detector.cache_clear()
    with pytest.raises(InputError, match=r"needs scikit-image; pip install scikit-image, or --roi=skin"):
        faces.make_detector()
    faces.make_detector.cache_clear()
