"""Exceptions for bad input, and words for their messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A bad input; its message is one line that names it, what is wrong and what to do.

    The launchers print the message and leave with exit code 2, without a traceback. Of names and foreign
    messages in it, line breaks and what does not print are escaped.
    """

    def __init__(self, message: str):
        super().__init__(
            "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        )


class DamagedError(InputError):
    """A damaged input; raised after everything that can be read of it has been read."""


def nearest(name: str, names: Iterable[str]) -> str:
    """The words " (did you mean X?)" that follow a wrong name; empty where no name is similar."""
    match = difflib.get_close_matches(name, list(names), n=1, cutoff=0.4)
    return f" (did you mean {match[0]}?)" if match else ""


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, at most 200 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
