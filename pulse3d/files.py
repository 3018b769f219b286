"""The files of a prediction and of an evaluation. Each appears only when complete."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from pulse3d.errors import InputError
from pulse3d.readout import Reading

# what reading a damaged file of arrays or of JSON may raise
UNREADABLE = (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error)
RATES_HEADER = "time_s,pulse_rate_bpm,low_bpm,high_bpm,confidence"


def make_folder(path: Path) -> Path:
    """Makes an output folder; raises InputError where that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise InputError(
            f"--out={path}: cannot be written ({error.strerror}); choose another folder"
        ) from None


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file under a temporary name, then renames it."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def copy_atomically(source: Path, path: Path) -> None:
    """Copies a file under a temporary name, then renames it."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        shutil.copyfile(source, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def rates_row(time_s: float, reading: Reading) -> str:
    """One row of rates.csv; the rate and its interval are empty where there is no pulse."""
    rates = ("" if np.isnan(v) else f"{v:.1f}" for v in (reading.rate_bpm, reading.low_bpm, reading.high_bpm))
    return ",".join([f"{time_s:.3f}", *rates, f"{reading.confidence:.3f}"])


def write_rates(path: Path, rows: list[str]) -> None:
    """Writes rates.csv."""
    write_atomically(path, ("\n".join([RATES_HEADER, *rows]) + "\n").encode())


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a JSON file."""
    write_atomically(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())


def write_csv(path: Path, header: str, rows: Iterable[Iterable[str]]) -> None:
    """Writes a table of texts; header: the names of the columns, with commas between."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header.split(","), *rows])
    write_atomically(path, text.getvalue().encode())


def number(value: float, digits: int) -> str:
    """A number as text; empty where it is not finite."""
    return f"{value:.{digits}f}" if np.isfinite(value) else ""


def safe_name(name: str) -> str:
    """A name as a file name: other characters than letters, digits and _.-~ as %XX, as in an URL."""
    return quote(name, safe="")


def write_npz(path: Path, arrays: dict[str, Any], *, made_by: dict[str, Any]) -> None:
    """Writes arrays with the settings that made them, as JSON under `made_by`."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, made_by=np.array(json.dumps(made_by, sort_keys=True)), **arrays)
    write_atomically(path, buffer.getvalue())


def read_npz(path: Path, *, made_by: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """The arrays of `write_npz`; None where the file is missing, damaged or made by other settings."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if json.loads(str(archive["made_by"])) != json.loads(json.dumps(made_by)):
                return None
            return {name: archive[name] for name in archive.files if name != "made_by"}
    except UNREADABLE:
        return None


def each_entry(path: Path, name: str) -> Iterator[np.ndarray]:
    """The entries of an array of a .npz along its first axis, one at a time."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        (count, *shape), _, dtype = read_header(member)
        size = dtype.itemsize * int(np.prod(shape))
        for _ in range(count):
            yield np.frombuffer(member.read(size), dtype).reshape(shape)


class NpzStream:
    """A compressed .npz whose arrays grow along their first axis, in constant memory.

    Use as a context; the file appears at the end of it, if there was no exception.
    """

    def __init__(self, path: Path):
        self._path = path
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, np.dtype] = {}
        self._count = 0
        self._constants: dict[str, np.ndarray] = {}

    def __enter__(self) -> NpzStream:
        self._folder = Path(tempfile.mkdtemp(prefix=".map-", dir=self._path.parent))
        return self

    def append(self, **arrays: Any) -> None:
        """Adds one entry to every array; names, shapes and types are the same each time."""
        for name, value in arrays.items():
            array = np.asarray(value)
            self._shapes.setdefault(name, array.shape)
            self._types.setdefault(name, array.dtype)
            if (array.shape, array.dtype) != (self._shapes[name], self._types[name]):
                raise ValueError(f"{name}: {array.dtype}{array.shape} differs from the entries before")
            with (self._folder / name).open("ab") as file:
                file.write(array.tobytes())
        self._count += 1

    def put(self, **arrays: Any) -> None:
        """Adds whole arrays."""
        self._constants |= {name: np.asarray(value) for name, value in arrays.items()}

    def __exit__(self, kind, *exception) -> None:
        try:
            if kind is None:
                temporary = self._folder / "complete.npz"
                with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                    self._write_members(archive)
                temporary.replace(self._path)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _write_members(self, archive: zipfile.ZipFile) -> None:
        for name, array in self._constants.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        for name, shape in self._shapes.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = {
                    "descr": np.lib.format.dtype_to_descr(self._types[name]),
                    "fortran_order": False,
                    "shape": (self._count, *shape),
                }
                np.lib.format.write_array_header_2_0(member, header)
                with (self._folder / name).open("rb") as file:
                    shutil.copyfileobj(file, member)
