"""What objects of Python take, and handing on what malloc has free."""

from __future__ import annotations

import platform
import sys
from typing import Any

import pytest

from cacheserver.pressure import trim
from cacheserver.pressure.heap import OBJECTS_MAX, size_of

KIB = 1 << 10


def test_sizes_follow_containers_and_attributes_but_not_classes() -> None:
    class Row:
        def __init__(self) -> None:
            self.text = "x" * 10_000
            self.rows = [bytes(10_000), {"key": bytearray(10_000)}]

    assert 30_000 < size_of(Row()) < 33_000
    text = "x" * 10_000
    assert size_of([text, text, (text,)]) < 11_000  # the same object counts once
    assert size_of(Row) == 0


def test_sizes_of_endless_structures_are_bounded() -> None:
    chain: list[Any] = []
    for _ in range(10 * OBJECTS_MAX):
        chain = [chain]
    assert size_of(chain) == OBJECTS_MAX * sys.getsizeof([None])
    loop: list[Any] = []
    loop.append(loop)
    assert size_of(loop) == sys.getsizeof(loop)


@pytest.mark.resident
def test_trim_hands_on_what_malloc_has_free() -> None:
    blocks = [bytes(100 * KIB) for _ in range(100)]  # below malloc's threshold for mappings of their own
    fence = bytes(100 * KIB)
    del blocks
    if platform.libc_ver()[0] == "glibc":
        assert trim() is True
    else:
        assert trim() is False
    del fence
