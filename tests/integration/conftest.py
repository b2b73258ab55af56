"""A server that has done some work, for those who look at its counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.work import KINDS, Replies, work
from tests.servers import Server, serving


@pytest.fixture(scope="module")
def busy() -> Iterator[Server]:
    """A server that has done WORK and holds items of several classes."""
    with serving("-t", "2", "-c", "2000") as server, server.connect() as wire:
        work(wire)
        for size in (10, 1000, 100_000, 900_000):
            assert wire.set(b"size%d" % size, b"x" * size) == b"STORED"
        yield server


@pytest.fixture
def replies(busy: Server) -> Replies:
    with busy.connect() as wire:
        return {kind: wire.stats(kind.encode()) for kind in KINDS}
