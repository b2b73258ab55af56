# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""One process's load: the loop's face to Python.

Knows: how a loop is made of plain numbers. Must not know: the words of workloads, other processes. Memory: the
loop's; a trace's block in hand. Threads: one at a time; run() is without the GIL.
"""
import os
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from loadtest.engine.conn cimport ADDRESS_MAX, Conn, conn_free
from loadtest.engine.content cimport content_free, content_init
from loadtest.engine.desk cimport (
    GONE, MEMORY, NONE, SILENT, STRANGE, SYSTEM, UNASKED, Protocol, Talk, Tally, desk_free, desk_init, oldest,
)
from loadtest.engine.draw cimport Kind, dice_seed, draw_init
from loadtest.engine.histogram cimport hist_take
from loadtest.engine.judge cimport LINE_MAX
from loadtest.engine.linux cimport (
    CLOCK_MONOTONIC, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, TFD_CLOEXEC, TFD_NONBLOCK,
    clock_ns, close, epoll_create1, epoll_ctl, epoll_event, timerfd_create,
)
from loadtest.engine.loop cimport (
    CONNECTED, ENDED, INPUT_MAX, REFUSED, STARVED, TIME, Loop, Outcome, Step, loop_run,
)
from loadtest.engine.source cimport MULTIGET_MAX

cdef double NS = 1e9


cdef class Generator:
    """A load of one process on one server. All times are in nanoseconds of time.monotonic_ns().

    address: a struct sockaddr. protocol: 0 text, 1 meta, 2 resp. kind, a, b: see draw.KINDS and draw_init().
    first, last: keys that a scan goes over, once if `once`. backend: nanoseconds between a miss and its fill.
    ttl: least and greatest seconds. rate: requests a second, 0: closed loop. offset: the first one is due so
    many nanoseconds after the start. steps: (nanoseconds from the start, rate or connections). Raises
    MemoryError, OSError.
    """
    cdef Loop *loop
    cdef object block           # of the trace

    def __cinit__(self, address: bytes, *, protocol: int, prefix: bytes, key_sizes: object, value_sizes: object,
                  kind: int, a: float, b: float, keys: int, first: int, last: int, once: bool,
                  get_share: float, multiget: int, ttl: tuple[int, int], fill: bool, backend: int,
                  verify: bool, traced: bool, connections: int, most_connections: int, depth: int,
                  rate: float, offset: float, churn: int, patience: int, steps: list[tuple[int, float]],
                  seed: int) -> None:
        cdef Loop *l = <Loop *>calloc(1, sizeof(Loop))
        cdef uint32_t i
        self.loop = l
        if l == NULL:
            raise MemoryError
        l.net.epoll = l.timer = -1
        if not 0 < len(address) <= ADDRESS_MAX or not 0 < multiget <= MULTIGET_MAX:
            raise ValueError("an address or a multiget that is too long")
        desk_init(&l.desk)
        content_init(&l.desk.content, prefix, key_sizes, value_sizes)
        dice_seed(&l.desk.dice, seed)
        l.desk.protocol = <Protocol><int>protocol
        l.desk.verify = verify
        l.desk.fill = fill
        l.desk.apart = verify or (fill and multiget > 1)
        l.desk.open_loop = rate > 0
        l.desk.ttl_low, l.desk.ttl_high = ttl
        draw_init(&l.source.draw, <Kind><int>kind, keys, a, b)
        l.source.draw.next = first
        l.source.draw.end = last if once else keys
        l.source.draw.once = once
        l.source.draw.ended = l.source.ended = once and first == last
        l.source.get_share = get_share
        l.source.multiget = multiget
        l.source.traced = traced
        l.nconns = most_connections
        l.active = connections
        l.depth = depth
        l.churn = churn
        l.patience = patience
        l.backend = backend
        l.interval = NS / <double>rate if rate > 0 else 0.0
        l.due = offset
        l.conns = <Conn *>calloc(l.nconns, sizeof(Conn))
        l.free_ones = <uint32_t *>calloc(l.nconns, sizeof(uint32_t))
        l.steps = <Step *>calloc(len(steps) + 1, sizeof(Step))
        l.input = <uint8_t *>malloc(LINE_MAX + INPUT_MAX)
        if l.conns == NULL or l.free_ones == NULL or l.steps == NULL or l.input == NULL:
            raise MemoryError
        for i in range(l.nconns):
            l.conns[i].fd = -1
            l.conns[i].index = i
        for i in range(len(steps)):
            l.steps[i].at, l.steps[i].value = steps[i]
        l.nsteps = len(steps)
        l.net.address_size = len(address)
        memcpy(l.net.address, <const char *>address, len(address))
        self.open_set()

    cdef int open_set(self) except -1:
        """Make the epoll set and the timer in it."""
        cdef epoll_event event
        self.loop.net.epoll = epoll_create1(EPOLL_CLOEXEC)
        self.loop.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        event.events = EPOLLIN
        event.data.u64 = 0
        if (self.loop.net.epoll < 0 or self.loop.timer < 0
                or epoll_ctl(self.loop.net.epoll, EPOLL_CTL_ADD, self.loop.timer, &event) < 0):
            raise OSError(errno, os.strerror(errno))
        return 0

    def __dealloc__(self) -> None:
        cdef Loop *l = self.loop
        cdef uint32_t i
        if l == NULL:
            return
        if l.conns != NULL:
            for i in range(l.nconns):
                conn_free(&l.conns[i])
        for fd in (l.net.epoll, l.timer):
            if fd >= 0:
                close(fd)
        content_free(&l.desk.content)
        desk_free(&l.desk)
        free(l.conns)
        free(l.free_ones)
        free(l.waits)
        free(l.steps)
        free(l.input)
        free(l)

    def connect(self) -> str:
        """Open all connections; returns "", or what is wrong in a few words. Takes seconds at the most."""
        cdef Outcome outcome
        cdef int64_t until = clock_ns() + <int64_t>10000000000
        with nogil:
            outcome = loop_run(self.loop, until)
        if outcome == CONNECTED:
            return ""
        if outcome == REFUSED:
            return f"{os.strerror(self.loop.net.refusal)} ({self.loop.net.open} of {self.loop.active} connections)"
        return self.trouble() or "it does not answer"

    def begin(self, start: int) -> None:
        """Let requests be made from now on; `start` is what the offset and the steps count from."""
        self.loop.start = start
        self.loop.begun = True
        self.loop.next_tick = 0

    def run(self, until: int) -> str:
        """Load the server until `until`; returns "time", or earlier "block", "end", "trouble"."""
        cdef Outcome outcome
        cdef int64_t end = until
        with nogil:
            outcome = loop_run(self.loop, end)
        if outcome == TIME:
            return "time"
        if outcome == STARVED:
            return "block"
        return "end" if outcome == ENDED else "trouble"

    def feed(self, numbers: object, sizes: object) -> None:
        """Take the next block of a trace: keys, and sizes or None, as array('q'); None for keys: there is no more."""
        cdef const long long[::1] keys
        cdef const long long[::1] bytes_of
        self.loop.source.at = self.loop.source.count = 0
        self.loop.next_tick = 0
        if numbers is None:
            self.loop.source.last = self.loop.source.ended = True
            return
        if len(numbers) == 0 or (sizes is not None and len(sizes) != len(numbers)):
            raise ValueError("a block without keys, or with another number of sizes")
        self.block = (numbers, sizes)
        keys = numbers
        self.loop.source.numbers = <const int64_t *>&keys[0]
        self.loop.source.sizes = NULL
        if sizes is not None:
            bytes_of = sizes
            self.loop.source.sizes = <const int64_t *>&bytes_of[0]
        self.loop.source.count = len(numbers)

    def take(
        self,
    ) -> tuple[tuple[int, ...], tuple[bytes, bytes], tuple[bytes, bytes], tuple[bytes, bytes], int]:
        """What came since the last call: results.Counters' numbers, latency, service, the latency of sets, and the
        backlog now."""
        cdef Loop *l = self.loop
        cdef Tally t = l.desk.tally
        cdef double late = 0.0
        l.desk.tally = Tally(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        counts = (t.requests, t.hits + t.misses, t.hits, t.misses, t.sets, t.stored, t.refused, t.fills,
                  t.errors, t.wrong, t.reconnects, t.bytes_in, t.bytes_out)
        service = hist_take(l.desk.service)
        latency = hist_take(l.desk.latency) if l.desk.open_loop else service
        if l.desk.open_loop and l.begun and not l.source.ended:
            late = (<double>(clock_ns() - l.start) - l.due) / l.interval
        return counts, latency, service, hist_take(l.desk.sets), int(late + 1) if late > 0 else 0

    def trouble(self) -> str:
        """What has ended the load, in a few words; "" where nothing has."""
        trouble = self.loop.desk.trouble
        if trouble == NONE:
            return ""
        if trouble == STRANGE:
            return f"the server's reply makes no sense: {shown(self.loop.desk.said)}"
        if trouble == UNASKED:
            return f"the server says what nobody asked: {shown(self.loop.desk.said)}"
        if trouble == GONE:
            return "the server closed all connections"
        if trouble == SILENT:
            return "the server has not answered for 30 s"
        if trouble == MEMORY:
            return "the generator has no memory"
        return f"the system refuses: {os.strerror(self.loop.desk.code)}"

    def complaint(self) -> str:
        """The first error reply or refusal; "" where there was none."""
        return shown(self.loop.desk.complaint) if self.loop.desk.complaint[0] else ""

    def refusal(self) -> str:
        """Why the last attempt to connect failed that did, in a few words; "" where none has."""
        return os.strerror(self.loop.net.refusal) if self.loop.net.refusal else ""

    @property
    def dropped(self) -> int:
        """Requests that were overdue by more than a minute and were given up."""
        return self.loop.dropped

    @property
    def waited(self) -> int:
        """Nanoseconds since the oldest request without a reply was sent; 0: all have theirs."""
        cdef int64_t now = clock_ns()
        cdef int64_t since = now
        cdef Talk *talk
        cdef uint32_t i
        for i in range(self.loop.nconns):
            talk = &self.loop.conns[i].talk
            if talk.asked_count and oldest(talk).sent < since:
                since = oldest(talk).sent
        return now - since


cdef str shown(const char *text):
    return repr((<bytes>text).decode("utf-8", "replace"))
