"""The files this process has open, for tests that nothing is left behind."""

from __future__ import annotations

import contextlib
import gc
import os


def open_files() -> set[tuple[str, str]]:
    """Number and target of each open file.

    What earlier tests left in reference cycles is collected first. Compare with `<=`: a thread of an
    earlier test may still be closing its own.
    """
    gc.collect()
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found
