"""The built-in demo scene: a video with a known pulse-rate map.

Three ellipses pulsate, each at its own rate, on a textured background without a pulse; the same
camera noise covers everything. The scene shows what a map is, and checks an installation.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from pulse3d.config import GeneratorConfig, SceneConfig
from pulse3d.synthetic import paper_clips, waveform


class Scene(NamedTuple):
    """Frames, and the truth: one mask and one rate per region; there is no pulse outside the masks."""

    frames: UInt8[np.ndarray, "time height width 3"]
    masks: Bool[np.ndarray, "region height width"]
    rates_bpm: tuple[float, ...]


def make_scene(key: jax.Array, scene: SceneConfig) -> Scene:
    """Renders the scene, with the pulse wave of the paper's generator."""
    shape = (scene.height_px, scene.width_px)
    masks = region_masks(scene)
    keys = jax.random.split(key, 3 + len(scene.rates_bpm))
    time_s = jnp.arange(round(scene.duration_s * scene.fps)) / scene.fps

    # static texture: white noise smoothed at three scales, 1 SD = scene.texture
    octaves = zip(jax.random.split(keys[0], 3), (2.0, 6.0, 18.0), strict=True)
    texture = jnp.sum(jnp.stack([_smooth_noise(k, shape, scale) for k, scale in octaves]), 0)
    base = jnp.where(np.any(masks, axis=0)[..., None], jnp.asarray(scene.skin), jnp.asarray(scene.background))
    base = base * (1 + scene.texture / np.sqrt(3) * texture[..., None])

    pulse = jnp.zeros((len(time_s), *shape))
    for mask, rate, region_key in zip(masks, jnp.asarray(scene.rates_bpm), keys[3:], strict=True):
        # start of the wave: U(0, 60 / rate) s
        shift_s = jax.random.uniform(region_key, maxval=60 / rate)
        wave = waveform.normalise(waveform.pulse_wave(time_s + shift_s, rate, GeneratorConfig().fourier))
        pulse += wave[:, None, None] * mask
    # slow change of the light, the same everywhere: one period in the scene's length
    light = scene.drift * jnp.sin(2 * jnp.pi * time_s / scene.duration_s)

    def frame(args):
        index, noise_key = args
        # camera noise: N(0, scene.noise) per pixel, channel and frame
        noise = scene.noise * jax.random.normal(noise_key, (*shape, 3))
        signal = pulse[index][..., None] * scene.amplitude * jnp.asarray(scene.pulse_colour)
        return (paper_clips.quantise(base + light[index] + signal + noise) * 255).astype(jnp.uint8)

    noise_keys = jax.random.split(keys[1], len(time_s))
    frames = jax.jit(lambda: jax.lax.map(frame, (jnp.arange(len(time_s)), noise_keys)))()
    return Scene(np.asarray(frames), masks, scene.rates_bpm)


def region_masks(scene: SceneConfig) -> Bool[np.ndarray, "region height width"]:
    """Ellipses side by side, evenly spaced."""
    count = len(scene.rates_bpm)
    y, x = np.mgrid[: scene.height_px, : scene.width_px]
    spacing = scene.width_px / count
    return np.stack(
        [
            ((x - (i + 0.5) * spacing) / (0.4 * spacing)) ** 2
            + ((y - scene.height_px / 2) / (0.38 * scene.height_px)) ** 2
            < 1
            for i in range(count)
        ]
    )


def _smooth_noise(key: jax.Array, shape: tuple[int, int], scale: float) -> Float[Array, "height width"]:
    """Gaussian noise, low-pass filtered to details of about `scale` pixels; mean 0, SD 1."""
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    smoothing = np.exp(-2 * (np.pi * scale) ** 2 * (fy**2 + fx**2))
    smooth = jnp.fft.irfft2(jnp.fft.rfft2(jax.random.normal(key, shape)) * smoothing, shape)
    return (smooth - smooth.mean()) / smooth.std()
