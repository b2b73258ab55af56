"""Where the server is, and whether it speaks what it is going to be asked in.

Knows: addresses as people write them, sockets, the first words of each protocol. Must not know: workloads.
Errors are a LoadError, one line for a person.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

TIMEOUT = 5.0  # seconds, for each step of a probe
LONGEST_PATH = 107  # bytes of a Unix socket's
GREETINGS = {
    "text": (b"get loadtest-probe\r\n", (b"END", b"VALUE ")),
    "meta": (b"mn\r\n", (b"MN",)),
    "resp": (b"*1\r\n$4\r\nPING\r\n", (b"+PONG",)),
}
LOGIN = (b"unauthenticated", b"NOAUTH")  # what memcached and Redis say to who has not logged in


class LoadError(Exception):
    """Why nothing could be measured, in one line."""


def probe(address: str, protocol: str) -> bytes:
    """Ask one harmless question in the protocol; returns the struct sockaddr of who has answered.

    Raises LoadError where another answer comes, or none.
    """
    question, answers = GREETINGS[protocol]
    try:
        with connected(address) as wire:
            there = _packed(wire.family, wire.getpeername())
            wire.sendall(question)
            line = b""
            while b"\n" not in line and len(line) < 512 and (data := wire.recv(512)):
                line += data
    except TimeoutError:
        raise LoadError(f"{address} does not answer within {TIMEOUT:.0f} s: is it overloaded?") from None
    except OSError as error:
        reason = error.strerror or error
        raise LoadError(f"{address} cannot be reached ({reason}): is a server running there?") from None
    if any(word in line for word in LOGIN):
        raise LoadError(f"{address} wants a login first, which load tests do not have: try it without one")
    if not line.startswith(answers):
        said = repr(line.splitlines()[0][:80].decode(errors="replace")) if line else "nothing and hangs up"
        others = " or ".join(sorted(GREETINGS.keys() - {protocol}))
        raise LoadError(f"{address} says {said}: it does not speak {protocol}; is it --protocol {others}?")
    return there


def connected(address: str) -> socket.socket:
    """A blocking connection with a time-out, to the first of a name's addresses where somebody listens.

    Raises OSError, LoadError.
    """
    if "/" in address:
        if len(address.encode()) > LONGEST_PATH:
            raise LoadError(f"{address} is too long for a Unix socket: {LONGEST_PATH} bytes at most")
        wire = socket.socket(socket.AF_UNIX)
        wire.settimeout(TIMEOUT)
        try:
            wire.connect(address)
        except OSError:
            wire.close()
            raise
        return wire
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise LoadError(f"{address!r} is no address: say host:port, [ipv6]:port or the path of a Unix socket")
    try:
        return socket.create_connection((host.strip("[]"), int(port)), TIMEOUT)
    except (socket.gaierror, UnicodeError) as error:
        raise LoadError(f"{host} has no address: {getattr(error, 'strerror', None) or error}") from None


def _packed(family: int, place: Any) -> bytes:
    """The struct sockaddr of a peer as Python tells it."""
    if family == socket.AF_UNIX:
        return struct.pack("=H", family) + os.fsencode(place) + b"\0"
    packed = struct.pack("=H", family) + struct.pack("!H", place[1])
    if family == socket.AF_INET:
        return packed + socket.inet_aton(place[0]) + bytes(8)
    bare = place[0].partition("%")[0]
    return packed + bytes(4) + socket.inet_pton(family, bare) + struct.pack("=I", place[3])
