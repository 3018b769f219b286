"""The numbers depend on the video alone: not on rounding, devices, cuts, names, places or clocks."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from itertools import chain

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.launching import ROOT

from pulse3d import stream, video
from pulse3d.config import SceneConfig
from pulse3d.mapping import definition
from pulse3d.mapping.layout import make_layout
from pulse3d.network import cell_input, model, weights_file
from pulse3d.network.weights_file import Weights
from pulse3d.reading import readout, tracking
from pulse3d.synthetic import demo_scene

pytestmark = pytest.mark.slow

ONE = jax.devices()[:1]


@pytest.fixture(scope="module")
def frames():
    """Twelve seconds of one ellipse, 30 fps, 48 x 48 px."""
    shown = SceneConfig(height_px=48, width_px=48, duration_s=12.0, rates_bpm=(72.0,))
    return demo_scene.make_scene(jax.random.key(0), shown).frames


def cells_float64(frames, layout, config):
    """What the network reads, in the layout's cells, all in float64."""
    (rows, cols), size = layout.grid, layout.cell_px
    used = frames[:, layout.top : layout.top + rows * size, layout.left : layout.left + cols * size]
    cells = used.reshape(len(frames), rows, size, cols, size, 3).mean((2, 4)) / 255
    cells = cells.reshape(-1, config.map.average_frames, rows, cols, 3).mean(1)
    return cells[..., 1:2] if config.clip.channels == 1 else cells


def exact_map(params, cells, config, *, start, stride):
    """The map of the window that starts at a frame: patch by patch, or of all cells of the whole video."""
    if not config.map.cells:
        window = cells[start : start + config.clip.frames]
        return definition.map_by_definition(params, window, config, stride=stride)
    changes = cell_input.relative_changes(jnp.asarray(cells), memory=cell_input.memory_frames(config))
    tapers = cell_input.hann(start, config.clip.frames, len(changes))[None, None]
    seconds = jnp.full((1, 1), config.clip.duration_s)
    logits = model.apply_logits(params, (changes[None], tapers, seconds), config)[0, 0]
    return np.asarray(cell_input.within_axis(jax.nn.softmax(logits)))[::stride, ::stride]


@pytest.mark.long
@pytest.mark.parametrize("name", ["default", "paper"])
def test_float32_agrees_with_float64_on_the_whole_path(name, frames, monkeypatch):
    """Pixels to rates, by the fast path in float32 and by the definition in float64."""
    weights = weights_file.load_weights(name)
    config, step_s = weights.config, 2.0
    layout = make_layout(frames.shape[1:3], config, stride_px=12)
    timed = video.from_array(frames, fps=30.0).frames()
    found = list(stream.map_stream(timed, weights, stride_px=12, step_s=step_s, devices=ONE))[:2]

    cells, exact = cells_float64(frames, layout, config), []
    with monkeypatch.context() as patched, jax.enable_x64(True):
        patched.setattr(model, "make_model", partial(model.make_model, compute=jnp.float64))
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), weights.params)
        for index in range(len(found)):
            start = round(index * step_s * config.clip.fps)
            exact.append(exact_map(params, cells, config, start=start, stride=layout.stride))

    def readings(maps):
        evidence = [readout.evidence(m, config.readout, odds=config.odds) for m in maps]
        axis, window_s = config.clip.rate_axis_bpm, config.clip.duration_s
        options = {"step_s": step_s, "window_s": window_s}
        return np.array(tracking.readings(np.stack(evidence), axis, config.readout, **options))

    maps = [window.probability for window in found]
    difference = abs(np.stack(maps) - np.stack(exact)).max()
    found_bpm, exact_bpm = readings(maps), readings(exact)
    print(
        f"{name}: {difference:.1e} in probability, {abs(found_bpm - exact_bpm).max(0)} in bpm and confidence"
    )
    assert np.ptp(np.stack(exact), axis=(0, 1, 2)).max() > 0.1
    np.testing.assert_allclose(exact_bpm[:, 0], 72, atol=5)
    assert difference < 1e-4
    np.testing.assert_allclose(found_bpm, exact_bpm, atol=1e-3)


@pytest.fixture(scope="module")
def toy_weights(toy_cells):
    return Weights(model.init_params(jax.random.key(0), toy_cells), toy_cells, {}, "toy")


@pytest.fixture(scope="module")
def toy_frames():
    return np.random.default_rng(0).integers(0, 255, (120, 20, 30, 3)).astype(np.uint8)


def mapped(frames, weights, **options):
    """The windows of a toy video; their maps, evidence and readings are compared."""
    return list(stream.map_stream(frames, weights, step_s=0.8, **{"devices": ONE} | options))


def test_devices_do_not_change_the_readings(toy_frames, toy_weights):
    alone, two, four = (
        mapped(video.from_array(toy_frames, fps=15.0).frames(), toy_weights, devices=jax.devices()[:count])
        for count in (1, 2, 4)
    )
    assert len(alone) == 7
    for window, *others in zip(alone, two, four, strict=True):
        for other in others:
            np.testing.assert_allclose(other.probability, window.probability, atol=1e-6)
            np.testing.assert_allclose(other.reading, window.reading, atol=1e-3)


