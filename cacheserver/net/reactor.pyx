# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The reactor: one epoll set of stream sockets (TCP, Unix, TLS), served in batches without the GIL.

The event loop watches one file descriptor, the epoll set's own. Each wake-up serves the ready connections
(see serve.pyx), then runs commands for Python, for a short time.

Knows: the life of the set and of its connections. Must not know: requests, items, asyncio.
Memory: see conn.pxd. Threads: one reactor belongs to the thread that calls on_ready(); adopt() and adopt_tls()
may be called from any.
"""
import logging
from collections.abc import Callable

cimport cython
from libc.errno cimport errno
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free

from cacheserver.engine cimport (
    CARRY_MAX, CLOSE_SHUTDOWN, FEED_CLOSE, RAN_CLOSE, RAN_JOB, RAN_ON, Engine, Ran, output_free,
)
from cacheserver.net.budget cimport Budget, budget_join, shared_carry, shared_held, shared_pinned, shared_secure
from cacheserver.net.conn cimport (
    CARRY, COMMAND, DEAD, EVENTS_MAX, HELD, INPUT_ALONE, IOV_COUNT, KINDS, LINE_BYTES, PINNED, QUEUE_MAX, RESUME, SECURE, UNSENT,
    Arrival, Conn, Line, Queued, ReactorC, conn_destroy, conn_reap, conn_side, line_return, line_take,
)
from cacheserver.net.flush cimport flush_all, flush_note
from cacheserver.net.inbox cimport inbox_put, inbox_put_secure, inbox_shut, inbox_take
from cacheserver.net.linux cimport (
    EFD_CLOEXEC, EFD_NONBLOCK, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN,
    aligned_alloc, close, epoll_create1, epoll_ctl, epoll_event, eventfd, eventfd_write, iovec, net_atomic_get,
    net_now_us, pthread_mutex_destroy, pthread_mutex_init,
)
from cacheserver.net.park cimport Parked, lend, park, park_free
from cacheserver.net.seats cimport seat_list
from cacheserver.net.serve cimport COMMANDS_US, end_drained, feed_carry, serve_on, settle
from cacheserver.net.transport cimport Secure, tls_wrap
from cacheserver.net.upkeep cimport relieve, sweep

log = logging.getLogger("cacheserver.net")

OUT_OF_FILES = b"SERVER_ERROR out of file descriptors\r\n"


@cython.no_gc_clear  # closing gives pins back to the engine, so the engine must outlive it
cdef class Reactor:
    """Serves stream sockets with one engine. All but adopt(), adopt_tls() and counters() belong to one thread.

    max_input, max_output, max_pinned, max_secure: bytes that all connections together may hold of unfinished
    input, of unsent output copied to the heap, of unsent output left in the store, and of OpenSSL's own
    state: a Budget to share between reactors, a number for this reactor alone, or None for the process's own
    budgets (256, 64, 256 and 256 MiB).
    idle_timeout: seconds without a byte after which sweep() closes a connection; 0 = never.
    on_job(parked, job): called when a command's handler answers with a job instead of bytes. b"": the job has
    begun, and the connection is parked until it gives it back. Other bytes: it has not, and they are the
    reply. None for on_job: such commands are answered ERROR.
    """

    def __cinit__(self) -> None:
        self.c.epoll_fd = self.c.wake_fd = -1
        self.c.swept = -1
        self.c.inbox_shut = True
        self.c.closed = True
        pthread_mutex_init(&self.c.lock, NULL)

    def __init__(self, engine: Engine, *, max_input: Budget | int | None = None,
                 max_output: Budget | int | None = None, max_pinned: Budget | int | None = None,
                 max_secure: Budget | int | None = None, idle_timeout: float = 0,
                 on_job: Callable[[Parked, Callable[..., object]], bytes] | None = None) -> None:
        cdef int kind
        cdef epoll_event event
        if not self.c.closed or self.c.epoll_fd >= 0:
            raise RuntimeError("a reactor is set up once")
        if idle_timeout < 0:
            raise ValueError(f"idle_timeout must not be negative, not {idle_timeout} s")
        self.engine = engine
        self.c.engine = &engine.c
        self.idle_timeout = idle_timeout
        self.on_job = on_job
        self.carry_budget = as_budget(max_input, shared_carry)
        self.held_budget = as_budget(max_output, shared_held)
        self.pinned_budget = as_budget(max_pinned, shared_pinned)
        self.secure_budget = as_budget(max_secure, shared_secure)
        self.c.budgets[HELD] = &self.held_budget.c
        self.c.budgets[PINNED] = &self.pinned_budget.c
        self.c.budgets[CARRY] = &self.carry_budget.c
        self.c.budgets[SECURE] = &self.secure_budget.c
        self.c.input = <char *>aligned_alloc(LINE_BYTES, CARRY_MAX + INPUT_ALONE)
        self.c.queue = <Queued *>calloc(QUEUE_MAX, sizeof(Queued))
        self.c.iov = <iovec *>calloc(IOV_COUNT, sizeof(iovec))
        self.c.events = <epoll_event *>calloc(EVENTS_MAX, sizeof(epoll_event))
        if self.c.input == NULL or self.c.queue == NULL or self.c.iov == NULL or self.c.events == NULL:
            raise MemoryError("no memory for a reactor's buffers")
        self.c.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        self.c.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.c.epoll_fd < 0 or self.c.wake_fd < 0:
            raise OSError(errno, "cannot create an epoll set; raise the limit of open files (ulimit -n)")
        event.events = EPOLLIN
        event.data.ptr = NULL
        if epoll_ctl(self.c.epoll_fd, EPOLL_CTL_ADD, self.c.wake_fd, &event) != 0:
            raise OSError(errno, "cannot watch the reactor's own eventfd")
        for kind in range(KINDS):
            budget_join(self.c.budgets[kind], 1)
        self.c.swept_us = net_now_us()
        self.c.closed = False
        self.c.inbox_shut = False

    def __dealloc__(self) -> None:
        shut(&self.c)
        park_free(&self.c)
        pthread_mutex_destroy(&self.c.lock)

    def fileno(self) -> int:
        """The epoll set: readable whenever on_ready() has something to do."""
        return self.c.epoll_fd

    def adopt(self, fd: int) -> bool:
        """Hand over an accepted non-blocking stream socket; any thread. False: the reactor is closed, and so
        is `fd` now."""
        cdef int handle = fd
        cdef bint taken
        with nogil:
            taken = inbox_put(&self.c, handle)
        return taken

    def adopt_tls(self, secure: Secure, base: int) -> bool:
        """Hand over a socket whose TLS handshake is done; any thread. False: the reactor is closed, and so is
        `secure` now.

        base: bytes that OpenSSL holds for the connection while it is at rest; they count against max_secure.
        """
        cdef Arrival a
        cdef bint taken
        a.fd = secure.fileno()
        a.tls = tls_wrap(secure, base)
        if a.tls == NULL:
            secure.close()
            return False
        with nogil:
            taken = inbox_put_secure(&self.c, a)
        return taken

    def on_ready(self) -> None:
        """Serve everything that is ready. An exception of a command's handler closes its connection and is
        logged."""
        if self.c.closed or self.busy:
            return
        self.busy = True
        try:
            with nogil:
                serve_on(&self.c)
            if self.c.command.head != NULL:
                self.run_commands()
        finally:
            self.busy = False
            self.end_batch()

    cdef int run_commands(self) except -1:
        """Run the commands that wait, one of each connection; its next requests follow it, and a next command stands
        behind those of others. When the time is up the rest waits until others have been served."""
        cdef ReactorC *r = &self.c
        cdef Line waiting = r.command
        cdef Conn *c
        cdef long long until = net_now_us() + COMMANDS_US
        r.command.head = r.command.tail = NULL
        try:
            while True:
                c = line_take(r, &waiting)
                if c == NULL:
                    break
                if r.queued:
                    flush_all(r)     # a job takes the socket over: what was said before must be out
                if not c.flags & (UNSENT | DEAD):
                    self.run_command(c)
                if net_now_us() >= until:
                    break
        finally:
            line_return(&r.command, &waiting)
        with nogil:
            flush_all(r)
        return 0

    cdef int run_command(self, Conn *c) except -1:
        """Run a connection's command, and go on with its requests."""
        cdef ReactorC *r = &self.c
        cdef uint32_t first = r.out.nspans
        cdef Ran ran
        c.flags &= ~<uint32_t>COMMAND
        try:
            ran = <Ran>self.engine.run_command(&c.session, &r.out)
            if ran == RAN_JOB:
                ran = <Ran>self.begin_job(c)
            if ran == RAN_JOB:
                return 0
        except Exception:
            log.exception("a command failed; its connection is closed")
            ran = RAN_CLOSE
        except BaseException:
            conn_destroy(r, c)
            flush_note(r, c, first)
            raise
        with nogil:
            conn_side(r, c)
            if ran != RAN_CLOSE:
                flush_note(r, c, first)
                if c.flags & UNSENT:
                    c.flags |= RESUME
                elif not c.flags & DEAD:
                    feed_carry(r, c)
            else:
                settle(r, c, FEED_CLOSE, NULL, c.ncarry, first)
        return 0

    cdef int begin_job(self, Conn *c) except -1:
        """Let the command's job begin with the connection for itself, or say why it cannot; returns a Ran."""
        cdef Parked parked
        cdef bytes refusal = OUT_OF_FILES
        job, self.engine.job = self.engine.job, None
        if self.on_job is None:
            refusal = b"ERROR\r\n"
        else:
            parked = lend(self, &self.c, c)
            if parked is not None:
                try:
                    refusal = self.on_job(parked, job)
                except BaseException:
                    parked.withdraw()
                    raise
                if not refusal:
                    park(&self.c, c)
                    return RAN_JOB
                parked.withdraw()
        return RAN_ON if self.engine.say(&self.c.out, refusal) else RAN_CLOSE

    cdef void end_batch(self) noexcept:
        # Empty already, unless an exception ended the batch; conn_reap() must not free what the queue names.
        if self.c.queued:
            flush_all(&self.c)
        if self.close_asked:
            shut(&self.c)
            return
        with nogil:
            if self.c.draining:
                end_drained(&self.c)
            conn_reap(&self.c)
            if self.c.resume.head != NULL or self.c.command.head != NULL:
                eventfd_write(self.c.wake_fd, 1)

    def sweep(self, now: float) -> None:
        """Close what has been idle too long; call it about once a second. `now`: seconds of any clock that
        never goes back."""
        cdef double at = now
        if self.c.closed:
            return
        with nogil:
            sweep(&self.c, at, self.idle_timeout)
            if not self.busy:
                conn_reap(&self.c)

    def relieve(self, hard: bool, target: int | None = None) -> int:
        """Let go of store memory that connections hold; returns the bytes unpinned.

        Always: acknowledge the revoked reservations of half-received values. hard: also close the
        connections whose unsent output is pinned in the store, largest first, until `target` bytes are
        unpinned (None: all).
        """
        cdef long long wanted = -1 if target is None else target
        cdef bint now = hard
        cdef size_t released
        if self.c.closed:
            return 0
        with nogil:
            released = relieve(&self.c, now, wanted)
            if not self.busy:
                conn_reap(&self.c)
        return released

    def drain(self) -> None:
        """Finish what is in flight and close each connection as soon as it waits for a new request."""
        if self.c.closed:
            return
        self.c.draining = True
        with nogil:
            inbox_take(&self.c)
        if not self.busy:
            self.end_batch()

    def close(self) -> None:
        """Close every connection and the epoll set. From a command's handler: as soon as the batch ends."""
        if self.busy:
            self.close_asked = True
        else:
            shut(&self.c)

    @property
    def drained(self) -> bool:
        """True when no connection is left."""
        return net_atomic_get(&self.c.open) == 0

    @property
    def connections(self) -> int:
        """Open connections, those not yet taken over from adopt() included."""
        return net_atomic_get(&self.c.open)

    def seats(self, first: int, most: int) -> list[tuple[int, str, str, str, int]]:
        """(fd, the peer's address, the server's, state, seconds since bytes last moved) of the connections from
        number `first` on, `most` at most."""
        return [] if self.c.closed else seat_list(&self.c, first, most)

    def counters(self) -> dict[str, int]:
        """Counters, and gauges of the bytes held now; any thread (another thread's view may lag by a
        batch)."""
        return {
            "curr_connections": net_atomic_get(&self.c.open),
            "bytes_read": self.c.bytes_read,
            "bytes_written": self.c.bytes_written + net_atomic_get(&self.c.parked_written),
            "conn_yields": self.c.conn_yields,
            "idle_kicks": self.c.idle_kicks,
            "budget_kicks": self.c.budget_kicks,
            "pressure_kicks": self.c.pressure_kicks,
            "pending_bytes": self.c.bytes[HELD],
            "pinned_bytes": self.c.bytes[PINNED],
            "carry_bytes": self.c.bytes[CARRY],
            "read_buf_bytes": 0 if self.c.closed else CARRY_MAX + INPUT_ALONE,
            "ssl_connections": self.c.tls_open,
            "ssl_proto_errors": self.c.tls_errors,
            "output_buf_bytes": self.c.out.text.cap,
            "conn_bytes": (
                self.c.count * sizeof(Conn) + self.c.table_cap * sizeof(void *) + self.c.side_bytes
            ),
        }


cdef Budget as_budget(object given, Budget shared):
    if given is None:
        return shared
    if isinstance(given, Budget):
        return given
    return Budget(given)


cdef void shut(ReactorC *r) noexcept:
    """Close everything that is open; harmless to repeat, and after a failed set-up."""
    cdef int kind
    if not r.closed:
        for kind in range(KINDS):
            budget_join(r.budgets[kind], -1)
    r.closed = True
    inbox_shut(r)
    while r.count:
        r.table[r.count - 1].why = CLOSE_SHUTDOWN
        conn_destroy(r, r.table[r.count - 1])
    while line_take(r, &r.resume) != NULL or line_take(r, &r.command) != NULL:
        pass
    conn_reap(r)
    if r.epoll_fd >= 0:
        close(r.epoll_fd)
    if r.wake_fd >= 0:
        close(r.wake_fd)
    r.epoll_fd = r.wake_fd = -1
    free(r.table)
    free(r.input)
    free(r.queue)
    free(r.iov)
    free(r.events)
    free(r.record)
    r.record = NULL
    r.table = NULL
    r.input = NULL
    r.queue = NULL
    r.iov = NULL
    r.events = NULL
    r.table_cap = 0
    output_free(&r.out)
