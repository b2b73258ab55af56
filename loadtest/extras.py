"""The packages of the extra `loadtest`, asked for where they are needed.

Knows: what to tell a user who has not installed them. Must not know: what they are used for.
"""

from __future__ import annotations

INSTALL = "pip install 'cacheserver[loadtest]'"


class MissingExtra(Exception):
    """Which package is missing and how to get it, in one line."""


def missing(package: str, what: str) -> MissingExtra:
    """The error for `what` that needs `package`."""
    return MissingExtra(f"{what} needs {package}, which is not installed: {INSTALL}")
