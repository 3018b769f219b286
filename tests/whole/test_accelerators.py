"""What GPUs and TPUs are given to run, as far as it can be seen without one: the lowered programs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.configs import replace

from pulse3d.config import get_preset
from pulse3d.mapping.mapper import make_mapper
from pulse3d.network import model
from pulse3d.training import train

pytestmark = pytest.mark.slow
PLATFORMS = ("cuda", "tpu")
PRODUCT = re.compile(r"stablehlo\.(dot_general|dot|convolution)\b")
# characters of the programs: what grows beyond takes minutes to compile
TRAINING_LIMIT = {"paper": 500_000, "default": 4_000_000}
MAPPING_LIMIT = {"paper": 9_000_000, "default": 1_600_000}  # the paper's holds its weights


def lowered(function, *shapes, platforms=("cuda",)):
    """The text of a program for each platform; it is traced once."""
    traced = jax.jit(function).trace(*shapes)
    return [traced.lower(lowering_platforms=(platform,)).as_text() for platform in platforms]


def products(text):
    return [line for line in text.splitlines() if PRODUCT.search(line)]


def check(text, limit):
    """Nothing that only a CPU does well, no callback to the host, and float32 means float32."""
    assert not re.search(r"\bf64\b|xf64>|callback", text)
    assert len(text) < limit
    assert products(text)
    assert [line for line in products(text) if "HIGHEST" not in line] == []


def training_texts(settings, platforms):
    step = train.make_train_step(settings, train.make_mesh(jax.devices()[:1]))
    return lowered(step, jax.eval_shape(lambda: train.init_state(settings)), platforms=platforms)


@pytest.mark.parametrize("preset", ["paper", "default"])
def test_a_training_step_lowers_in_full_precision(preset):
    for text in training_texts(get_preset(preset), PLATFORMS):
        check(text, TRAINING_LIMIT[preset])


@pytest.mark.parametrize(
    ("preset", "limit_gb"), [("paper", 20), pytest.param("default", 8, marks=pytest.mark.long)]
)
def test_a_training_step_fits_one_accelerator(preset, limit_gb):
    """By XLA's own count for a CPU: the paper's batch of 15,200 clips in 70 GB, the default's in a laptop."""
    settings = get_preset(preset)
    step = train.make_train_step(settings, train.make_mesh(jax.devices()[:1]))
    memory = step.lower(jax.eval_shape(lambda: train.init_state(settings))).compile().memory_analysis()
    assert 0.1 < memory.temp_size_in_bytes / 1e9 < limit_gb


@pytest.mark.parametrize("preset", ["paper", "default"])
def test_a_map_lowers_in_full_precision(preset):
    settings = get_preset(preset)
    params = model.init_params(jax.random.key(0), settings)
    mapper = make_mapper(params, settings, (480, 640), devices=jax.devices()[:1])
    window = jax.ShapeDtypeStruct(mapper.window_shape, np.float32)
    for text in lowered(mapper.program, window, platforms=PLATFORMS):
        check(text, MAPPING_LIMIT[preset])


def test_bfloat16_is_for_the_products_of_the_network_alone(toy):
    [text] = training_texts(replace(toy, train={"compute": "bfloat16"}), ["cuda"])
    rounded = [line for line in products(text) if "xbf16>" in line]
    assert rounded == products(text), "the generator of this network multiplies no matrices"
    [exact] = training_texts(toy, ["cuda"])
    assert "bf16" not in exact


def test_the_check_sees_a_product_that_is_left_to_the_backend():
    [text] = lowered(jnp.dot, *[jax.ShapeDtypeStruct((4, 4), np.float32)] * 2)
    with pytest.raises(AssertionError):
        check(text, 10_000)
