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
FAR = 3.0  # rows and columns further away than this many times the reach have no weight
ENOUGH = 5.0  # of a reach in places: where it is longer, not every neighbour is looked at
MOST = 500  # places to which the others' colours are compared
LEAST = 1e-30  # a place whose neighbours are all of other colours is its own mean

Colour = Float[np.ndarray, "row col channel"]


def average(
    values: Float[np.ndarray, "row col"], colour: Colour, *, reach: float, tolerance: float
) -> Float[np.ndarray, "row col"]:
    """The mean of every place's neighbours, weighted as above.

    reach: in places; tolerance: of logarithms, 0.1 is a difference of 10 %. colour: 0...1. Of a reach of 10
    places or more, every second neighbour counts, of 15 every third, and so on, which bounds the work.
    """
    features = _features(colour) / np.float32(tolerance)
    size, far = (features**2).sum(-1), int(np.ceil(FAR * reach))
    every = max(1, int(reach / ENOUGH))
    averaged = np.empty(values.shape)
    rows, cols = (np.arange(count) for count in values.shape)
    apart = np.square((cols[:, None] - cols[::every]) / reach).astype(np.float32)
    across = np.where(abs(cols[:, None] - cols[::every]) <= far, apart, np.inf)
    for row in rows:
        near = rows[max(0, row - far) : row + far + 1 : every]
        down = np.square((near - row) / reach).astype(np.float32)
        others = features[near, ::every]
        distance = size[row][:, None] - 2 * features[row] @ others.reshape(-1, others.shape[-1]).T
        distance = distance.reshape(len(cols), *others.shape[:2]) + size[near, ::every]
        weight = np.exp(-0.5 * (distance + down[:, None] + across[:, None, :])).reshape(len(cols), -1)
        total = weight @ values[near, ::every].reshape(-1) + LEAST * values[row]
        averaged[row] = total / (weight.sum(1) + LEAST)
    return averaged


def likeness(
    colour: Colour, weight: Float[np.ndarray, "row col"], *, tolerance: float
) -> Float[np.ndarray, "row col"]:
    """How like the colour of every place is to the colours of those that count by their weight.

        l_i = s_i / sum_j w_j s_j,  s_i = sum_j w_j exp( -|c_i - c_j|^2 / 2 tolerance^2 ),  sum_j w_j = 1

    1 is as like as these are to each other on average; 0 is nothing like them. Some weight is positive. Of
    more than MOST places that count, every second does, and so on, which bounds the work.
    """
    seen = _features(colour).reshape(weight.size, -1) / np.float32(tolerance)
    counting = np.flatnonzero(weight > 0)
    counting = counting[:: -(-len(counting) // MOST)]
    others, share = seen[counting], weight.reshape(-1)[counting].astype(np.float32)
    distance = (seen**2).sum(1)[:, None] - 2 * seen @ others.T + (others**2).sum(1)
    similar = np.exp(-0.5 * np.maximum(distance, 0)) @ (share / share.sum())
    return (similar / (similar[counting] @ share / share.sum())).reshape(weight.shape)


def _features(colour: Colour) -> Float[np.ndarray, "row col feature"]:
    """Logarithms of the colours without their mean, and the mean."""
    logs = np.log(np.asarray(colour, np.float32) + DARK)
    brightness = logs.mean(-1, keepdims=True)
    return np.concatenate([logs - brightness, BRIGHTNESS * brightness], -1).astype(np.float32)
