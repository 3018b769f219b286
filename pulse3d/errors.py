"""The exceptions that mean: the input is at fault, not the program."""


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
    """An input of which a part is lost; raised at the end of what could be read of it, which is good."""