def test_a_video_cut_in_two_is_the_whole(toy_frames, toy_weights):
    whole = list(video.from_array(toy_frames, fps=15.0).frames())
    cut = [list(video.from_array(part, fps=15.0).frames()) for part in (toy_frames[:50], toy_frames[50:])]
    joined = chain(cut[0], ((50 / 15 + time_s, image) for time_s, image in cut[1]))
    expected = mapped(whole, toy_weights)
    jax.tree.map(np.testing.assert_array_equal, mapped(joined, toy_weights), expected)

    # from the second window's first frame on, which is the same by a clock that starts there; windows that
    # know nothing of what came before are as in the whole
    later, clock = mapped(whole[12:], toy_weights), mapped(whole, toy_weights, start_s=whole[12].time_s)
    assert len(later) == len(clock) == len(expected) - 1
    for a, b, seen in zip(later, clock, expected[1:], strict=True):
        assert a.time_s == pytest.approx(b.time_s) == pytest.approx(seen.time_s)
        np.testing.assert_array_equal(a.probability, b.probability)
        np.testing.assert_array_equal(a.evidence, b.evidence)
    before = cell_input.span(toy_weights.config) + cell_input.memory_frames(toy_weights.config)
    first = -(-before // 12)
    for a, b in zip(later[first:], expected[first + 1 :], strict=True):
        np.testing.assert_allclose(a.probability, b.probability, atol=1e-5)
    shifted = mapped([(4096 + time_s, image) for time_s, image in whole], toy_weights)
    for a, b in zip(shifted, expected, strict=True):
        assert a.time_s == pytest.approx(4096 + b.time_s)
        np.testing.assert_array_equal(a.probability, b.probability)
        np.testing.assert_array_equal(a.reading, b.reading)


WATCH = """
import sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        sys.stderr.write(f"NETWORK {event} {arguments}\\n")
        raise OSError("no network here")

sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """The same video twice: plainly, and with another name, folder, locale, time zone and no network."""
    root = tmp_path_factory.mktemp("runs")
    plain, other = root / "video.mkv", root / "a b" / "Müll [1] %s.mkv"
    rng, time_s = np.random.default_rng(0), np.arange(330) / 30
    colour = np.array([150, 110, 90]) * (1 - np.sin(2.4 * np.pi * time_s)[:, None] * [0.004, 0.01, 0.007])
    with av.open(str(plain), "w") as container:
        track = container.add_stream("ffv1", rate=30)
        track.height, track.width, track.pix_fmt = 48, 64, "bgr0"
        for image in colour[:, None, None] + rng.normal(0, 3, (330, 48, 64, 3)):
            image = np.clip(image.round(), 0, 255).astype(np.uint8)
            container.mux(track.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(track.encode())
    other.parent.mkdir()
    shutil.copy(plain, other)
    (root / "sitecustomize.py").write_text(WATCH)

    def predict(*arguments, cwd, prefix=(), **settings):
        environment = (
            os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | settings
        )
        command = [*prefix, sys.executable, "-m", "launch.predict", *arguments]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, timeout=300)

    apart = ["unshare", "-rn"]  # without any network device, where the kernel lets us
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True).returncode:
        apart = []
    done = (
        predict(f"--video={plain}", f"--out={root / 'first'}", cwd=root),
        predict(
            f"--video={other.name}", "--out=../second", cwd=other.parent, prefix=apart,
            PYTHONPATH=f"{root}{os.pathsep}{ROOT}", PYTHONHASHSEED="7",
            TZ="Pacific/Kiritimati", LC_ALL="tr_TR.UTF-8", LANG="de_DE.UTF-8",
        ),
    )  # fmt: skip
    return done, root / "first", root / "second"


def test_the_result_depends_on_the_video_alone(two_runs):
    done, first, second = two_runs
    assert [run.returncode for run in done] == [0, 0], done[1].stderr.decode()
    assert (first / "rates.csv").read_bytes() == (second / "rates.csv").read_bytes()
    with np.load(first / "map.npz") as a, np.load(second / "map.npz") as b:
        assert a.files == b.files
        for name in a.files:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])
        np.testing.assert_allclose(a["pulse_rate_bpm"], 72, atol=3)
    summaries = [
        json.loads((folder / "summary.json").read_text(encoding="utf-8")) for folder in (first, second)
    ]
    for summary in summaries:
        summary.pop("seconds")
        summary.pop("video")
    assert summaries[0] == summaries[1]


def test_no_network_is_asked_for(two_runs):
    done, _, second = two_runs
    assert done[1].returncode == 0, done[1].stderr.decode()
    assert b"NETWORK" not in done[1].stderr
    assert (second / "rates.csv").exists()
