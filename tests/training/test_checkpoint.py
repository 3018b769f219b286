import dataclasses
import json

import jax
import numpy as np
import pytest
from helpers.configs import replace
from helpers.launching import ROOT

from pulse3d.config import PRESETS, get_preset
from pulse3d.errors import InputError
from pulse3d.network import keras_import, model, weights_file
from pulse3d.training import checkpoint, train


@pytest.fixture
def params(toy):
    return model.init_params(jax.random.key(0), toy)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "best"), [("accuracy", 2), ("within_one_class", 3), ("loss", 4)])
def test_latest_and_best_are_kept_apart(tmp_path, toy, metric, best):
    """The best has the largest share right, or the smallest loss; each metric has another best and last."""
    state = train.init_state(toy)
    store = checkpoint.Checkpoints(tmp_path, metric)
    assert store.latest_step() is None
    scores = [(0.5, 0.6, 1.4), (0.9, 0.7, 1.6), (0.7, 0.95, 1.5), (0.6, 0.5, 0.8), (0.4, 0.4, 1.3)]
    for step, values in enumerate(scores, 1):
        marked = state.replace(step=state.step + step)
        store.save(step, marked, dict(zip(("accuracy", "within_one_class", "loss"), values, strict=True)))
    store.close()
    store = checkpoint.Checkpoints(tmp_path, metric)
    assert store.latest_step() == 5
    assert int(store.restore_latest(state).step) == 5
    step, restored = store.restore_best(state)
    assert (step, int(restored.step)) == (best, best)
    assert_equal(restored.params, state.params)
    store.close()


@pytest.mark.slow
def test_the_average_is_kept_with_the_parameters(tmp_path, toy_cells):
    state = train.init_state(toy_cells)
    marked = state.replace(average=jax.tree.map(lambda x: x + 1, state.average))
    store = checkpoint.Checkpoints(tmp_path, "loss")
    store.save(1, marked, {"loss": 1.0})
    store.close()
    store = checkpoint.Checkpoints(tmp_path, "loss")
    restored = store.restore_latest(train.init_state(toy_cells))
    store.close()
    assert_equal(restored.average, marked.average)
    assert_equal(restored.final_params, marked.average)
    assert_equal(restored.params, state.params)


def test_workdir_refuses_another_run_and_names_the_difference(tmp_path, toy):
    checkpoint.prepare_workdir(tmp_path / "run", toy)
    checkpoint.prepare_workdir(tmp_path / "run", replace(toy, train={"steps": 99}))
    with pytest.raises(InputError, match=r"train.seed: 0 -> 3"):
        checkpoint.prepare_workdir(tmp_path / "run", replace(toy, train={"seed": 3}))


def test_weights_file_round_trip(tmp_path, toy, params):
    path = tmp_path / "weights.npz"
    weights_file.save_weights(path, params, toy, {"seed": 7})
    assert [p.name for p in tmp_path.iterdir()] == ["weights.npz"]
    loaded = weights_file.load_weights(str(path))
    assert_equal(loaded.params, params)
    assert (loaded.config.clip, loaded.config.model, loaded.config.train) == (toy.clip, toy.model, toy.train)
    assert loaded.provenance == {"seed": 7}
    assert_equal(weights_file.load_weights(str(tmp_path)).params, params)
    assert_equal(weights_file.load_weights(str(path), like=replace(toy, train={"seed": 5})).params, params)
    with pytest.raises(InputError, match="another network"):
        weights_file.load_weights(str(path), like=replace(toy, model={"hidden": 8}))


def test_weights_of_the_default_network_are_used_as_their_preset_says(tmp_path, toy_cells):
    path, preset = tmp_path / "weights.npz", get_preset("default")
    params = model.init_params(jax.random.key(0), toy_cells)
    weights_file.save_weights(path, params, dataclasses.replace(toy_cells, preset="default"), {})
    loaded = weights_file.load_weights(str(path))
    assert_equal(loaded.params, params)
    assert (loaded.config.clip, loaded.config.generator, loaded.config.model) == (
        toy_cells.clip, toy_cells.generator, toy_cells.model,
    )  # fmt: skip
    assert (loaded.config.map, loaded.config.readout) == (preset.map, preset.readout)


BUNDLED = sorted(path.stem for path in (ROOT / "pulse3d" / "weights").glob("*.npz"))


