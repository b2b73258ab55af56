"""`cacheserver ping [address]`: does a server answer there? Exit status 0, or 1 and one line on stderr.

Knows: one request and one reply of the text protocol. Must not know: the server.
Imports nothing but the socket module: it runs beside the server, inside the same memory limit.
"""

import socket
import sys

DEFAULT = "127.0.0.1:11211"
ALIVE = ("VERSION", "ERROR", "CLIENT_ERROR", "SERVER_ERROR")
USAGE = f"usage: cacheserver ping [host:port | [ipv6]:port | /path/of/socket]  (default: {DEFAULT})"


def connect(address: str, timeout: float) -> socket.socket:
    """Connect to `host:port`, `[ipv6]:port`, `host`, `:port` or a path. Raises OSError, ValueError."""
    if "/" in address:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(timeout)
        try:
            client.connect(address)
        except OSError:
            client.close()
            raise
        return client
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]") or (":" in host and not host.startswith("[")):
        host, port = address, "11211"  # no port: a bare name, or a bare IPv6 address
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} is not a port; give host:port with a port from 1 to 65535")
    return socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)), timeout)


def ping(address: str, timeout: float = 3.0) -> str:
    """Return the version the server names, or the error it answers: either shows that it lives.

    A server that wants a login, or has all the connections it may have, says so and no version. Raises
    OSError or ValueError where none answers in `timeout` s.
    """
    with connect(address, timeout) as client:
        client.sendall(b"version\r\n")
        reply = b""
        while not reply.endswith(b"\n"):
            part = client.recv(256)
            if not part or len(reply) > 256:
                break
            reply += part
    line = reply.decode("ascii", "replace").strip()
    word, _, version = line.partition(" ")
    if word not in ALIVE or not reply.endswith(b"\n"):
        raise ValueError(f"not a memcached server: it answered {reply[:64]!r}")
    return version if word == "VERSION" else line


def main(arguments: list[str]) -> int:
    """Ping the one address in `arguments`, or the default one; return the exit status."""
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        print(USAGE, file=sys.stderr)
        return 0 if arguments[0] in ("-h", "--help") else 2
    address = arguments[0] if arguments else DEFAULT
    try:
        ping(address)
    except (OSError, ValueError) as error:
        print(" ".join(f"cacheserver ping: {address}: {error}".split()), file=sys.stderr)
        return 1
    return 0
