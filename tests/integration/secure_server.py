"""A server that speaks TLS, and clients to it: ordinary ones, by the ssl module's own sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator

from tests.certificates import Certificates
from tests.servers import HOST, Server, command, free_port
from tests.wire import TIMEOUT, Wire

PATIENCE = 15.0


class SecureWire(Wire):
    """A Wire over TLS; the session of an earlier one may be resumed."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        *,
        session: ssl.SSLSession | None = None,
        timeout: float = TIMEOUT,
        receive_buffer: int = 0,
    ) -> None:
        super().__init__((HOST, port), timeout=timeout, receive_buffer=receive_buffer)
        self.tls = context.wrap_socket(self.socket, server_hostname="localhost", session=session)
        self.socket = self.tls

    def name(self) -> str:
        """The name in the certificate that the server showed."""
        found = self.tls.getpeercert()
        assert found
        return str(dict(pair for part in found["subject"] for pair in part)["commonName"])  # type: ignore[misc]


class SecureServer:
    """A server with one TLS port and one plain one; `server` speaks to the plain one."""

    def __init__(self, server: Server, port: int, made: Certificates) -> None:
        self.server = server
        self.port = port
        self.made = made

    def connect(self, *, receive_buffer: int = 0, session: ssl.SSLSession | None = None) -> SecureWire:
        return SecureWire(
            self.port, self.made.client_context(), receive_buffer=receive_buffer, session=session
        )

    def raw(self) -> socket.socket:
        return socket.create_connection((HOST, self.port), timeout=TIMEOUT)

    def stat(self, name: str) -> int:
        return int(self.server.stats()[name])

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, self.server.stats()
            time.sleep(0.01)


@contextlib.contextmanager
def serving(made: Certificates, *flags: str, ssl_options: str = "") -> Iterator[SecureServer]:
    port, plain = free_port(), free_port()
    pair = f"ssl_chain_cert={made.server},ssl_key={made.server_key}"
    listen = ("-l", f"notls:{HOST}:{plain}")
    with Server(command(port, *listen, "-Z", "-o", pair + ssl_options, *flags), (HOST, plain)) as server:
        yield SecureServer(server, port, made)
