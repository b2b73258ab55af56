"""A TLS client for tests that must see what crosses the wire: half a record, a last word, half a handshake.

Knows: the ssl module and one non-blocking socket. It answers like such a socket: BlockingIOError where
nothing goes, b"" at the end.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from typing import Any

from cacheserver.net.transport import Secure

PART = 16384  # bytes of a record


class SecureClient:
    """TLS over `raw`, which it owns. Encrypted bytes that the kernel does not take wait for the next call."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        self.raw = raw
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self._waiting = b""
        self.last_word = False  # whether the other end has said that its answers are complete

    def shake(self) -> bool:
        """Go on with the handshake, as far as what has arrived lets it; True when it is done."""
        self._take()
        try:
            self.tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            done = False
        self._push()
        return done

    def encrypted(self, data: bytes) -> bytes:
        """The record that `data` makes, for the caller to send as it likes."""
        self.tls.write(data)
        return self._out.read()

    def send(self, data: bytes | memoryview) -> int:
        self._push()
        if self._waiting:
            raise BlockingIOError
        sent = self.tls.write(data[:PART])
        self._push()
        return sent

    def sendall(self, data: bytes) -> None:
        """Only for a socket that blocks."""
        for at in range(0, len(data), PART):
            self.raw.sendall(self.encrypted(data[at : at + PART]))

    def recv(self, size: int) -> bytes:
        self.flush()
        while True:
            try:
                data = self.tls.read(size)
                self.last_word = not data
                return data
            except ssl.SSLWantReadError:
                if not self._take():
                    raise BlockingIOError from None
            except ssl.SSLZeroReturnError:  # instead of b"", for who has said his own
                self.last_word = True
                return b""
            except ssl.SSLEOFError:
                return b""

    def flush(self) -> None:
        """Send what waits, as far as the kernel takes it."""
        with contextlib.suppress(OSError):
            self._push()

    def _take(self) -> bool:
        """Take in what has arrived; False: nothing has."""
        try:
            data = self.raw.recv(1 << 16)
        except BlockingIOError:
            return False
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()
        return True

    def _push(self) -> None:
        data = self._waiting + self._out.read()
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < len(data):
                sent += self.raw.send(data[sent:])
        self._waiting = data[sent:]

    def shutdown(self, how: int) -> None:
        """Say the last word, and shut the socket's write side."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        self._push()
        self.raw.shutdown(how)

    def close(self) -> None:
        self.raw.close()

    def fileno(self) -> int:
        return self.raw.fileno()

    def setblocking(self, flag: bool) -> None:
        self.raw.setblocking(flag)

    def setsockopt(self, *arguments: Any) -> None:
        self.raw.setsockopt(*arguments)


def secure_pair(
    client: socket.socket, server: socket.socket, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> tuple[SecureClient, Secure]:
    """Do the handshake over two ends of one connection; both are non-blocking afterwards."""
    client.setblocking(False)
    server.setblocking(False)
    here = SecureClient(client, contexts[0])
    there = Secure(server, contexts[1])
    done = [False, False]
    while not all(done):
        done[0] = done[0] or here.shake()
        with contextlib.suppress(ssl.SSLWantReadError):
            there.do_handshake()
            done[1] = True
    return here, there


def served_at_once(port: int, context: ssl.SSLContext, count: int, patience: float) -> int:
    """Connect `count` clients at the same time; return how many are answered within `patience` seconds."""
    clients = {}
    served = 0
    deadline = time.monotonic() + patience
    with contextlib.ExitStack() as opened:
        poll = select.poll()
        for _ in range(count):
            raw = opened.enter_context(socket.socket())
            raw.setblocking(False)
            raw.connect_ex(("127.0.0.1", port))
            clients[raw.fileno()] = SecureClient(raw, context)
            poll.register(raw, select.POLLOUT)
        asked: set[int] = set()
        while clients and time.monotonic() < deadline:
            for fd, _ in poll.poll(100):
                client = clients[fd]
                poll.modify(fd, select.POLLIN)
                with contextlib.suppress(BlockingIOError):
                    try:
                        if fd not in asked:
                            if not client.shake():
                                continue
                            client.send(b"mn\r\n")
                            asked.add(fd)
                        served += client.recv(100) == b"MN\r\n"
                    except (ConnectionError, ssl.SSLError):
                        pass
                    poll.unregister(fd)
                    del clients[fd]
    return served
