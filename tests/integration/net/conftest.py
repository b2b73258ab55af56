"""A reactor driven by hand: pump() plays the event loop, so every test decides when a wake-up happens."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from cacheserver.engine import Engine
from cacheserver.net.reactor import Reactor
from cacheserver.store.store import Store

MAX_ITEM = 4 << 20
PATIENCE = 20.0  # seconds until a test gives up waiting for something that must happen


def answer(line: bytes) -> bytes:
    """A command handler that knows `stats` only."""
    return b"STAT line %d\r\nEND\r\n" % len(line) if line.startswith(b"stats") else b"ERROR\r\n"


class Rig:
    """One store, one engine, one reactor, and the client ends of its connections."""

    def __init__(self, **options: object) -> None:
        self.engine = Engine(Store(capacity=512 << 20, max_item=MAX_ITEM))
        self.engine.handler = answer
        self.reactor = Reactor(self.engine, **options)  # type: ignore[arg-type]
        self._clients: list[socket.socket] = []

    def connect(self, *, rcvbuf: int = 0, sndbuf: int = 0) -> socket.socket:
        """A TCP client; rcvbuf is its own buffer, sndbuf the server's, in bytes (0: the system's choice)."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.socket()
            if rcvbuf:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            client.connect(listening.getsockname())
            server, _ = listening.accept()
        if sndbuf:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        return self._adopt(client, server)

    def connect_unix(self) -> socket.socket:
        return self._adopt(*socket.socketpair())

    def _adopt(self, client: socket.socket, server: socket.socket) -> socket.socket:
        server.setblocking(False)
        client.setblocking(False)
        assert self.reactor.adopt(server.detach())
        self._clients.append(client)
        self.pump_once()
        return client

    def pump_once(self) -> bool:
        """One wake-up, if there is a reason for one now."""
        if not select.select([self.reactor.fileno()], [], [], 0)[0]:
            return False
        self.reactor.on_ready()
        return True

    def pump_all(self) -> None:
        """Wake-ups until nothing is ready."""
        until = time.monotonic() + PATIENCE
        while self.pump_once():
            assert time.monotonic() < until, "the reactor spins"

    def pump(self, done: Callable[[], bool], client: socket.socket | None = None) -> None:
        """Wake-ups until `done`, which is asked again whenever the reactor or the client has something."""
        until = time.monotonic() + PATIENCE
        watched = [self.reactor.fileno(), *([client] if client else [])]
        while not done():
            assert time.monotonic() < until, "waited in vain"
            if self.reactor.fileno() in select.select(watched, [], [], 0.01)[0]:
                self.reactor.on_ready()

    def send(self, client: socket.socket, data: bytes, piece: int = 1 << 30) -> None:
        """Send all of `data` in pieces of at most `piece` bytes, each with the wake-ups it causes."""
        view = memoryview(data)
        while view:
            with contextlib.suppress(BlockingIOError):
                view = view[client.send(view[:piece]) :]
            self.pump_all()

    def read(self, client: socket.socket, n: int, piece: int = 1 << 16) -> bytes:
        """Receive exactly `n` bytes, at most `piece` at a time."""
        data = bytearray()

        def more() -> bool:
            try:
                part = client.recv(min(piece, n - len(data)))
            except BlockingIOError:
                return False
            assert part, f"closed after {len(data)} of {n} bytes"
            data.extend(part)
            return len(data) == n

        if n:
            self.pump(more, client)
        return bytes(data)

    def read_to_end(self, client: socket.socket) -> bytes:
        """Receive until the server closes; a reset fails the test."""
        data = bytearray()

        def more() -> bool:
            try:
                part = client.recv(1 << 16)
            except BlockingIOError:
                return False
            data.extend(part)
            return not part

        self.pump(more, client)
        return bytes(data)

    def ask(self, client: socket.socket, request: bytes, reply: bytes) -> None:
        """Send a request and check its reply."""
        self.send(client, request)
        assert self.read(client, len(reply)) == reply

    def store(self, client: socket.socket, key: bytes, value: bytes) -> None:
        self.ask(client, b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value), b"STORED\r\n")

    def close(self) -> None:
        self.reactor.close()
        for client in self._clients:
            client.close()


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(**options: object) -> Rig:
        rigs.append(Rig(**options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()
