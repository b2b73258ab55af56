"""Listening sockets: addresses in, bound and listening sockets out, or one line saying which address failed.

Knows: Config's network knobs, bind and listen. Must not know: who accepts, what is spoken.
The sockets belong to the caller.
"""

import contextlib
import errno
import itertools
import os
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cacheserver.config import Config
from cacheserver.errors import StartError
from cacheserver.values import address_text

NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)

Bind = Callable[[int, int, int, tuple[Any, ...]], list[socket.socket]]


class Stream(NamedTuple):
    """A listening socket, and whether TLS is spoken there, if it is on at all."""

    socket: socket.socket
    tls: bool


@dataclass(frozen=True, slots=True)
class Sockets:
    """What a server is spoken to by."""

    streams: list[Stream]
    datagrams: list[list[socket.socket]]  # for each UDP address, one socket for each worker

    def all(self) -> list[socket.socket]:
        """Return every socket, those for UDP first."""
        return [*itertools.chain.from_iterable(self.datagrams), *(each.socket for each in self.streams)]

    def names(self, *, tls: bool = False) -> list[str]:
        """Return each address once, as people write it; `tls`: whether TLS is on."""
        return [
            *(name(each.socket) + (" (TLS)" if tls and each.tls else "") for each in self.streams),
            *(name(each[0]) + " (UDP)" for each in self.datagrams),
        ]


def open_sockets(config: Config, owner: tuple[int, int] | None = None) -> Sockets:
    """Bind and listen wherever `config` says; non-blocking. Raises StartError, and leaves nothing open then.

    owner: (uid, gid) to give the file of a Unix socket to, for a server that changes its user later.
    """
    streams: list[Stream] = []
    datagrams: list[list[socket.socket]] = []
    try:
        for address in config.listen:
            port = config.port if address.port is None else address.port
            if port:
                found = _bind_all(
                    address.host, port, socket.SOCK_STREAM, lambda *where: [_tcp_socket(*where)]
                )
                streams += [Stream(each, address.tls) for (each,) in found]
        if config.unix_socket is not None:
            streams.append(Stream(_unix_socket(config.unix_socket, config.unix_mask), tls=False))
            if owner is not None:
                os.chown(config.unix_socket, *owner)
        for host in dict.fromkeys(each.host for each in config.udp_listen if config.udp_port):
            datagrams += _bind_all(
                host, config.udp_port, socket.SOCK_DGRAM, lambda *where: _udp_sockets(config.threads, *where)
            )
        for each in streams:
            _listen(each.socket, config.backlog)
    except BaseException:
        close_sockets(Sockets(streams, datagrams).all())
        raise
    return Sockets(streams, datagrams)


def close_sockets(sockets: Sequence[socket.socket]) -> None:
    """Close what is still open, and remove the file of a Unix socket where the folder allows it."""
    for each in sockets:
        if each.fileno() < 0:
            continue
        path = each.getsockname() if each.family == socket.AF_UNIX else None
        each.close()
        if path:
            with contextlib.suppress(OSError):
                os.unlink(path)


def name(bound: socket.socket) -> str:
    """Return the address of a bound socket as people write it."""
    address = bound.getsockname()
    return str(address) if bound.family == socket.AF_UNIX else address_text(address[0], address[1])


def _listen(bound: socket.socket, backlog: int) -> None:
    try:
        bound.listen(backlog)
    except OSError as error:
        raise _refused(name(bound), error) from None


def _bind_all(host: str, port: int, kind: int, bind: Bind) -> list[list[socket.socket]]:
    """Bind every address `host` stands for; a family this system lacks is passed over if another works.

    port: -1: any free one.
    """
    port = max(port, 0)
    text = address_text(host, port)
    try:
        found = socket.getaddrinfo(_plain(host), port, type=kind, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise StartError(f"cannot listen on {text}: {why}; check the address after -l") from None
    bound: list[list[socket.socket]] = []
    lacking: OSError | None = None
    for family, _, number, _, where in found:
        try:
            bound.append(bind(family, kind, number, where))
        except OSError as error:
            if error.errno in NO_SUCH_FAMILY:
                lacking = error
                continue
            close_sockets([*itertools.chain.from_iterable(bound)])
            raise _refused(text, error) from None
    if not bound:
        assert lacking is not None
        raise _refused(text, lacking)
    return bound


def _plain(host: str) -> str | bytes | None:
    """Return what getaddrinfo takes `host` as; only a name that needs the tables of Unicode loads them."""
    if host == "*":
        return None
    return host.encode() if host.isascii() else host


def _udp_sockets(
    workers: int, family: int, kind: int, number: int, where: tuple[Any, ...]
) -> list[socket.socket]:
    """Bind one address for each worker; the kernel deals each client's datagrams to always the same one."""
    made: list[socket.socket] = []
    try:
        for _ in range(workers):
            each = socket.socket(family, kind, number)
            made.append(each)
            each.setblocking(False)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # The first shares its address only after it has got it, so that no other server has it, too.
            if len(made) > 1:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            each.bind(where)
            if len(made) == 1 and workers > 1:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                where = each.getsockname()
    except OSError:
        close_sockets(made)
        raise
    return made


def _tcp_socket(family: int, kind: int, number: int, where: tuple[Any, ...]) -> socket.socket:
    """Bind one TCP socket; the options are those every accepted connection shall inherit."""
    made = socket.socket(family, kind, number)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(where)
    except OSError:
        made.close()
        raise
    return made


def _unix_socket(path: str, mask: int) -> socket.socket:
    """Bind a Unix socket at `path`; a socket that a server left there when it died is replaced."""
    made = socket.socket(socket.AF_UNIX)
    made.setblocking(False)
    before = os.umask(~mask & 0o777)
    try:
        _remove_dead_socket(path)
        made.bind(path)
    except OSError as error:
        made.close()
        raise _refused(path, error) from None
    finally:
        os.umask(before)
    return made


def _remove_dead_socket(path: str) -> None:
    """Remove the socket at `path` if nobody answers there. Raises OSError where something else is."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "there is something else than a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)


def _refused(text: str, error: OSError) -> StartError:
    advice = {
        errno.EADDRINUSE: "is another server running there? Stop it, or choose another by -p, -U, -l or -s",
        errno.EADDRNOTAVAIL: "the address is not one of this machine; check -l",
        errno.EEXIST: "give -s a path that is free",
        errno.ENOENT: "the folder does not exist; make it, or check -s",
        errno.EACCES: "ports below 1024 and protected folders need root; -u then gives it up",
    }.get(error.errno or 0, "check -p, -U, -l and -s")
    return StartError(f"cannot listen on {text}: {error.strerror or error}; {advice}")
