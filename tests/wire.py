"""A raw client for the text protocol: sends the bytes it is told to and reads replies one by one.

Knows: sockets and the framing of replies. It is not a memcached client on purpose: it can send anything, stop
in the middle of a request, close one half of the connection, and it never retries or reconnects.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable
from types import TracebackType

Address = tuple[str, int] | str
TIMEOUT = 10.0


class Wire:
    """One connection. `address` is (host, port) or the path of a Unix socket. Not thread-safe."""

    def __init__(self, address: Address, *, timeout: float = TIMEOUT, receive_buffer: int = 0) -> None:
        """Connect; `receive_buffer` (bytes) limits what the kernel takes in for a silent client."""
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            self.socket = socket.socket(family, socket.SOCK_STREAM)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        self._buffer = bytearray()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def half_close(self) -> None:
        """Say that nothing more will be sent; replies can still be read."""
        self.socket.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        """Hang up, and wait until the server has, too: until then it counts the connection."""
        self.half_close()
        self.read_to_end()

    def read(self) -> bool:
        """Take in whatever arrives next; False when the server has closed the connection."""
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError:
            return False
        self._buffer += data
        return bool(data)

    def read_line(self) -> bytes:
        """Return the next line without its CR LF; EOFError when the server closes before its end."""
        start = 0
        while (end := self._buffer.find(b"\r\n", start)) < 0:
            start = max(0, len(self._buffer) - 1)
            if not self.read():
                raise EOFError(f"closed after {bytes(self._buffer[-80:])!r}")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def read_exactly(self, count: int) -> bytes:
        """Return the next `count` bytes; EOFError when the server closes before."""
        while len(self._buffer) < count:
            if not self.read():
                raise EOFError(f"closed {count - len(self._buffer)} bytes before the end")
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def read_until(self, mark: bytes) -> tuple[bytes, bool]:
        """Return (bytes before `mark`, False), or (all that came, True) when the server closes first."""
        start = 0
        while (at := self._buffer.find(mark, start)) < 0:
            start = max(0, len(self._buffer) - len(mark))
            if not self.read():
                data = bytes(self._buffer)
                self._buffer.clear()
                return data, True
        data = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return data, False

    def read_to_end(self) -> bytes:
        """Return everything until the server closes."""
        while self.read():
            pass
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def read_values(self) -> dict[bytes, bytes]:
        """Read one reply to get or gat: {key: value} of the hits."""
        values: dict[bytes, bytes] = {}
        while (line := self.read_line()) != b"END":
            word, key, _flags, size = line.split(b" ")[:4]
            if word != b"VALUE":
                raise AssertionError(f"unexpected reply {line!r}")
            value = self.read_exactly(int(size) + 2)
            if value[-2:] != b"\r\n":
                raise AssertionError(f"no CR LF after the value of {key!r}")
            values[key] = value[:-2]
        return values

    def ask(self, request: bytes) -> bytes:
        """Send one request with a one-line reply; return that line without CR LF."""
        self.send(request)
        return self.read_line()

    def set(self, key: bytes, value: bytes, exptime: int = 0) -> bytes:
        return self.ask(b"set %b 0 %d %d\r\n%b\r\n" % (key, exptime, len(value), value))

    def get(self, key: bytes) -> bytes | None:
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        self.send(b"get " + b" ".join(keys) + b"\r\n")
        return self.read_values()

    def stats(self, argument: bytes = b"") -> dict[str, str]:
        """Return the fields of `stats` (or of `stats argument`)."""
        self.send(b"stats " + argument + b"\r\n" if argument else b"stats\r\n")
        fields: dict[str, str] = {}
        while (line := self.read_line()) != b"END":
            word, name, *value = line.decode().split(" ", 2)
            if word != "STAT":
                raise AssertionError(f"unexpected reply {line!r}")
            fields[name] = value[0] if value else ""
        return fields


def readable(wires: list[Wire], seconds: float) -> list[Wire]:
    """Return those of `wires` whose socket has something to read within `seconds`; any number of them."""
    poll = select.poll()
    by_number = {wire.socket.fileno(): wire for wire in wires}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _event in poll.poll(seconds * 1000)]
