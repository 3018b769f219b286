"""Methods that can be scored: a source of evidence with a read-out, written SOURCE or SOURCE:READOUT.

SOURCE is one of

    green, chrom, pos              on the mean colour of the skin, `traces.region_traces`
    green_map, chrom_map, pos_map  on the mean colour of every patch
    open-rppg:FacePhys.rlap ...    a model of open-rppg, if installed, `peers`
    anything else                  weights, as `weights_file.load_weights` takes them

and READOUT one of

    peak       the rate of the largest probability; default for green, chrom and pos
    posterior  the mode of the probability, with an interval, `readout.read`; default for maps of baselines
    tracked    as posterior, after `tracking.track` over all windows of the recording
    own        posterior or tracked, as set in the preset of the weights; default for weights
    median     the median over patches of each patch's most likely rate; default for open-rppg, its own rate
    eq8        the mean of the patches' hard votes, `readout.equation_8`
"""

from __future__ import annotations

from typing import NamedTuple

from pulse3d.config import CLASSICAL
from pulse3d.errors import InputError
from pulse3d.evaluation import peers

READOUTS = ("peak", "posterior", "tracked", "own", "median", "eq8")
REGIONS = ("face", "skin", "frame")  # where green, chrom and pos take the mean colour
BASELINES = tuple(CLASSICAL)
BASELINE_MAPS = tuple(f"{name}_map" for name in BASELINES)


class Method(NamedTuple):
    """A method as the user wrote it, its source, and its read-out."""

    name: str
    source: str
    readout: str


def parse_method(name: str) -> Method:
    """Parses a name SOURCE or SOURCE:READOUT; raises InputError for an unknown read-out."""
    peer, _, rest = name.partition(":") if is_peer(name) else ("", "", name)
    source, colon, asked = rest.partition(":")
    if not source or (colon and asked not in READOUTS):
        raise InputError(f"method {name}: expected SOURCE or SOURCE:READOUT with {', '.join(READOUTS)}")
    if peer:
        return Method(name, f"{peer}:{source}", asked or "median")
    unasked = "peak" if source in BASELINES else "posterior" if source in BASELINE_MAPS else "own"
    return Method(name, source, asked or unasked)


def is_peer(name: str) -> bool:
    """Whether a method or source is a model of another program."""
    return name.startswith(f"{peers.OPEN_RPPG}:")
