"""Exceptions for bad input, and helpers for their messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Bad input; the message is one line that says what it is, what is wrong and what to do.

    The launchers print the message and exit with code 2, without a traceback. Line breaks and unprintable
    characters in the message are escaped.
    """

    def __init__(self, message: str):
        super().__init__(
            "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        )


class DamagedError(InputError):
    """Damaged input; raised after all that is readable has been read."""


def expect_kind(name: str, value: object, kinds: Any, expected: str) -> None:
    """Raises InputError for an argument that is not of these types, as for isinstance, or is a bool.

    expected: what to give instead.
    """
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise InputError(f"{name} = {value!r:.100}: expected {expected}")


def nearest(name: str, names: Iterable[str], *, likeness: float = 0.4) -> str:
    """The text " (did you mean X?)" to append to a wrong name; empty if no name is as similar, 0...1."""
    match = difflib.get_close_matches(name, list(names), n=1, cutoff=likeness)
    return f" (did you mean {match[0]}?)" if match else ""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, at most 200 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
