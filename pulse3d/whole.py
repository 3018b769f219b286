"""Files that appear only when they are whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pulse3d.errors import InputError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it at the end of the context if there was no exception.

    Raises InputError where it cannot be written, on a full disk for one.
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
    """What to say of a file that cannot be written."""
    reason = getattr(error, "strerror", None) or error
    return InputError(f"{path}: cannot be written ({reason}); make room or choose another folder")
