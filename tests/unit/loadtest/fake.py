"""A memcached of a few lines that can be told to misbehave, for what the load generator makes of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType

Twist = Callable[[bytes, bytes], bytes | None]  # of (request line, right reply); None: hang up and be gone


class FakeServer:
    """Speaks get and set of the text protocol on a free port of 127.0.0.1; ends with the `with` block."""

    def __init__(self, twist: Twist = lambda line, reply: reply) -> None:
        self._twist = twist
        self._items: dict[bytes, bytes] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.die()

    def die(self) -> None:
        """Close all connections and listen no more."""
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        try:
            while True:
                peer, _ = self._listener.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(peer)
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()
        except OSError:
            return

    def _serve(self, peer: socket.socket) -> None:
        try:
            with peer.makefile("rb") as file:
                while line := file.readline():
                    words = line.split()
                    if words[0] == b"set":
                        self._items[words[1]] = file.read(int(words[4]) + 2)[:-2]
                        reply = b"STORED\r\n"
                    else:
                        found = [(key, self._items[key]) for key in words[1:] if key in self._items]
                        reply = b"".join(b"VALUE %b 0 %d\r\n%b\r\n" % (k, len(v), v) for k, v in found)
                        reply += b"END\r\n"
                    twisted = self._twist(line, reply)
                    if twisted is None:
                        self.die()
                        return
                    peer.sendall(twisted)
        except (OSError, ValueError):
            return
