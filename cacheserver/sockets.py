"""Listening sockets: addresses in, bound and listening sockets out, or one line saying which address failed.

Knows: Config's network knobs, bind and listen. Must not know: who accepts, what is spoken.
The sockets belong to the caller.
"""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence

from cacheserver.config import Address, Config, address_text
from cacheserver.errors import StartError

NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


class Listening(socket.socket):
    """A listening socket; `tls`: whether it speaks TLS."""

    tls = False


def open_sockets(config: Config, owner: tuple[int, int] | None = None) -> list[Listening]:
    """Bind and listen wherever `config` says; non-blocking. Raises StartError, and leaves nothing open then.

    owner: (uid, gid) to give the file of a Unix socket to, for a server that changes its user later.
    """
    with contextlib.ExitStack() as opened:
        sockets: list[Listening] = []
        if config.unix_socket is not None:
            sockets.append(opened.enter_context(_unix_socket(config.unix_socket, config.unix_mask)))
            if owner is not None:
                os.chown(config.unix_socket, *owner)
        else:
            for address in config.listen:
                for each in _tcp_sockets(address, config.port):
                    each.tls = config.tls and address.tls
                    sockets.append(opened.enter_context(each))
        for each in sockets:
            _listen(each, config.backlog)
        opened.pop_all()
    return sockets


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


def _tcp_sockets(address: Address, default_port: int) -> list[Listening]:
    """Bind every address the host stands for; a family this system lacks is passed over if another works."""
    port = default_port if address.port is None else address.port
    port = max(port, 0)  # -1: any free port
    host = None if address.host == "*" else address.host
    text = address_text(address.host, port)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise StartError(f"cannot listen on {text}: {why}; check the address after -l") from None
    bound: list[Listening] = []
    lacking: OSError | None = None
    for family, kind, number, _, where in found:
        try:
            bound.append(_tcp_socket(family, kind, number, where))
        except OSError as error:
            if error.errno in NO_SUCH_FAMILY:
                lacking = error
                continue
            for each in bound:
                each.close()
            raise _refused(text, error) from None
    if not bound:
        assert lacking is not None
        raise _refused(text, lacking)
    return bound


def _tcp_socket(family: int, kind: int, number: int, where: tuple[object, ...]) -> Listening:
    """Bind one TCP socket; the options are those every accepted connection shall inherit."""
    made = Listening(family, kind, number)
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


def _unix_socket(path: str, mask: int) -> Listening:
    """Bind a Unix socket at `path`; a socket that a server left there when it died is replaced."""
    made = Listening(socket.AF_UNIX)
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
        errno.EADDRINUSE: "is another server running there? Stop it, or give another address by -p, -l or -s",
        errno.EADDRNOTAVAIL: "the address is not one of this machine; check -l",
        errno.EEXIST: "give -s a path that is free",
        errno.ENOENT: "the folder does not exist; make it, or check -s",
        errno.EACCES: "ports below 1024 and protected folders need root; -u then gives it up",
    }.get(error.errno or 0, "check -p, -l and -s")
    return StartError(f"cannot listen on {text}: {error.strerror or error}; {advice}")
