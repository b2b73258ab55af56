"""The operator's errors: each is one line that says what is wrong and what to do, and has an exit status.

Knows: nothing else. A peer's fault is a reply line, never one of these; a programmer's fault is an assertion.
"""


class CacheserverError(Exception):
    """Base of every error that ends the program with one line on stderr and the exit status `status`."""

    status = 1


class UsageError(CacheserverError):
    """The command line is wrong: an unknown flag, a bad value, a flag that is refused."""

    status = 2


class StartError(CacheserverError):
    """The command line is right, but the host does not allow it: a port is taken, a user does not exist."""


def one_line(text: str) -> str:
    """Return `text` with whatever would leave the line, or move the terminal's cursor, escaped."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
