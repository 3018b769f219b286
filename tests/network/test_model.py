import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.configs import parameters

from pulse3d.config import get_preset
from pulse3d.network import model, weights_file
from pulse3d.synthetic import examples, paper_clips

pytestmark = pytest.mark.slow


def numpy_forward(params, clip):
    """The paper's network with loops and NumPy alone, in float64; returns probabilities."""
    weights = {k: {n: np.asarray(a, np.float64) for n, a in v.items()} for k, v in params.items()}
    kernel, bias = weights["convolution"]["kernel"], weights["convolution"]["bias"]
    clip = np.asarray(clip, np.float64)
    outputs = [n - k + 1 for n, k in zip(clip.shape[:3], kernel.shape[:3], strict=True)]
    convolved = np.zeros((*outputs, kernel.shape[-1]))
    for t, y, x in np.ndindex(*outputs):
        piece = clip[t : t + kernel.shape[0], y : y + kernel.shape[1], x : x + kernel.shape[2]]
        convolved[t, y, x] = np.tensordot(piece, kernel, 4) + bias
    pooled = np.zeros((*(n // 2 for n in outputs), kernel.shape[-1]))
    for t, y, x in np.ndindex(*pooled.shape[:3]):
        pooled[t, y, x] = convolved[2 * t : 2 * t + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].max((0, 1, 2))
    features = np.maximum(pooled, 0).ravel()
    hidden = np.maximum(features @ weights["hidden"]["kernel"] + weights["hidden"]["bias"], 0)
    logits = hidden @ weights["classes"]["kernel"] + weights["classes"]["bias"]
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


def test_has_the_papers_number_of_parameters(paper):
    params = model.init_params(jax.random.key(0), paper)
    assert model.count_params(params) == 929_388
    assert model.param_shapes(paper) == {
        "convolution/kernel": (58, 20, 20, 1, 32),
        "convolution/bias": (32,),
        "hidden/kernel": (288, 512),
        "hidden/bias": (512,),
        "classes/kernel": (512, 76),
        "classes/bias": (76,),
    }


def test_equals_a_forward_pass_in_numpy(toy):
    params = model.init_params(jax.random.key(0), toy)
    (clips,), _ = examples.make_batch(jax.random.key(1), toy, size=4)
    probability = jax.nn.softmax(model.apply_logits(params, (20 * clips,), toy))
    for clip, row in zip(20 * clips, probability, strict=True):
        np.testing.assert_allclose(row, numpy_forward(params, clip), atol=1e-5)


def test_dropout_acts_in_training_only(toy):
    params = model.init_params(jax.random.key(0), toy)
    (clips,), _ = examples.make_batch(jax.random.key(1), toy, size=4)
    net = model.make_model(toy)
    outputs = [
        net.apply({"params": params}, clips, train=True, rngs={"dropout": jax.random.key(i)}) for i in (0, 1)
    ]
    assert not np.allclose(*outputs)
    np.testing.assert_array_equal(
        model.apply_logits(params, (clips,), toy), net.apply({"params": params}, clips)
    )


@pytest.fixture(scope="module")
def reference(shared):
    return weights_file.load_weights(str(shared / "reference"))


@pytest.mark.parametrize("rate", [60, 80, 100, 140])
def test_reference_weights_answer_clean_patches(reference, rate):
    config = reference.config
    label = int(np.flatnonzero(config.clip.rate_axis_bpm == rate)[0])
    clip = paper_clips.render(jax.random.key(0), parameters(label=label, noise_percent=2.0), config)
    probability = jax.nn.softmax(model.apply_logits(reference.params, (clip[None],), config)[0])
    assert config.clip.rate_axis_bpm[int(jnp.argmax(probability))] == rate
    np.testing.assert_allclose(probability, numpy_forward(reference.params, clip), atol=1e-4)


def test_default_network_has_its_number_of_parameters():
    shapes = model.param_shapes(get_preset("default"))
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 21_465
