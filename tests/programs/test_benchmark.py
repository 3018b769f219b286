"""Every row of the benchmark, with networks that compile in seconds."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from launch import benchmark
from launch.benchmarks import base, timing, videos
from pulse3d import config, video
from pulse3d.network import model, weights_file


@pytest.fixture
def bench(toy, toy_cells, tmp_path, monkeypatch):
    """Two repetitions of small work."""
    presets = {
        name: dataclasses.replace(settings, preset=name)
        for name, settings in (("paper", toy), ("default", toy_cells))
    }
    monkeypatch.setattr(config, "PRESETS", presets)

    def load(name):
        params = jax.tree.map(np.asarray, model.init_params(jax.random.key(0), presets[name]))
        return weights_file.Weights(jax.tree.map(jax.numpy.asarray, params), presets[name], {}, name)

    monkeypatch.setattr(weights_file, "load_weights", load)
    sizes = dataclasses.replace(base.SMALL, frame=(48, 64), matrix=64, array=1000)
    return base.Bench(sizes, 2, tuple(jax.devices()[:1]), 2, tmp_path)


def check(figures, count):
    assert len(figures) == count
    assert len({figure.what for figure in figures}) == count
    for figure in figures:
        for measured in (figure.ratio, *figure.costs.values()):
            assert 0 < measured.lowest <= measured.median <= measured.highest < np.inf, figure
        values = json.loads(json.dumps(base.as_json(figure)))
        assert values["ratio"]["median"] == figure.ratio.median


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "figures"),
    [
        ("dense", 4),
        *(
            pytest.param(*row, marks=pytest.mark.long)
            for row in (("generator", 3), ("precision", 2), ("work", 8), ("roofline", 6))
        ),
    ],
)
def test_row(bench, row, figures):
    check(benchmark.ROWS[row](bench), figures)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", ["keras", "training"])
def test_row_with_keras(bench, row):
    try:
        check(benchmark.ROWS[row](bench), 2)
    except base.NotHere as why:
        pytest.skip(str(why))


@pytest.mark.long
@pytest.mark.slow
def test_rows_of_videos(bench, monkeypatch):
    """The command is replaced by one that takes 2 s, 0.1 s more for each second of video, and 100 MB."""
    asked = []

    def predict(bench, path, name, *options):
        asked.append((path.name, name, *options))
        return timing.Usage(2 + 0.1 * video.open_video(path).duration_s, 100 * 10**6)

    monkeypatch.setattr(videos, "predict", predict)
    figures = videos.predict_row(bench)
    check(figures, 6 + 8)
    assert figures[0].ratio.median == pytest.approx(12 / 3.2, rel=0.01)
    assert figures[0].costs["minute of video"].median == pytest.approx(3.2 * 5, rel=0.01)
    assert figures[1].ratio.median == pytest.approx(10, rel=0.02)
    assert figures[2].ratio.median == pytest.approx(1 / 15, rel=0.01)
    shares = [figure.ratio.median for figure in figures[6:10]]
    assert sum(shares) == pytest.approx(1, abs=0.05)
    # the cache is filled first
    assert asked[:2] == [("clip.mp4", "default"), ("clip.mp4", "paper")]
    check(videos.memory_row(bench), 1)


def test_the_whole_schedule_is_for_accelerators(bench):
    with pytest.raises(base.NotHere, match="accelerator"):
        benchmark.ROWS["schedule"](bench)


def test_table_has_a_line_for_every_figure(bench):
    spread = timing.spread(np.array([2.0, 3.0, 7.0]))
    figure = base.Figure("this over that", spread, {"this": spread, "that": spread}, "s")
    result = {
        "machine": timing.describe_machine(bench.devices[0]) | {"devices": 1},
        "repeats": 3,
        "figures": [{"row": "dense"} | base.as_json(figure)],
        "skipped": {"keras": "not installed"},
    }
    lines = benchmark.make_table(result).splitlines()
    assert jax.__version__ in lines[0]
    assert lines[4] == "| dense | this over that | 3 | 2 to 7 | this 3; that 3 (s) |"
    assert lines[5].startswith("| keras | skipped: not installed |")
    assert {line.count("|") for line in lines[2:]} == {6}
