from collections.abc import Callable, Iterable, Sequence
from socket import socket

from cacheserver.net.reactor import Reactor

class Listener:
    """Accepts for `sockets` (bound and listening) and deals the connections to `reactors` in turn. One
    thread.

    max_conns: open connections over all reactors from which on a client is refused (1 or more), or, without
    `refuse`, waits for another to leave.
    on_pause(seconds): called when a client must wait: for a place, or because the system has no file
    descriptor or buffer left (`full` tells which). The owner stops watching the sockets, and after that time
    calls resume(). The time is 10 ms for a place; else it doubles from 10 to 100 ms while it does not help.
    secure, on_secure(fd): the indices of the sockets that speak TLS, and who takes what they accept. It
    counts as an open connection until settled(): then a reactor has it, or it is closed.
    max_unsettled, on_crowd(index): how many of them there may be; others wait in the kernel's queue. The
    owner stops watching sockets[index], and watches it again a moment later.
    """

    @property
    def sockets(self) -> tuple[socket, ...]: ...
    @property
    def reactors(self) -> tuple[Reactor, ...]: ...
    @property
    def secure(self) -> frozenset[int]: ...
    @property
    def paused(self) -> bool: ...
    @property
    def full(self) -> bool: ...
    def __init__(
        self,
        sockets: Sequence[socket],
        reactors: Sequence[Reactor],
        *,
        max_conns: int,
        refuse: bool = True,
        on_pause: Callable[[float], object] | None = None,
        secure: Iterable[int] = (),
        on_secure: Callable[[int], object] | None = None,
        max_unsettled: int = 256,
        on_crowd: Callable[[int], object] | None = None,
    ) -> None: ...
    def accept_ready(self, index: int) -> int:
        """Accept what waits at sockets[index], a bounded number; returns how many were accepted, refused
        ones included.

        Never raises for a client's or the system's sake: lost connections are skipped, exhaustion pauses
        (see on_pause).
        """

    def resume(self) -> float:
        """Accept again after a pause; harmless otherwise. Returns 0, or the seconds after which to call
        again, because there still is no place."""
    def settled(self) -> None:
        """What was given to on_secure is a reactor's now, or closed; any thread, once for each."""

    def stop(self) -> None:
        """Accept nothing more, for good. The sockets stay the owner's to close."""

    def counters(self) -> dict[str, int]:
        """curr_connections (those not settled yet), and memcached's total_connections, rejected_connections,
        accepting_conns, listen_disabled_num, time_in_listen_disabled_us; any thread."""
