"""Writes everything beside a result: figures, the page, the overlay, files for other programs."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pulse3d import files, pipeline, result, video
from pulse3d.errors import InputError
from pulse3d.mapping.mapper import Mapper
from pulse3d.reading import pulse_wave, regions
from pulse3d.reading.beats import is_normal
from pulse3d.result import Result
from pulse3d.showing import figures, matlab, overlay, report
from pulse3d.showing.truth import Truth, compare
from pulse3d.stream import WindowResult

# of the film in the page, at most
FILM_WIDTH_PX, FILM_FPS, FILM_BYTES, FILM_KBIT_S = 400, 15.0, 2_500_000, (40.0, 150.0)
FIGURES = ("map", "companion")
NAMES = (
    *result.FILES,
    *("regions.csv", "bvp.csv", "beats.csv", "map.mat", "overlay.mp4", "report.html"),
    *(f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf", "svg")),
)  # all files that may be there


def write_regions(found: Result) -> None:
    """Writes regions.csv."""
    rows = regions.table(found.regions, found.row_px, found.col_px, stride_px=found.summary["stride_px"])
    files.write_csv(found.folder / "regions.csv", regions.HEADER, rows)


def write_waves(found: Result) -> None:
    """Writes bvp.csv: the pulse wave of the frame, and those of its regions, in percent at every frame."""
    mean, parts = found.confidence.mean(0), found.regions
    weights = [pulse_wave.weigh_places(found.rate_bpm, found.confidence, found.pulse_rate_bpm)]
    weights += [part.places * mean / (part.places * mean).sum() for part in parts]
    rates = [found.pulse_rate_bpm, *([reading.rate_bpm for reading in part.readings] for part in parts)]
    waves = found.pulse_waves(np.stack(weights), np.array(rates))
    names = ["frame_percent", *(f"region_{number}_percent" for number in range(1, len(parts) + 1))]
    columns = [found.frame_s, *(wave.percent for wave in waves)]
    rows = (
        [f"{at:.4f}", *(files.number(v, 5) for v in values)] for at, *values in zip(*columns, strict=True)
    )
    files.write_csv(found.folder / "bvp.csv", ",".join(["time_s", *names]), rows)


def write_beats(found: Result) -> None:
    """Writes beats.csv: when the beats of the frame's pulse wave come, and the ms since the beat before.

    normal: 1, or 0 where a beat was missed or invented (`beats.is_normal`); empty without an interval.
    """
    rows = (
        [f"{at:.4f}", files.number(since, 1), str(int(normal)) if np.isfinite(since) else ""]
        for at, since, normal in zip(*found.beats, is_normal(found.beats), strict=True)
    )
    files.write_csv(found.folder / "beats.csv", "time_s,interval_ms,normal", rows)


def plan_film(path: Path, duration_s: float) -> video.Film | None:
    """The film for the page; None for a video that would be unrecognisable at a size that fits."""
    kbit_s = min(FILM_KBIT_S[1], 8e-3 * FILM_BYTES / max(duration_s, 1.0))
    return video.Film(path, FILM_WIDTH_PX, kbit_s, FILM_FPS) if kbit_s >= FILM_KBIT_S[0] else None


def write_pictures(
    found: Result,
    source: video.Video,
    *,
    truth: Truth | None = None,
    limits_bpm: tuple[float, float] = result.LIMITS_BPM,
    figure: str | None = None,
    film: video.Film | None = None,
    watch: Callable[[Iterable], Iterable] = iter,
) -> list[str]:
    """Writes the figures and, unless the source is live, overlay.mp4; returns the names.

    truth: reference rates for the figure. limits_bpm: of the colours of rates. figure: pdf or svg, written
    in addition to png. film: as in `video.write_overlay`. watch: wraps the iterator over the overlay's
    pictures.
    """
    count, name = len(found.time_s), Path(source.name).name
    title = f"{name}: one window" if count == 1 else f"{name}: median over {count} windows"
    makes: dict[str, Callable[..., Any]] = {
        "map": partial(figures.map_figure, truth=truth, limits_bpm=limits_bpm),
        "companion": figures.companion_figure,
    }
    stopped, names = threading.Event(), list[str]()

    def watch_until_stopped(pictures: Iterable) -> Iterator:
        for picture in watch(pictures):
            if stopped.is_set():
                raise InputError(f"{found.folder / 'overlay.mp4'}: stopped")
            yield picture

    # FFmpeg encodes on a thread of its own while the figures are drawn
    with ThreadPoolExecutor(1) as thread:
        path = found.folder / "overlay.mp4"
        write = partial(overlay.write_overlay, limits_bpm=limits_bpm, film=film, watch=watch_until_stopped)
        written = None if source.live else thread.submit(write, found, source, path)
        try:
            for name in FIGURES:
                drawn = makes[name](found, title=title)
                for kind in ("png", *([figure] if figure else [])):
                    figures.save_figure(drawn, found.folder / f"{name}.{kind}")
                    names.append(f"{name}.{kind}")
            if written:
                written.result()
        except BaseException:
            stopped.set()
            raise
    return [*names, *(["overlay.mp4"] if written else [])]


def write_all(
    found: Result,
    source: video.Video,
    *,
    truth: Truth | None = None,
    limits_bpm: tuple[float, float] = result.LIMITS_BPM,
    figure: str | None = None,
    mat: bool = False,
    watch: Callable[[Iterable], Iterable] = iter,
) -> dict[str, Any]:
    """Writes everything beside a result into its folder; returns the entries for its summary.

    truth: reference rates, for the page and the figure. limits_bpm: of the colours of rates. figure, watch:
    as in `write_pictures`. mat: whether to write map.mat.
    """
    write_regions(found)
    write_waves(found)
    write_beats(found)
    if mat:
        matlab.write_mat(found, found.folder / "map.mat")
    with tempfile.TemporaryDirectory(prefix="pulse3d_") as hidden:
        film = plan_film(Path(hidden) / "film.mp4", found.summary["video_seconds_read"])
        pictures = write_pictures(
            found, source, truth=truth, limits_bpm=limits_bpm, figure=figure, film=film, watch=watch
        )
        playable = film.path.read_bytes() if film and film.path.exists() else b""
    others = ["report.html", "summary.json", *(["map.mat"] if mat else [])]
    tables = ["rates.csv", "regions.csv", "bvp.csv", "beats.csv", "map.npz"]
    said = {"files": [*tables, *pictures, *others], **(compare(found, truth) if truth else {})}
    page = replace(found, summary=found.summary | said)
    report.write_report(page, found.folder / "report.html", truth=truth, film=playable, limits_bpm=limits_bpm)
    return said


def map_into(
    folder: Path,
    source: video.Video,
    mapper: Mapper,
    *,
    weights: str,
    step_s: float,
    follow: Callable[..., Iterator[WindowResult]],
    watch: Callable[[Iterable], Iterable] = iter,
    **options: Any,
) -> Result:
    """Maps a source into a folder, with everything beside the result; of what was there, nothing stays.

    weights, step_s, follow: as in `pipeline.write_map`; watch and the options as in `write_all`.
    """
    started = time.time()

    def beside(found: Result) -> dict[str, Any]:
        for stale in set(NAMES) - set(result.FILES):
            (folder / stale).unlink(missing_ok=True)
        said = write_all(found, source, watch=watch, **options)
        return said | {"seconds": round(time.time() - started, 1)}

    return pipeline.write_map(
        folder, source, mapper, weights=weights, step_s=step_s, follow=follow, beside=beside
    )
