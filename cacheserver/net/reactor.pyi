from collections.abc import Callable

from cacheserver.engine import Engine
from cacheserver.net.budget import Budget
from cacheserver.net.park import Parked
from cacheserver.net.transport import Secure

class Reactor:
    """Serves stream sockets (TCP, Unix, TLS) with one engine. All but adopt(), adopt_tls() and counters()
    belong to one thread.

    max_input, max_output, max_pinned, max_secure: bytes that all connections together may hold of unfinished
    input, of unsent output copied to the heap, of unsent output left in the store, and of OpenSSL's own
    state: a Budget to share between reactors, a number for this reactor alone, or None for the process's own
    budgets (256, 64, 256 and 256 MiB).
    idle_timeout: seconds without a byte after which sweep() closes a connection; 0 = never.
    on_job(parked, job): called when a command's handler answers with a job instead of bytes. b"": the job has
    begun, and the connection is parked until it gives it back. Other bytes: it has not, and they are the
    reply. None for on_job: such commands are answered ERROR.
    """

    @property
    def engine(self) -> Engine: ...
    def __init__(
        self,
        engine: Engine,
        *,
        max_input: Budget | int | None = None,
        max_output: Budget | int | None = None,
        max_pinned: Budget | int | None = None,
        max_secure: Budget | int | None = None,
        idle_timeout: float = 0,
        on_job: Callable[[Parked, Callable[..., object]], bytes] | None = None,
    ) -> None: ...
    def fileno(self) -> int:
        """The epoll set: readable whenever on_ready() has something to do. -1 after close()."""

    def adopt(self, fd: int) -> bool:
        """Hand over an accepted non-blocking stream socket; any thread. False: the reactor is closed, and so
        is `fd` now."""

    def adopt_tls(self, secure: Secure, base: int) -> bool:
        """Hand over a socket whose TLS handshake is done; any thread. False: the reactor is closed, and so is
        `secure` now.

        base: bytes that OpenSSL holds for the connection while it is at rest; they count against max_secure.
        """

    def on_ready(self) -> None:
        """Serve everything that is ready. An exception of a command's handler closes its connection and is
        logged."""

    def sweep(self, now: float) -> None:
        """Close what has been idle too long; call it about once a second. `now`: seconds of any clock that
        never goes back."""

    def relieve(self, hard: bool, target: int | None = None) -> int:
        """Let go of store memory that connections hold; returns the bytes unpinned.

        Always: acknowledge the revoked reservations of half-received values. hard: also close the
        connections whose unsent output is pinned in the store, largest first, until `target` bytes are
        unpinned (None: all).
        """

    def drain(self) -> None:
        """Finish what is in flight and close each connection as soon as it waits for a new request."""

    def close(self) -> None:
        """Close every connection and the epoll set. From a command's handler: as soon as the batch ends.

        The event loop must have stopped watching fileno() before.
        """

    @property
    def drained(self) -> bool:
        """True when no connection is left."""

    @property
    def connections(self) -> int:
        """Open connections, those not yet taken over from adopt() included."""

    def seats(self, first: int, most: int) -> list[tuple[int, str, str, str, int]]:
        """(fd, the peer's address, the server's, state, seconds since bytes last moved) of connections.

        From number `first` on, `most` at most; the numbers change when one closes.
        """

    def counters(self) -> dict[str, int]:
        """Counters, and gauges of the bytes held now; any thread (another thread's view may lag by a batch).

        memcached's names: curr_connections, bytes_read, bytes_written, conn_yields, idle_kicks,
        read_buf_bytes.
        Own: budget_kicks and pressure_kicks (connections closed for a budget, by relieve()),
        pending_bytes (unsent output on the heap), pinned_bytes (unsent output left in the store),
        carry_bytes (unfinished input), output_buf_bytes, conn_bytes, ssl_connections, ssl_proto_errors (TLS
        connections that ended in an error).
        """
