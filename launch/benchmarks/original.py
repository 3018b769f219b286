"""The original program, for comparison: its clips in NumPy, its network in Keras.

Written from the procedure's description (Bousefsaf et al. 2019; `synthetic.paper_clips` has the same laws for
the accelerator). Clips are made one at a time, as in the original. Keras, in the extra `bench`, is imported
only where it is used.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from pulse3d.config import Config, GeneratorConfig, ModelConfig, expect
from pulse3d.errors import InputError
from pulse3d.network.model import Params

Clips = Float[np.ndarray, "batch time height width channel"]


def make_clip(
    rng: np.random.Generator, config: Config, *, label: int
) -> Float[np.ndarray, "time height width channel"]:
    """One clip of a class with its mean subtracted; white is 1."""
    clip, laws = config.clip, expect(config.generator, GeneratorConfig)
    shape = (clip.frames, clip.patch_px, clip.patch_px, clip.channels)
    trend = _trend(rng, clip.frames, laws)
    if label == clip.rates:
        video = rng.standard_normal(shape) * laws.no_pulse_noise_sd
        video += trend[:, None, None, None] * laws.value_scale
        return (video - video.mean()).astype(np.float32)
    a0, a1, b1, a2, b2 = laws.fourier
    time_s = np.arange(clip.frames) / clip.fps + rng.integers(laws.phases) * laws.phase_step_s
    angle = 2 * np.pi * clip.rate_axis_bpm[label] / 60 * time_s
    wave = a0 + a1 * np.cos(angle) + b1 * np.sin(angle) + a2 * np.cos(2 * angle) + b2 * np.sin(2 * angle)
    trace = (wave - wave.min()) / np.ptp(wave) + trend
    trace -= trace.min()
    amplitude = rng.uniform(laws.amplitude_low, laws.amplitude_high)
    percent = rng.uniform(laws.noise_low_percent, laws.noise_high_percent)
    noise = rng.normal(laws.noise_mean, laws.noise_sd, shape)
    video = np.tile(trace[:, None, None, None], (1, *shape[1:])) * laws.value_scale * amplitude
    video += noise * amplitude * laws.noise_scale * percent / 100
    grey = np.maximum(video * 255, 0).astype(np.uint8)
    video = grey / 255
    return (video - video.mean()).astype(np.float32)


def make_batch(
    rng: np.random.Generator, config: Config, *, size: int
) -> tuple[Clips, Int[np.ndarray, "batch"]]:
    """`size` clips, the classes in turn."""
    labels = np.arange(size) % config.clip.classes
    return np.stack([make_clip(rng, config, label=int(label)) for label in labels]), labels


def _trend(rng: np.random.Generator, frames: int, laws: GeneratorConfig) -> Float[np.ndarray, "time"]:
    """A polynomial of order 1, 2 or 3; the higher ones are centred half of the time."""
    order, centred = int(rng.integers(1, 4)), bool(rng.integers(2))
    centred &= order > 1 or laws.centre_linear_trend
    bound = laws.linear_trend if order == 1 else laws.curved_trend
    base = np.linspace(-0.5, 0.5, frames) if centred else np.linspace(0.0, 1.0, frames)
    powers = base**order
    return (0.5 if centred else 1.0) * rng.uniform(-bound, bound) * powers / powers.max()


def make_network(params: Params, config: Config) -> Any:
    """The Keras model of `params`, compiled as the original trains it: patches in, probabilities out.

    Raises InputError where Keras is not installed.
    """
    try:
        import keras
    except ImportError:
        raise InputError("Keras and TensorFlow are not installed: pip install keras tensorflow-cpu") from None
    clip, network = config.clip, expect(config.model, ModelConfig)
    layers = keras.layers
    sequence = keras.Sequential(
        [
            keras.Input((clip.frames, clip.patch_px, clip.patch_px, clip.channels)),
            layers.Conv3D(network.filters, network.kernel, name="convolution"),
            layers.MaxPooling3D(network.pool),
            layers.Activation("relu"),
            layers.Dropout(network.dropout),
            layers.Flatten(),
            layers.Dense(network.hidden, activation="relu", name="hidden"),
            layers.Dropout(network.dropout),
            layers.Dense(clip.classes, activation="softmax", name="classes"),
        ]
    )
    for name, values in jax.tree.map(np.asarray, params).items():
        sequence.get_layer(name).set_weights([values["kernel"], values["bias"]])
    sequence.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return sequence
