"""A raw client for memcached's UDP frames: sends what it is told to and puts a reply together.

Knows: sockets and the 8-byte header. Never retries: between two ends of one machine nothing gets lost that
the server did not drop.
"""

from __future__ import annotations

import select
import socket
import struct
from types import TracebackType

from tests.wire import TIMEOUT

DATAGRAM_MAX = 1400  # bytes of a reply's datagram, by the protocol
HEADER = struct.Struct(">HHHH")


def frame(text: bytes, *, number: int = 0, sequence: int = 0, count: int = 1, reserved: int = 0) -> bytes:
    """Return `text` behind a header; request `number`."""
    return HEADER.pack(number, sequence, count, reserved) + text


class Udp:
    """One client of a UDP server at (host, port). Not thread-safe."""

    def __init__(self, address: tuple[str, int], *, timeout: float = TIMEOUT) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        self._number = 0xFFF0  # soon beyond the 16 bits

    def __enter__(self) -> Udp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, datagram: bytes) -> None:
        """Send a whole datagram, header and all."""
        self.socket.send(datagram)

    def ask(self, text: bytes) -> bytes:
        """Send requests in one datagram; return the reply's text."""
        return b"".join(self.ask_parts(text))

    def ask_parts(self, text: bytes) -> list[bytes]:
        """Send requests in one datagram; return the text of each datagram of the reply, in order."""
        self._number = (self._number + 1) % 0x10000
        self.send(frame(text, number=self._number))
        parts: dict[int, bytes] = {}
        total = 1
        while len(parts) < total:
            datagram = self.socket.recv(0x10000)
            number, sequence, total, reserved = HEADER.unpack_from(datagram)
            assert (number, reserved) == (self._number, 0)
            assert sequence < total
            assert sequence not in parts
            assert HEADER.size < len(datagram) <= DATAGRAM_MAX
            parts[sequence] = datagram[HEADER.size :]
        return [parts[index] for index in range(total)]

    def drain(self) -> int:
        """Throw away what has arrived; returns how many datagrams that were."""
        count = 0
        while select.select([self.socket], [], [], 0)[0]:
            self.socket.recv(0x10000)
            count += 1
        return count
