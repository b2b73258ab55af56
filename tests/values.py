"""Values that describe themselves: a reader can check every byte without knowing what was written last.

Knows: the form of such a value: its key, a version and its length in clear, then bytes that follow from these
three. Any byte out of place, any mixture of two values and any value under a wrong key shows.
"""

from __future__ import annotations

import random
import zlib

_SPAN = 1 << 20
_POOL = random.Random(20).randbytes(3 * _SPAN)
MINIMUM = 300  # bytes: room for the longest head
MAXIMUM = 2 * _SPAN


class WrongBytes(AssertionError):
    """A value that is not what any writer has written under its key."""


def make(key: bytes, version: int, size: int) -> bytes:
    """Return the value of `key` in `version` (0 or more), `size` bytes long (MINIMUM..MAXIMUM)."""
    head = b"%b %d %d " % (key, version, size)
    at = zlib.crc32(head) % _SPAN
    return head + _POOL[at : at + size - len(head)]


def check(key: bytes, value: bytes) -> int:
    """Return the version of `value`; WrongBytes when a single byte of it is not as made for `key`."""
    words = value[:MINIMUM].split(b" ", 3)
    try:
        version, size = int(words[1]), int(words[2])
    except (IndexError, ValueError):
        raise WrongBytes(f"{key!r} holds {value[:60]!r}...") from None
    if words[0] != key or size != len(value):
        raise WrongBytes(f"{key!r} holds {len(value)} bytes of the value {words[0]!r} of {size} bytes")
    expected = make(key, version, size)
    if value != expected:
        wrong = [i for i in range(size) if value[i] != expected[i]]
        raise WrongBytes(f"{key!r} version {version}: {len(wrong)} wrong bytes, at {wrong[0]}..{wrong[-1]}")
    return version
