"""A result as a MATLAB file, in the original program's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io

from pulse3d.errors import InputError
from pulse3d.files import whole_file
from pulse3d.result import Result

MAT_BYTES = 2**31 - 2**20  # limit of a variable in a MATLAB file of version 5


def write_mat(result: Result, path: Path) -> None:
    """Writes the maps as the original program does: `map_p`, (row, col, window, class), "no pulse" last.

    Also writes `bpm` (the rates of all classes but the last), `time_s`, `row_px` and `col_px`. In MATLAB,
    [~, i] = max(map_p(:, :, 1, :), [], 4) is the most likely class of every place in the first window.
    Raises InputError for more than 2 GB, the limit of such a file.
    """
    windows, rows, cols = result.rate_bpm.shape
    size = 4 * windows * rows * cols * (len(result.rate_axis_bpm) + 1)
    if size > MAT_BYTES:
        raise InputError(
            f"{path}: {size / 2**30:.1f} GB of maps, and a .mat file holds 2; take a larger step or stride"
        )
    maps = np.empty((rows, cols, windows, len(result.rate_axis_bpm) + 1), np.float32)
    for window, probability in enumerate(result.maps()):
        maps[:, :, window] = probability
    names = ("time_s", "row_px", "col_px")
    named = {"bpm": result.rate_axis_bpm} | {name: getattr(result, name) for name in names}
    with whole_file(path) as temporary, temporary.open("wb") as file:
        scipy.io.savemat(file, {"map_p": maps} | named, do_compression=True, oned_as="row")
