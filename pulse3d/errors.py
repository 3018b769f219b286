"""The one exception that means: the input is at fault, not the program."""


class InputError(ValueError):
    """A bad input; its message is one line that names it, what is wrong and what to do.

    The launchers print the message and leave with exit code 2, without a traceback.
    """
