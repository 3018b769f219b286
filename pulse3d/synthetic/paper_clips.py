"""The paper's synthetic clips: uniformly pulsating, noisy patches, made on the device.

`sample_parameters` draws the parameters of a clip, `render` makes its video. `make_clip` does both for one
clip; use `jax.vmap` for many keys. Everything can be jitted.

A clip is float32 (time, height, width, 1) minus its mean, in units where 1 is the white of an 8-bit camera.
Its label is the index of its rate in `config.clip.rate_axis_bpm`, or `config.clip.rates` for "no pulse".
Source of the distributions: the public program of Bousefsaf et al. 2019 (ippg-3dcnn).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from pulse3d.config import Config, GeneratorConfig, expect
from pulse3d.synthetic import waveform


class ClipParameters(NamedTuple):
    """The random parameters of one clip; scalars."""

    label: Int[Array, ""]
    phase: Int[Array, ""]
    trend_order: Int[Array, ""]
    trend_centred: Bool[Array, ""]
    trend_end: Float[Array, ""]
    amplitude: Float[Array, ""]
    noise_percent: Float[Array, ""]


def sample_parameters(
    key: PRNGKeyArray, config: Config, *, label: Int[Array, ""] | int | None = None
) -> ClipParameters:
    """Draws the parameters of one clip; `label` fixes its class instead of drawing it."""
    laws = expect(config.generator, GeneratorConfig)
    keys = jax.random.split(key, 7)
    # class: U{0, ..., rates}
    drawn_label = jax.random.randint(keys[0], (), 0, config.clip.classes)
    # phase: U{0, ..., phases - 1} steps
    phase = jax.random.randint(keys[1], (), 0, laws.phases)
    # trend order: U{1, 2, 3}
    order = jax.random.randint(keys[2], (), 1, 4)
    # centred trend: Bernoulli(1/2), without effect on order 1 in the original
    centred = jax.random.bernoulli(keys[3]) & ((order > 1) | laws.centre_linear_trend)
    # trend's end value: U(-linear, linear) for order 1, U(-curved, curved) for orders 2 and 3
    bound = jnp.where(order == 1, laws.linear_trend, laws.curved_trend)
    end = bound * jax.random.uniform(keys[4], minval=-1.0, maxval=1.0)
    # pulse amplitude: U(low, high)
    amplitude = jax.random.uniform(keys[5], minval=laws.amplitude_low, maxval=laws.amplitude_high)
    # noise: U(low, high) percent, one for the whole clip
    noise = jax.random.uniform(keys[6], minval=laws.noise_low_percent, maxval=laws.noise_high_percent)
    return ClipParameters(
        label=drawn_label if label is None else jnp.asarray(label, drawn_label.dtype),
        phase=phase,
        trend_order=order,
        trend_centred=centred,
        trend_end=end,
        amplitude=amplitude,
        noise_percent=noise,
    )


def pulse_trace(parameters: ClipParameters, config: Config) -> Float[Array, "time"]:
    """The noiseless brightness of a pulse clip: wave of 0...1 plus trend, minimum 0."""
    clip, laws = config.clip, expect(config.generator, GeneratorConfig)
    rate_bpm = jnp.asarray(clip.rate_axis_bpm, jnp.float32)[jnp.minimum(parameters.label, clip.rates - 1)]
    time_s = jnp.arange(clip.frames) / clip.fps + parameters.phase * laws.phase_step_s
    wave = waveform.normalise(waveform.pulse_wave(time_s, rate_bpm, laws.fourier))
    trace = wave + trend_trace(parameters, config)
    return trace - trace.min()


def trend_trace(parameters: ClipParameters, config: Config) -> Float[Array, "time"]:
    """The trend of a clip, in units of the pulse's peak-to-peak value."""
    return waveform.trend(
        parameters.trend_order, parameters.trend_centred, parameters.trend_end, config.clip.frames
    )


def render(
    key: PRNGKeyArray, parameters: ClipParameters, config: Config
) -> Float[Array, "time height width channel"]:
    """The video of one clip; the key draws the sensor noise of every pixel and frame."""
    clip, laws = config.clip, expect(config.generator, GeneratorConfig)
    # sensor noise: N(0, 1) per pixel and frame
    noise = jax.random.normal(key, (clip.frames, clip.patch_px, clip.patch_px, clip.channels))

    def spread(trace):
        return trace[:, None, None, None] * laws.value_scale

    # the noise of a pulse clip is N(mean, sd) x amplitude x scale x percent / 100
    noise_gain = parameters.amplitude * laws.noise_scale * parameters.noise_percent / 100
    pulse = spread(pulse_trace(parameters, config)) * parameters.amplitude
    pulse = quantise(pulse + (laws.noise_mean + laws.noise_sd * noise) * noise_gain)
    no_pulse = noise * laws.no_pulse_noise_sd + spread(trend_trace(parameters, config))
    if laws.quantise_no_pulse:
        no_pulse = quantise(no_pulse - no_pulse.min())
    video = jnp.where(parameters.label == clip.rates, no_pulse, pulse)
    return video - video.mean()


def quantise(video: Float[Array, "..."]) -> Float[Array, "..."]:
    """Quantises as an 8-bit camera does: in steps of 1/255, negatives to 0, fractions cut off."""
    return jnp.floor(jnp.clip(video * 255, 0, 255)) / 255


def make_clip(
    key: PRNGKeyArray, config: Config, *, label: Int[Array, ""] | int | None = None
) -> tuple[Float[Array, "time height width channel"], Int[Array, ""]]:
    """Draws one clip and its label; `label` fixes the class instead of drawing it."""
    parameters_key, noise_key = jax.random.split(key)
    parameters = sample_parameters(parameters_key, config, label=label)
    return render(noise_key, parameters, config), parameters.label
