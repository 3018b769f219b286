"""Arrays in `.npz` files: read without trusting the file, and written in constant memory."""

from __future__ import annotations

import io
import json
import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pulse3d.files import (
    MAX_JSON_BYTES,
    UnreadableError,
    cannot_write,
    foreign_errors,
    parse_json,
    require_file,
    write_atomically,
)

MAX_MEMBERS = 10_000


def write_arrays(path: Path, **arrays: Any) -> None:
    """Writes named arrays as a compressed .npz."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def write_npz(path: Path, arrays: dict[str, Any], *, made_by: dict[str, Any]) -> None:
    """Writes arrays with the settings that made them, as JSON under `made_by`."""
    write_arrays(path, made_by=np.array(json.dumps(made_by, sort_keys=True)), **arrays)


def read_npz(path: Path, *, made_by: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """Reads the arrays of `write_npz`; None if the file is missing, damaged or made with other settings."""
    try:
        with Arrays(path, max_bytes=2**32) as archive:
            if parse_json(archive.text("made_by")) != json.loads(json.dumps(made_by)):
                return None
            return {name: archive[name] for name in archive.shapes if name != "made_by"}
    except UnreadableError:
        return None


class Arrays:
    """The arrays of a .npz file; the size of each is checked before it is read.

    Use as a context manager. shapes: of all arrays by name, from their headers. Raises UnreadableError for
    a file that is damaged or declares more data than it holds, for a missing array, and if more than
    `max_bytes` are read.
    """

    def __init__(self, path: Path, *, max_bytes: int):
        require_file(path)
        with foreign_errors():
            self._archive = zipfile.ZipFile(path)
        self._left = self._most = max_bytes
        try:
            names = [member.filename for member in self._archive.infolist()]
            if len(set(names)) != len(names) or len(names) > MAX_MEMBERS:
                raise UnreadableError("holds a name twice, or too many")
            self._headers = {name.removesuffix(".npy"): self._read_header(name) for name in names}
        except BaseException:
            self._archive.close()
            raise
        self.shapes = {name: shape for name, (shape, _, _) in self._headers.items()}

    def _read_header(self, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
        with foreign_errors(), self._archive.open(name) as member:
            shape, fortran, dtype = read_header(member)
            size = self._archive.getinfo(name).file_size - member.tell()
        if dtype.hasobject or dtype.kind not in "biufU":
            raise UnreadableError(f"{name} holds {dtype}, not numbers or a text")
        if min(shape, default=0) < 0 or dtype.itemsize * math.prod(shape) != size:
            raise UnreadableError(f"{name} holds {size} bytes, not {shape} of {dtype}")
        return shape, fortran, dtype

    def _header(self, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
        if name not in self._headers:
            raise UnreadableError(f"holds no {name}")
        return self._headers[name]

    def __getitem__(self, name: str) -> np.ndarray:
        self._header(name)
        with foreign_errors():
            member = self._archive.getinfo(f"{name}.npy")
        self._left -= member.file_size
        if self._left < 0:
            raise UnreadableError(f"holds more than {self._most:,} bytes")
        with foreign_errors(), self._archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    def text(self, name: str) -> str:
        """Reads an array that is a single string of at most MAX_JSON_BYTES."""
        shape, _, dtype = self._header(name)
        if shape != () or dtype.kind != "U" or dtype.itemsize > MAX_JSON_BYTES:
            raise UnreadableError(f"{name} is not a text, or too long")
        # decoded here: numpy accepts code points that do not exist
        data = self[name].astype(dtype.newbyteorder("<")).tobytes()
        with foreign_errors():
            return data.decode("utf-32-le").rstrip("\0")

    def entries(self, name: str) -> Iterator[np.ndarray]:
        """Yields the entries of an array along its first axis."""
        whole, fortran, dtype = self._header(name)
        count, shape = (*whole, 0)[0], whole[1:]
        size = dtype.itemsize * math.prod(shape)
        if not whole or fortran or size > self._most:
            raise UnreadableError(f"{name} is no series, stored by columns, or too large")
        with foreign_errors():
            member = self._archive.open(f"{name}.npy")
        with member:
            with foreign_errors():
                read_header(member)
            for _ in range(count):
                with foreign_errors():
                    entry = np.frombuffer(member.read(size), dtype).reshape(shape)
                yield entry

    def __enter__(self) -> Arrays:
        return self

    def __exit__(self, *exception) -> None:
        self._archive.close()


def read_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Reads shape, order and type from the header of a .npy file; executes nothing."""
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    return np.lib.format.read_array_header_2_0(member)


class NpzStream:
    """Writes a compressed .npz whose arrays grow along their first axis, in constant memory.

    Use as a context manager; the file appears when the context ends without an exception.
    """

    def __init__(self, path: Path):
        self._path = path
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, np.dtype] = {}
        self._counts: dict[str, int] = {}
        self._constants: dict[str, np.ndarray] = {}

    def __enter__(self) -> NpzStream:
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=".map-", dir=self._path.parent))
        except OSError as error:
            raise cannot_write(self._path, error) from None
        return self

    def append(self, **arrays: Any) -> None:
        """Adds one entry to each of these arrays; their shapes and types must stay the same."""
        for name, value in arrays.items():
            array = np.asarray(value)
            self._shapes.setdefault(name, array.shape)
            self._types.setdefault(name, array.dtype)
            if (array.shape, array.dtype) != (self._shapes[name], self._types[name]):
                raise ValueError(f"{name}: {array.dtype}{array.shape} differs from the entries before")
            try:
                with (self._folder / name).open("ab") as file:
                    file.write(array.tobytes())
            except OSError as error:
                raise cannot_write(self._path, error) from None
            self._counts[name] = self._counts.get(name, 0) + 1

    def entries(self, name: str) -> Iterator[np.ndarray]:
        """Yields the entries of a growing array so far."""
        shape, dtype = self._shapes[name], self._types[name]
        yield from np.memmap(self._folder / name, dtype, "r", shape=(self._counts[name], *shape))

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
        except OSError as error:
            raise cannot_write(self._path, error) from None
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _write_members(self, archive: zipfile.ZipFile) -> None:
        for name, array in self._constants.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        for name, shape in self._shapes.items():
            if name in self._constants:  # replaced by a whole array
                continue
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = {
                    "descr": np.lib.format.dtype_to_descr(self._types[name]),
                    "fortran_order": False,
                    "shape": (self._counts[name], *shape),
                }
                np.lib.format.write_array_header_2_0(member, header)
                with (self._folder / name).open("rb") as file:
                    shutil.copyfileobj(file, member)
