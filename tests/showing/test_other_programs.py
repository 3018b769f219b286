import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import scipy.io
from helpers.results import AXIS, make_result

from pulse3d.errors import InputError
from pulse3d.mapping import export
from pulse3d.mapping.mapper import make_mapper
from pulse3d.network import model
from pulse3d.network.weights_file import Weights
from pulse3d.showing import matlab


def test_mat_file_has_the_maps_as_the_original_program(tmp_path):
    found = make_result(tmp_path, windows=3, rows=4, cols=5)
    matlab.write_mat(found, tmp_path / "map.mat")
    read = scipy.io.loadmat(tmp_path / "map.mat")
    assert read["map_p"].shape == (4, 5, 3, len(AXIS) + 1)
    for window, shares in enumerate(found.probabilities()):
        np.testing.assert_allclose(read["map_p"][:, :, window, :-1], shares, atol=1e-6)
    np.testing.assert_allclose(read["map_p"][..., -1], found.network_no_pulse.transpose(1, 2, 0), atol=1e-6)
    np.testing.assert_array_equal(read["bpm"].ravel(), AXIS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.mat", "map.npz"]


def test_maps_too_large_for_a_mat_file_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab, "MAT_BYTES", 1000)
    with pytest.raises(InputError, match=r"map\.mat"):
        matlab.write_mat(make_result(tmp_path), tmp_path / "map.mat")
    assert not (tmp_path / "map.mat").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "frame"), [("toy", (21, 33)), ("toy_cells", (24, 40))])
def test_exported_network_runs_without_this_package(kind, frame, tmp_path, request):
    settings = request.getfixturevalue(kind)
    weights = Weights(model.init_params(jax.random.key(0), settings), settings, {}, kind)
    path = tmp_path / "network.jaxexport"
    about = export.export_network(weights, frame, path, stride_px=3)
    assert json.loads((tmp_path / "network.jaxexport.json").read_text()) == json.loads(json.dumps(about))
    window = np.random.default_rng(0).uniform(0.3, 0.7, about["input_shape"]).astype(np.float32)
    np.save(tmp_path / "window.npy", window)
    program = (
        "import jax, numpy as np, sys\n"
        "path = 'network.jaxexport'\n"
        "window = np.load('window.npy')\n"
        f"np.save('map.npy', np.asarray({about['load']}))\n"
        "assert not {'pulse3d', 'flax'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    mapper = make_mapper(weights.params, settings, frame, stride_px=3, devices=jax.devices()[:1])
    found = np.load(tmp_path / "map.npy")
    assert (
        found.shape
        == tuple(about["output_shape"])
        == (len(about["row_px"]), len(about["col_px"]), found.shape[2])
    )
    np.testing.assert_allclose(found, mapper(window), atol=1e-5)


def test_without_flatbuffers_there_is_one_clear_line(tmp_path, toy, monkeypatch):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda _: None)
    weights = Weights(model.init_params(jax.random.key(0), toy), toy, {}, "toy")
    with pytest.raises(InputError, match=r"pip install flatbuffers"):
        export.export_network(weights, (21, 33), tmp_path / "network")
    assert list(tmp_path.iterdir()) == []
