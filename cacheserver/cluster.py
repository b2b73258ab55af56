"""The answer to `config get cluster`: the servers of this server's cluster, in ElastiCache's form.

Knows: host names, how they are resolved, the form of the reply. Must not know: sockets that are served, event
loops, the store. Owns: one short reply, and the thread that keeps it up to date.
Threads: start() and stop() are the server's; answer() may be called from every worker at once, it reads one
reference and never waits. Names are resolved in a thread of their own, as a resolver may take many seconds.

A single host name stands for all its addresses (a headless service, a name with several A records). What a
name resolved to last is kept while it does not resolve. Clients take a list only with a higher number than
the last one's, so the number of a list is the Unix time at which it was first seen, in seconds: it rises when
the list changes, and over a restart, too. It fits the 32 bits that some clients keep it in until 2038.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence

from cacheserver.lines import END, ERROR
from cacheserver.values import Address

log = logging.getLogger("cacheserver.cluster")

RESOLVE_SECONDS = 5.0  # from the end of one resolution to the begin of the next
STOP_SECONDS = 0.2  # a resolver at work is not waited for
UNRESOLVED = b"SERVER_ERROR the name of the cluster has not been resolved yet\r\n"

Node = tuple[str, str, int]  # host, IP address ("" while unknown), port


class Cluster:
    """The servers that `--cluster` names; with no entries there is no cluster and every command is an error.

    port: of entries that name none. resolve: host name -> IP addresses, raising OSError or ValueError where
    there are none. wall: seconds of Unix time.
    """

    def __init__(
        self,
        entries: Sequence[Address],
        port: int,
        *,
        resolve: Callable[[str], Sequence[str]] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._entries = list(dict.fromkeys((each.host, each.port or port) for each in entries))
        self._resolve = resolve or lookup
        self._wall = wall
        self._known: dict[str, list[str]] = {}  # host -> its addresses when it resolved last
        self._failed: set[str] = set()
        self._nodes: list[Node] = []
        self._version = 0
        self._reply = UNRESOLVED if entries else ERROR
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def answer(self, arguments: list[bytes]) -> bytes:
        """Return the reply to the command `config` with these arguments."""
        return self._reply if arguments == [b"get", b"cluster"] else ERROR

    def start(self) -> None:
        """Make the list; where it has names, in a thread that goes on resolving them."""
        if not any(literal(host) is None for host, _ in self._entries):
            self.refresh()
            return
        self._thread = threading.Thread(target=self._run, name="cluster", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, soon."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def refresh(self) -> None:
        """Resolve every name once and change the reply where the list has changed."""
        nodes = self._expanded() if len(self._entries) == 1 else self._listed()
        if nodes and nodes != self._nodes:
            self._nodes = nodes
            self._version = max(self._version + 1, int(self._wall()))
            self._reply = config_reply(self._version, nodes)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.refresh()
            self._stopped.wait(RESOLVE_SECONDS)

    def _expanded(self) -> list[Node]:
        """Return all addresses of the one entry, each its own host name: clients tell nodes apart by it."""
        host, port = self._entries[0]
        return [(address, address, port) for address in self._addresses(host)]

    def _listed(self) -> list[Node]:
        """Return the entries, each with one address; the one it had before where it still has that."""
        before = {(host, port): address for host, address, port in self._nodes}
        nodes = []
        for host, port in self._entries:
            addresses = self._addresses(host)
            address = before.get((host, port), "")
            if addresses and address not in addresses:
                address = addresses[0]
            nodes.append((host, address, port))
        return nodes

    def _addresses(self, host: str) -> list[str]:
        """Return the addresses of `host` in a fixed order, those known last where it does not resolve."""
        address = literal(host)
        if address is not None:
            return [address]
        try:
            self._known[host] = sorted(self._resolve(host)) or self._known[host]
        except (OSError, ValueError, LookupError) as error:
            if host not in self._failed:
                self._failed.add(host)
                kept = "its last addresses stay" if host in self._known else "it has no address yet"
                log.warning("--cluster: %s does not resolve (%s); %s", host, error, kept)
        else:
            self._failed.discard(host)
        return self._known.get(host, [])


def literal(host: str) -> str | None:
    """Return `host` in its shortest form if it is an IP address, else None."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            return socket.inet_ntop(family, socket.inet_pton(family, host))
    return None


def lookup(host: str) -> list[str]:
    """Return the IPv4 addresses of `host`, its IPv6 addresses where it has no other: a server that has both
    must not be listed twice. May take as long as the resolver takes. Raises OSError or ValueError."""
    # Bytes: for text Python loads its tables of Unicode, which may be out of its reach once root is given up.
    found = socket.getaddrinfo(host.encode(), None, type=socket.SOCK_STREAM)
    by_family: dict[int, set[str]] = {}
    for family, _, _, _, address in found:
        by_family.setdefault(family, set()).add(str(address[0]))
    return list(by_family.get(socket.AF_INET) or by_family.get(socket.AF_INET6) or ())


def config_reply(version: int, nodes: Sequence[Node]) -> bytes:
    """Return the whole reply. The block's lines end with LF alone; its length is without the last CRLF."""
    listed = " ".join(f"{host}|{address}|{port}" for host, address, port in nodes)
    block = f"{version}\n{listed}\n".encode()
    return b"CONFIG cluster 0 %d\r\n%b\r\n" % (len(block), block) + END
