"""Fixtures shared by all tests: the servers most tests talk to, started once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The helpers beside the tests are imported as `tests.x`, also where pytest is started by its own command.
ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from tests.certificates import Certificates  # noqa: E402
from tests.servers import Server, reference, serving  # noqa: E402


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    """One server under test for every test that can live with a flushed store; do not use it directly."""
    with serving() as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    """The shared server under test, flushed."""
    with shared_server.connect() as wire:
        assert wire.ask(b"flush_all\r\n") == b"OK"
    return shared_server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates and keys of this test run; skips where the program openssl is missing."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def memcached() -> Iterator[Server]:
    """Debian's memcached, the reference; skips where it is not installed."""
    with reference() as server:
        yield server
