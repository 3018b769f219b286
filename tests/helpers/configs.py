"""Configs and clips that differ in what a test is about."""

import dataclasses

import jax.numpy as jnp

from pulse3d import config
from pulse3d.synthetic import paper_clips


def replace(settings: config.Config, **groups) -> config.Config:
    """The config with fields of its groups replaced: replace(c, train={"steps": 2})."""
    return dataclasses.replace(
        settings,
        **{name: dataclasses.replace(getattr(settings, name), **new) for name, new in groups.items()},
    )


def parameters(**values):
    """A pulse clip of 120 bpm without trend or noise, but for the values given."""
    defaults = {
        "label": 26,
        "phase": 0,
        "trend_order": 1,
        "trend_centred": False,
        "trend_end": 0.0,
        "amplitude": 4.0,
        "noise_percent": 0.0,
    }
    return paper_clips.ClipParameters(**{k: jnp.asarray(v) for k, v in (defaults | values).items()})
