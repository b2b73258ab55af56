"""The rare commands, bound to a server that is only numbers."""

from __future__ import annotations

import pytest

from cacheserver.commands import Commands
from tests.unit.fake_server import FakeServer


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def commands(server: FakeServer) -> Commands:
    return Commands(server, monotonic=lambda: 160.9, wall=lambda: 1_800_000_000.7)
