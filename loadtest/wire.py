"""The load tests' own codec of memcached's text protocol, over one blocking connection.

Knows: sockets, the framing of requests and replies. Must not know: the server's code, why something is asked.
Memory: requests of one window, and replies as far as they have come. Not thread-safe.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import TracebackType

CHUNK = 1 << 18  # bytes read at a time
PIECES = 1000  # buffers handed to the kernel at once; it takes 1024


class WireError(Exception):
    """What is wrong with the connection or with what came over it, in one line."""


def _gets(names: Sequence[bytes], meta: bool) -> bytes:
    verb = b"mg " if meta else b"get "
    return verb + (b"\r\n" + verb).join(names) + b"\r\n"


class Wire:
    """One connection to `address`, "host:port" or "[ipv6]:port"; `timeout` in seconds for each step."""

    def __init__(self, address: str, timeout: float = 30.0) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise WireError(f"{address!r} is no address: say host:port")
        self.address = address
        try:
            self._socket = socket.create_connection((host.strip("[]"), int(port)), timeout)
        except OSError as error:
            raise WireError(f"{address} does not answer ({error}): is a server running there?") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._start = 0  # of what nobody has read yet in the buffer

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def speaks_meta(self) -> bool:
        """Whether the server has the meta commands."""
        self.send([b"mn\r\n"])
        return self.line() == b"MN"

    def present(self, names: Sequence[bytes], meta: bool) -> list[bool]:
        """Ask for each key, all at once: which are there. With `meta` the values stay where they are."""
        self.send([_gets(names, meta)])
        return self._presences(names, meta)

    def store(
        self, items: Sequence[tuple[bytes, memoryview]], names: Sequence[bytes], meta: bool
    ) -> tuple[int, list[bool]]:
        """Set each key to its value, then ask for `names`, all at once: how many were stored; present()."""
        parts: list[bytes | memoryview] = []
        for name, value in items:
            parts += (b"set %b 0 0 %d\r\n" % (name, len(value)), value, b"\r\n")
        if names:
            parts.append(_gets(names, meta))
        self.send(parts)
        stored = 0
        for _ in items:
            reply = self.line()
            if reply == b"STORED":
                stored += 1
            elif not reply.startswith(b"SERVER_ERROR"):
                raise self._unexpected(reply, "set")
        return stored, self._presences(names, meta)

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Send all parts, one after the other."""
        left = list(parts)
        try:
            while left:
                sent = self._socket.sendmsg(left[:PIECES])
                done = 0
                while done < len(left) and sent >= len(left[done]):
                    sent -= len(left[done])
                    done += 1
                del left[:done]
                if sent:
                    left[0] = memoryview(left[0])[sent:]
        except OSError as error:
            raise WireError(f"{self.address} does not take requests: {error}") from None

    def line(self) -> bytes:
        """The next line of a reply, without its end."""
        while (end := self._buffer.find(b"\r\n", self._start)) < 0:
            self._read()
        found = bytes(self._buffer[self._start : end])
        self._start = end + 2
        return found

    def skip(self, count: int) -> None:
        """Pass over `count` bytes of a reply."""
        while (here := len(self._buffer) - self._start) < count:
            count -= here
            self._start = len(self._buffer)
            self._read()
        self._start += count

    def _presences(self, names: Sequence[bytes], meta: bool) -> list[bool]:
        return [self._meta_hit() if meta else self._value_came() for _ in names]

    def _meta_hit(self) -> bool:
        reply = self.line()
        if reply[:2] not in (b"HD", b"EN"):
            raise self._unexpected(reply, "mg")
        return reply[:2] == b"HD"

    def _value_came(self) -> bool:
        reply = self.line()
        if reply == b"END":
            return False
        words = reply.split()
        if len(words) < 4 or words[0] != b"VALUE" or not words[3].isdigit():
            raise self._unexpected(reply, "get")
        self.skip(int(words[3]) + 2)
        if (reply := self.line()) != b"END":
            raise self._unexpected(reply, "get")
        return True

    def _read(self) -> None:
        del self._buffer[: self._start]
        self._start = 0
        try:
            data = self._socket.recv(CHUNK)
        except OSError as error:
            raise WireError(f"{self.address} does not answer any more: {error}") from None
        if not data:
            raise WireError(f"{self.address} has closed the connection")
        self._buffer += data

    def _unexpected(self, reply: bytes, verb: str) -> WireError:
        text = reply[:80].decode(errors="replace")
        return WireError(f"{self.address} answers {text!r} to {verb}: is it a memcached server?")
