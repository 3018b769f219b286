"""Clocks of frames: time stamps in the names of images, and clocks that start anew within a video."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float

Item = TypeVar("Item")
MAX_JUMP_S = 600.0  # from one time stamp to the next; a longer jump is not a gap but a broken clock
RESTART_S = 1.0  # a clock that falls by more has started anew; what falls less has come out of order
RESTART_FRAMES = 5  # that rise one after the other before the clock is said to have started anew
# the last number of a name: seconds with decimals, or whole milliseconds, microseconds or nanoseconds
STAMP = re.compile(r"(?<!\d)(\d{9,10}\.\d+|\d{12,20})(?=\D*$)")
UNITS = {"s": 9, "ms": 6, "µs": 3, "ns": 0}  # as powers of ten of a nanosecond
YEARS_S = (946_684_800, 4_102_444_800)  # 2000 and 2100, in seconds since 1970
APART_S = (0.002, 1.0)  # images of a video, at the median; numbers one after the other count frames


def stamps_in_names(names: Sequence[str]) -> tuple[Float[np.ndarray, "frame"], str] | None:
    """The times of images by their names, in s from the first, and the unit of the names.

    Names end in a number, before their suffix, that counts s, ms, µs or ns since 1970, as in PURE. None
    for names that are no time stamps, such as numbers of frames, or that do not rise.
    """
    found = [STAMP.search(name.rsplit(".", 1)[0]) for name in names]
    texts = [match[1] for match in found if match]
    if len(texts) < max(2, len(names)):
        return None
    for unit, power in UNITS.items():
        if any(("." in text) != (unit == "s") for text in texts):
            continue
        whole = [_nanoseconds(text) if unit == "s" else int(text) * 10**power for text in texts]
        if all(YEARS_S[0] <= ns / 1e9 <= YEARS_S[1] for ns in whole):
            time_s = np.array([(ns - whole[0]) / 1e9 for ns in whole])
            apart_s = np.diff(time_s)
            plausible = apart_s.min() > 0 and APART_S[0] <= np.median(apart_s) <= APART_S[1]
            return (time_s, unit) if plausible else None
    return None


def _nanoseconds(seconds: str) -> int:
    whole, decimals = seconds.split(".")
    return int(whole) * 10**9 + int(decimals[:9].ljust(9, "0"))


def continued(stamped: Iterable[tuple[float, Item]], restarts: list[float]) -> Iterator[tuple[float, Item]]:
    """Yields what is stamped (in s); where the clock starts anew, it goes on from there.

    It does where a stamp falls by more than RESTART_S and RESTART_FRAMES rise from there, as in two
    recordings joined; the times of it are added to `restarts`. Fewer that fall are left as they are.
    """
    offset_s, last_s = 0.0, -np.inf
    fallen = list[tuple[float, Item]]()
    for time_s, item in stamped:
        if fallen and not fallen[-1][0] < time_s < last_s:
            yield from ((fallen_s + offset_s, one) for fallen_s, one in fallen)
            fallen.clear()
        if fallen or time_s < last_s - RESTART_S:
            fallen.append((time_s, item))
            if len(fallen) == RESTART_FRAMES:
                restarts.append(last_s + offset_s + fallen[1][0] - fallen[0][0])
                offset_s, last_s = restarts[-1] - fallen[0][0], time_s
                yield from ((fallen_s + offset_s, one) for fallen_s, one in fallen)
                fallen.clear()
            continue
        last_s = max(last_s, time_s)
        yield time_s + offset_s, item
    yield from ((fallen_s + offset_s, one) for fallen_s, one in fallen)
