"""A reactor driven by hand: pump() plays the event loop, so every test decides when a wake-up happens."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cacheserver.engine import Engine
from cacheserver.net.reactor import Reactor
from cacheserver.store.store import Store
from tests.certificates import Certificates
from tests.secure import SecureClient, secure_pair

MAX_ITEM = 4 << 20
PATIENCE = 20.0  # seconds until a test gives up waiting for something that must happen
REST_BYTES = 16384  # what a TLS connection at rest is said to cost
PLAIN, SECURE = "plain", "tls"

Client = socket.socket | SecureClient


def answer(line: bytes) -> bytes:
    """A command handler that knows `stats` only."""
    return b"STAT line %d\r\nEND\r\n" % len(line) if line.startswith(b"stats") else b"ERROR\r\n"


class Rig:
    """One store, one engine, one reactor, and the client ends of its connections.

    contexts: of client and server; with them every connection speaks TLS.
    """

    def __init__(
        self,
        contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
        store: Store | None = None,
        **options: object,
    ) -> None:
        self.contexts = contexts
        self.engine = Engine(store or Store(capacity=512 << 20, max_item=MAX_ITEM))
        self.engine.handler = answer
        self.reactor = Reactor(self.engine, **options)  # type: ignore[arg-type]
        self._clients: list[Client] = []

    def connect(self, *, rcvbuf: int = 0, sndbuf: int = 0, inbuf: int = 0) -> Client:
        """A TCP client; rcvbuf is its own buffer, sndbuf the server's for what it sends and inbuf for what it
        receives, in bytes (0: the system's choice)."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.socket()
            if rcvbuf:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            client.connect(listening.getsockname())
            server, _ = listening.accept()
        if sndbuf:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        if inbuf:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, inbuf)
        return self._adopt(client, server)

    def connect_unix(self) -> Client:
        return self._adopt(*socket.socketpair())

    def _adopt(self, client: socket.socket, server: socket.socket) -> Client:
        server.setblocking(False)
        client.setblocking(False)
        end: Client = client
        if self.contexts is None:
            assert self.reactor.adopt(server.detach())
        else:
            end, secure = secure_pair(client, server, self.contexts)
            assert self.reactor.adopt_tls(secure, REST_BYTES)
        self._clients.append(end)
        self.pump_once()
        return end

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

    def pump(self, done: Callable[[], bool], client: Client | None = None) -> None:
        """Wake-ups until `done`, which is asked again whenever the reactor or the client has something."""
        until = time.monotonic() + PATIENCE
        watched = [self.reactor.fileno(), *([client] if client else [])]
        while not done():
            assert time.monotonic() < until, "waited in vain"
            if self.reactor.fileno() in select.select(watched, [], [], 0.01)[0]:
                self.reactor.on_ready()
            for each in self._clients:
                if isinstance(each, SecureClient):
                    each.flush()

    def send(self, client: Client, data: bytes, piece: int = 1 << 30) -> None:
        """Send all of `data` in pieces of at most `piece` bytes, each with the wake-ups it causes."""
        view = memoryview(data)
        while view:
            with contextlib.suppress(BlockingIOError):
                view = view[client.send(view[:piece]) :]
            self.pump_all()

    def read(self, client: Client, n: int, piece: int = 1 << 16) -> bytes:
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

    def read_to_end(self, client: Client) -> bytes:
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

    def ask(self, client: Client, request: bytes, reply: bytes) -> None:
        """Send a request and check its reply."""
        self.send(client, request)
        assert self.read(client, len(reply)) == reply

    def store(self, client: Client, key: bytes, value: bytes) -> None:
        self.ask(client, b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value), b"STORED\r\n")

    def close(self) -> None:
        self.reactor.close()
        for client in self._clients:
            client.close()


@pytest.fixture
def make_rig(request: pytest.FixtureRequest) -> Iterator[Callable[..., Rig]]:
    """Rigs; their connections speak TLS where the test is run with SECURE as this fixture's parameter."""
    rigs: list[Rig] = []
    contexts = None
    if getattr(request, "param", PLAIN) == SECURE:
        made: Certificates = request.getfixturevalue("certificates")
        contexts = made.client_context(), made.server_context()

    def make(**options: Any) -> Rig:
        rigs.append(Rig(contexts, **options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()
