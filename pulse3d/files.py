"""Files that appear only when they are complete, and JSON that is read without trusting the file."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import lzma
import os
import shutil
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from pulse3d.errors import InputError

# what zipfile, numpy and json raise for damaged files
_FOREIGN = (
    OSError, ValueError, KeyError, IndexError, EOFError, AttributeError, TypeError, OverflowError,
    MemoryError, RuntimeError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError, struct.error,
)  # fmt: skip
MAX_JSON_BYTES = 2**24


class UnreadableError(Exception):
    """A file is missing, damaged, or not what it should be; the message says why, but not which file."""


@contextlib.contextmanager
def foreign_errors() -> Iterator[None]:
    """Turns exceptions of other libraries into UnreadableError; wrap nothing but calls to them."""
    try:
        yield
    except _FOREIGN as error:
        raise UnreadableError(str(error) or type(error).__name__) from None


def make_folder(path: Path) -> Path:
    """Makes an output folder; raises InputError if it cannot be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another folder") from None


def refuse_to_overwrite(folder: Path, names: Iterable[str]) -> None:
    """Raises InputError if a folder already holds a file of one of these names."""
    if found := [name for name in names if (folder / name).exists()]:
        raise InputError(
            f"--out={folder}: holds results already ({', '.join(found)}); choose another place, or give"
            " --overwrite"
        )


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, renamed to it if the context ends without an exception.

    Raises InputError if it cannot be written, for example on a full disk.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: Exception) -> InputError:
    """The error for a file that cannot be written."""
    reason = getattr(error, "strerror", None) or error
    return InputError(f"{path}: cannot be written ({reason}); make room or choose another folder")


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file under a temporary name, then renames it."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def copy_atomically(source: Path, path: Path) -> None:
    """Copies a file under a temporary name, then renames it."""
    with whole_file(path) as temporary:
        shutil.copyfile(source, temporary)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a JSON file."""
    write_atomically(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())


def write_csv(path: Path, header: str, rows: Iterable[Iterable[str]]) -> None:
    """Writes a table of strings; header: comma-separated column names."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header.split(","), *rows])
    write_atomically(path, text.getvalue().encode(errors="replace"))  # names may hold bytes that are no text


def number(value: float, digits: int) -> str:
    """Formats a number with `digits` decimals; empty if it is not finite."""
    return f"{value:.{digits}f}" if np.isfinite(value) else ""


def safe_name(name: str) -> str:
    """Makes a file name of a name: characters other than letters, digits and _.-~ become %XX, as in a URL."""
    return quote(name, safe="")


def require_file(path: Path) -> None:
    """Raises UnreadableError if the path exists but is not a file."""
    if path.exists() and not path.is_file():  # reading a pipe would block; a device never ends
        raise UnreadableError("not a file")


def read_json(path: Path) -> Any:
    """Reads a JSON file; raises UnreadableError if it is invalid, or larger than any of ours."""
    require_file(path)
    with foreign_errors(), path.open("rb") as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise UnreadableError("too large")
    return parse_json(data)


def parse_json(data: str | bytes) -> Any:
    """Parses JSON; raises UnreadableError if it is invalid."""
    with foreign_errors():
        return json.loads(data)
