"""Averages a map among neighbouring places of like colour: skin with skin, wall with wall.

A pulse does not end at a cell's edge, but it does end where the colour changes. So a place is weighted by its
distance and by how its colour differs:

    w_ij = exp( -|x_i - x_j|^2 / 2 reach^2  -  |c_i - c_j|^2 / 2 tolerance^2 )

c are logarithms of the colours, in which changes of light are sums; their mean, the brightness, counts half,
since shadows fall on skin as well. What is averaged is still evidence of a pulse: a colour alone has none.

Source: Tomasi and Manduchi, Bilateral Filtering for Gray and Color Images, ICCV 1998; with weights from
another image, Petschnigg et al., ACM Trans. Graphics 23(3), 2004 ("joint bilateral filter").
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

BRIGHTNESS = 0.5  # how much differences of brightness count
DARK = 0.02  # added to colours of 0...1 before the logarithm: black has none
FAR = 3.0  # places further away than this many times the reach have no weight

Colour = Float[np.ndarray, "row col channel"]


def average(
    values: Float[np.ndarray, "row col"], colour: Colour, *, reach: float, tolerance: float
) -> Float[np.ndarray, "row col"]:
    """The mean of every place's neighbours, weighted as above.

    reach: in places; tolerance: of logarithms, 0.1 is a difference of 10 %. colour: 0...1.
    """
    rows, cols = values.shape
    features = _features(colour) / np.float32(tolerance)
    across = np.square((np.arange(cols)[:, None] - np.arange(cols)) / reach).astype(np.float32)
    size, far = (features**2).sum(-1), int(np.ceil(FAR * reach))
    averaged = np.empty(values.shape)
    for row in range(rows):
        near = slice(max(0, row - far), row + far + 1)
        down = np.square((np.arange(rows)[near] - row) / reach).astype(np.float32)
        others = features[near].reshape(-1, features.shape[-1])
        apart = size[row][:, None] + size[near].reshape(-1) - 2 * features[row] @ others.T
        apart = apart.reshape(cols, -1, cols) + down[:, None] + across[:, None, :]
        weight = np.exp(-0.5 * apart).reshape(cols, -1)
        averaged[row] = weight @ values[near].reshape(-1) / weight.sum(1)
    return averaged


def _features(colour: Colour) -> Float[np.ndarray, "row col feature"]:
    """Logarithms of the colours without their mean, and the mean."""
    logs = np.log(np.asarray(colour, np.float32) + DARK)
    brightness = logs.mean(-1, keepdims=True)
    return np.concatenate([logs - brightness, BRIGHTNESS * brightness], -1).astype(np.float32)
