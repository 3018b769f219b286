import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_generator import parameters

from pulse3d import checkpoint, generator, model
from pulse3d.config import ClipConfig, get_preset


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
    (clips,), _ = generator.make_batch(jax.random.key(1), toy, size=4)
    probability = jax.nn.softmax(model.apply_logits(params, (20 * clips,), toy))
    for clip, row in zip(20 * clips, probability, strict=True):
        np.testing.assert_allclose(row, numpy_forward(params, clip), atol=1e-5)


def test_dropout_acts_in_training_only(toy):
    params = model.init_params(jax.random.key(0), toy)
    (clips,), _ = generator.make_batch(jax.random.key(1), toy, size=4)
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
    return checkpoint.load_weights(str(shared / "reference"))


@pytest.mark.parametrize("rate", [60, 80, 100, 140])
def test_reference_weights_answer_clean_patches(reference, rate):
    config = reference.config
    label = int(np.flatnonzero(config.clip.rate_axis_bpm == rate)[0])
    clip = generator.render(jax.random.key(0), parameters(label=label, noise_percent=2.0), config)
    probability = jax.nn.softmax(model.apply_logits(reference.params, (clip[None],), config)[0])
    assert config.clip.rate_axis_bpm[int(jnp.argmax(probability))] == rate
    np.testing.assert_allclose(probability, numpy_forward(reference.params, clip), atol=1e-4)


def test_default_network_has_its_number_of_parameters():
    shapes = model.param_shapes(get_preset("patches"))
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 44_219


def test_fourier_basis_gives_a_unit_cosine_the_coefficient_one():
    clip = get_preset("patches").clip
    time_s = (np.arange(150) - 74.5) / 15
    basis = model.fourier_basis(clip)
    assert basis.shape == (150, 5, 2, 81)
    for index in (20, 50, 80):
        for view, factor in enumerate((1, 2, 0.5)):
            angle = 2 * np.pi * factor * clip.rate_axis_bpm[index] / 60 * time_s
            for shift in (0.0, 1.0):
                cosine, sine = np.cos(angle - shift) @ basis[:, view, :, index]
                np.testing.assert_allclose([cosine, sine], [np.cos(shift), np.sin(shift)], atol=5e-3)
    assert np.cos(angle) @ basis[:, 2, 0, 0] == pytest.approx(0, abs=0.01), "another rate"


def test_fourier_basis_of_a_half_sees_that_half_alone():
    clip = get_preset("patches").clip
    basis = model.fourier_basis(clip)
    wave = np.cos(2 * np.pi * clip.rate_axis_bpm[50] / 60 * np.arange(150) / 15)
    for view, half in ((3, slice(75)), (4, slice(75, 150))):
        heard = np.where(np.isin(np.arange(150), np.arange(150)[half]), wave, 0)
        power = ((heard @ basis[:, view, :, 50]) ** 2).sum()
        assert power == pytest.approx(1, abs=0.02)
        assert ((wave - heard) @ basis[:, view, :, 50] == 0).all()


def test_fourier_basis_is_zero_from_half_the_frame_rate_on():
    clip = ClipConfig(fps=15.0, frames=60, low_bpm=100.0, high_bpm=300.0, rates=5)
    used = model.fourier_basis(clip).any((0, 2))
    np.testing.assert_array_equal(used, [[True] * 5, [True, True, True, False, False], *[[True] * 5] * 3])


@pytest.fixture(scope="module")
def spectral(toy_skin):
    """The small default network, random parameters, and clips of 4 x 4 cells."""
    params = model.init_params(jax.random.key(0), toy_skin)
    clips = 0.02 * jax.random.normal(jax.random.key(1), (3, 60, 4, 4, 3))
    return model.make_model(toy_skin), {"params": params}, clips


def test_patches_of_positions_are_the_whole_network(spectral):
    network, variables, clips = spectral
    spectra = network.apply(variables, clips, method="positions")
    assert spectra.attention.shape == (3, 2, 2, 3)
    assert spectra.wave.shape == (3, 2, 2, 3, 5, 2, 8)
    np.testing.assert_allclose((spectra.wave[..., 0, :, :] ** 2).sum(-2).mean(-1), 1, rtol=0.01)
    flat = jax.tree.map(lambda x: x.reshape(3, 4, *x.shape[3:]), spectra)
    logits = network.apply(variables, flat, method="patches")
    assert logits.shape == (3, 9)
    np.testing.assert_allclose(logits, network.apply(variables, clips), atol=1e-5)


def test_patches_ignore_the_strength_and_order_of_positions(spectral):
    network, variables, clips = spectral
    spectra = network.apply(variables, clips, method="positions")
    flat = jax.tree.map(lambda x: x.reshape(3, 4, *x.shape[3:]), spectra)
    expected = network.apply(variables, flat, method="patches")
    gain = jnp.array([2.0, 3.0, 0.5])[:, None, None, None]
    for same in (
        flat._replace(wave=gain * flat.wave),
        flat._replace(attention=flat.attention + jnp.array([1.0, -2.0, 3.0])),
        jax.tree.map(lambda x: x[:, jnp.array([2, 0, 3, 1])], flat),
    ):
        np.testing.assert_allclose(network.apply(variables, same, method="patches"), expected, atol=1e-3)
    other = network.apply(variables, flat._replace(attention=3 * flat.attention), method="patches")
    assert abs(other - expected).max() > 1e-3


def test_a_clip_in_which_nothing_moves_has_finite_gradients(spectral):
    network, variables, clips = spectral
    for still in (jnp.zeros_like(clips), jnp.ones_like(clips)):
        gradients = jax.grad(lambda v, x: network.apply(v, x)[:, 0].sum(), argnums=(0, 1))(variables, still)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