def test_every_preset_has_its_weights():
    assert sorted(PRESETS) == BUNDLED
    assert model.count_params(weights_file.load_weights("paper").params) == 929_388


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_weights_carry_their_provenance(name):
    weights = weights_file.load_weights(name)
    assert weights.config.clip == get_preset(name).clip
    assert weights.provenance["command"].startswith("python -m launch.train --")
    assert {"seed", "step", "clips_seen", "device", "curve", "fresh_clips"} <= set(weights.provenance)
    assert weights.name == name


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("default", marks=pytest.mark.long), "paper"])
def test_bundled_weights_score_what_they_claim(name):
    """The first clips again, and the others by chance; score the file anew (`train.fresh_scores`) where its
    network or the generator changes."""
    weights = weights_file.load_weights(name)
    stated, few = weights.provenance, weights.provenance["first_clips"]
    settings = replace(weights.config, train={"eval_clips": few, "eval_batch_size": few})
    scores = train.make_evaluate(settings)(weights.params, seed=2)
    assert scores["loss"] == pytest.approx(stated["first_clips_scores"]["loss"], rel=2e-3)
    for share in ("accuracy", "within_one_class"):
        assert scores[share] == pytest.approx(stated["first_clips_scores"][share], abs=1.5 / few)
        expected = stated["fresh_clips_scores"][share]
        assert scores[share] == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / few))


@pytest.mark.slow
def test_scores_of_a_file_are_those_of_its_parameters_on_its_first_clips_and_all(toy):
    settings = replace(toy, train={"eval_batch_size": 20, "eval_clips": 50})
    params = model.init_params(jax.random.key(4), settings)
    found = train.fresh_scores(params, settings, few=12)
    assert (found["fresh_clips"], found["first_clips"]) == (50, 12)
    assert found["fresh_clips_scores"] == train.make_evaluate(settings)(params, seed=2)
    first = replace(settings, train={"eval_batch_size": 12, "eval_clips": 12})
    expected = train.make_evaluate(first)(params, seed=2)
    assert found["first_clips_scores"] == pytest.approx(expected, rel=1e-4)
    assert found["first_clips_scores"]["loss"] != found["fresh_clips_scores"]["loss"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path, toy, params: path.write_text("hello"), "not a weights file"),
        (lambda path, toy, params: path.write_bytes(b""), "not a weights file"),
        (lambda path, toy, params: path.write_bytes(path.read_bytes()[:1000]), "not a weights file"),
        (lambda path, toy, params: np.savez(path, a=np.zeros(3)), "not a weights file"),
        (
            lambda path, toy, params: np.savez(path, metadata=np.array('{"format": 3}')),
            "not of the format 'pulse3d weights 1'",
        ),
        (
            lambda path, toy, params: weights_file.save_weights(
                path, params, replace(toy, model={"hidden": 8}), {}
            ),
            r"another network: classes/kernel is \(32, 5\), expected \(8, 5\)",
        ),
        (
            lambda path, toy, params: weights_file.save_weights(
                path, jax.tree.map(lambda x: x * np.nan, params), toy, {}
            ),
            "not finite",
        ),
    ],
)
def test_damaged_weights_get_one_clear_line(tmp_path, toy, params, damage, message):
    path = tmp_path / "weights.npz"
    weights_file.save_weights(path, params, toy, {})
    damage(path, toy, params)
    with pytest.raises(InputError, match=message) as error:
        weights_file.load_weights(str(path))
    assert str(path) in str(error.value)


def test_unknown_weights_name_the_choices(tmp_path):
    with pytest.raises(InputError, match="one of chrom, default, green, paper, pos"):
        weights_file.load_weights("papr")
    with pytest.raises(InputError, match="holds neither"):
        weights_file.load_weights(str(tmp_path))


def test_keras_import_reads_the_original_layout(shared):
    h5py = pytest.importorskip("h5py")
    weights = weights_file.load_weights(str(shared / "reference"))
    assert model.count_params(weights.params) == 929_388
    assert weights.config.clip == get_preset("paper").clip
    with h5py.File(shared / "reference" / keras_import.KERAS_WEIGHTS) as file:
        np.testing.assert_array_equal(weights.params["classes"]["bias"], file["dense_1/dense_1/bias:0"])


def test_keras_import_refuses_other_networks(tmp_path):
    (tmp_path / keras_import.KERAS_MODEL).write_text(json.dumps({"config": {"layers": []}}))
    with pytest.raises(InputError, match="not the original program's network"):
        weights_file.load_weights(str(tmp_path))
