# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Listening sockets: accept in a loop without the GIL, refuse what exceeds the connection limit, deal
sockets to reactors.

Knows: accept, the limit, the reactors' inboxes. Must not know: the event loop (its owner adds and removes
readers), requests.
Memory: two small arrays of fds and reactors.
Threads: all methods belong to the accepting thread; counters() to any.
"""
from collections.abc import Callable, Iterable, Sequence
from socket import socket

cimport cython
from libc.errno cimport EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from cacheserver.net.conn cimport ReactorC
from cacheserver.net.inbox cimport inbox_put
from cacheserver.net.linux cimport (
    CLOCK_MONOTONIC, MSG_DONTWAIT, MSG_NOSIGNAL, clock_gettime, close, net_accept, net_atomic_add, net_atomic_get,
    recv, send, timespec,
)
from cacheserver.net.reactor cimport Reactor

cdef enum:
    ACCEPT_MAX = 128         # connections accepted in one call; the loop has other things to watch
    REFUSED_INPUT = 4096     # bytes read from a refused client, so that closing does not reset the reply away

cdef double PAUSE_FIRST = 0.01
cdef double PAUSE_LAST = 0.1
cdef const char *REFUSAL = b"ERROR Too many open connections\r\n"


cdef inline uint64_t now_us() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <uint64_t>t.tv_sec * 1000000 + <uint64_t>t.tv_nsec // 1000


cdef void refuse(int fd) noexcept nogil:
    """Tell the client why, if that works at once, and close."""
    cdef char ignored[REFUSED_INPUT]
    send(fd, REFUSAL, 33, MSG_NOSIGNAL | MSG_DONTWAIT)
    recv(fd, ignored, sizeof(ignored), MSG_DONTWAIT)
    close(fd)


@cython.no_gc_clear  # the array below points into the reactors
cdef class Listener:
    """Accepts for `sockets` (bound, listening, non-blocking) and deals the connections to `reactors` in turn.

    max_conns: open connections over all reactors from which on a client is refused (1 or more), or, without
    `refuse`, waits for another to leave.
    on_pause(seconds): called when a client must wait: for a place, or because the system has no file
    descriptor or buffer left (`full` tells which). The owner stops watching the sockets, and after that time
    calls resume(). The time is 10 ms for a place; else it doubles from 10 to 100 ms while it does not help.
    secure, on_secure(fd): the indices of the sockets that speak TLS, and who takes what they accept. It counts as an
    open connection until settled(): then a reactor has it, or it is closed.
    max_unsettled, on_crowd(index): how many of them there may be; others wait in the kernel's queue. The owner stops
    watching sockets[index], and watches it again a moment later.
    """
    cdef readonly tuple sockets
    cdef readonly tuple reactors
    cdef readonly bint paused
    cdef readonly bint full
    cdef object on_pause
    cdef int *fds
    cdef ReactorC **targets
    cdef uint32_t ntargets
    cdef uint32_t turn
    cdef long long max_conns
    cdef bint refuse
    cdef bint stopped
    cdef readonly frozenset secure
    cdef object on_secure
    cdef object on_crowd
    cdef int fresh[ACCEPT_MAX] # accepted for on_secure by the call that runs
    cdef int nfresh
    cdef long long unsettled # atomic
    cdef long long max_unsettled
    cdef double pause
    cdef uint64_t paused_at
    cdef uint64_t accepted
    cdef uint64_t rejected
    cdef uint64_t disabled
    cdef uint64_t disabled_us

    def __init__(self, sockets: Sequence[socket], reactors: Sequence[Reactor], *, max_conns: int,
                 refuse: bool = True, on_pause: Callable[[float], object] | None = None, secure: Iterable[int] = (),
                 on_secure: Callable[[int], object] | None = None, max_unsettled: int = 256,
                 on_crowd: Callable[[int], object] | None = None) -> None:
        cdef Reactor reactor
        if self.fds != NULL:
            raise RuntimeError("a listener is set up once")
        if not reactors:
            raise ValueError("a listener needs at least one reactor")
        if max_conns < 1:
            raise ValueError(f"max_conns must be 1 or more, not {max_conns}")
        self.sockets = tuple(sockets)
        self.reactors = tuple(reactors)
        self.max_conns = max_conns
        self.refuse = refuse
        self.on_pause = on_pause
        self.secure = frozenset(secure)
        self.on_secure = on_secure
        self.max_unsettled = max_unsettled
        self.on_crowd = on_crowd
        self.pause = PAUSE_FIRST
        self.fds = <int *>calloc(len(self.sockets) + 1, sizeof(int))
        self.targets = <ReactorC **>calloc(len(self.reactors), sizeof(ReactorC *))
        if self.fds == NULL or self.targets == NULL:
            raise MemoryError("no memory for a listener")
        for i, sock in enumerate(self.sockets):
            sock.setblocking(False)
            self.fds[i] = sock.fileno()
        for i, reactor in enumerate(self.reactors):
            self.targets[i] = &reactor.c
        self.ntargets = len(self.reactors)

    def __dealloc__(self) -> None:
        free(self.fds)
        free(self.targets)

    def accept_ready(self, index: int) -> int:
        """Accept what waits at sockets[index], a bounded number; returns how many were accepted, refused
        ones included.

        Never raises for a client's or the system's sake: lost connections are skipped, exhaustion pauses
        (see on_pause).
        """
        cdef int fd, i, accepted, error = 0
        cdef bint secure
        cdef double seconds
        if not 0 <= index < len(self.sockets):
            raise IndexError(f"socket {index} of {len(self.sockets)}")
        if self.paused or self.stopped:
            return 0
        if not self.refuse and self.no_place():
            self.full = True
            self.begin_pause(PAUSE_FIRST)
            return 0
        fd = self.fds[index]
        secure = index in self.secure
        if secure and self.crowded():
            if self.on_crowd is not None:
                self.on_crowd(index)
            return 0
        with nogil:
            accepted = self.accept_all(fd, secure, &error)
        for i in range(self.nfresh):
            self.on_secure(self.fresh[i])
        self.nfresh = 0
        if error:
            seconds = self.pause
            self.pause = min(seconds * 2, PAUSE_LAST)
            self.begin_pause(seconds)
        elif accepted:
            self.pause = PAUSE_FIRST
        return accepted

    cdef int accept_all(self, int listening, bint secure, int *exhausted) noexcept nogil:
        cdef int fd, tries, accepted = 0
        for tries in range(ACCEPT_MAX):
            if (not self.refuse and self.no_place()) or (secure and self.crowded()):
                break            # whether somebody waits is seen when the socket is ready again
            fd = net_accept(listening)
            if fd >= 0:
                accepted += 1
                self.place(fd, secure)
            elif errno == EAGAIN:
                break
            elif errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
                exhausted[0] = errno
                break
            # Anything else (ECONNABORTED, EINTR, EPROTO, a network's own error) concerns one connection only.
        return accepted

    cdef bint no_place(self) noexcept nogil:
        """Whether as many connections are open as there may be."""
        cdef long long open = net_atomic_get(&self.unsettled)
        cdef uint32_t i
        for i in range(self.ntargets):
            open += net_atomic_get(&self.targets[i].open)
        return open >= self.max_conns

    cdef bint crowded(self) noexcept nogil:
        """Whether as many are unsettled as there may be."""
        return net_atomic_get(&self.unsettled) >= self.max_unsettled

    cdef void place(self, int fd, bint secure) noexcept nogil:
        """Refuse a connection, or give it to the next reactor, or keep it for on_secure."""
        cdef uint32_t i
        if self.no_place():
            self.rejected += 1
            if secure:
                close(fd)        # no handshake, so there are no words it could read
            else:
                refuse(fd)
            return
        if secure:
            self.accepted += 1
            net_atomic_add(&self.unsettled, 1)
            self.fresh[self.nfresh] = fd
            self.nfresh += 1
            return
        i = self.turn
        self.turn = i + 1 if i + 1 < self.ntargets else 0
        if inbox_put(self.targets[i], fd):
            self.accepted += 1
        else:
            self.rejected += 1

    cdef int begin_pause(self, double seconds) except -1:
        self.paused = True
        self.paused_at = now_us()
        self.disabled += 1
        if self.on_pause is not None:
            self.on_pause(seconds)
        return 0

    def resume(self) -> float:
        """Accept again after a pause; harmless otherwise. Returns 0, or the seconds after which to call
        again, because there still is no place."""
        if self.full and self.no_place():
            return PAUSE_FIRST
        self.end_pause()
        return 0.0

    def settled(self) -> None:
        """What was given to on_secure is a reactor's now, or closed; any thread, once for each."""
        net_atomic_add(&self.unsettled, -1)

    cdef void end_pause(self) noexcept:
        if self.paused:
            self.paused = self.full = False
            self.disabled_us += now_us() - self.paused_at

    def stop(self) -> None:
        """Accept nothing more, for good. The sockets stay the owner's to close."""
        self.end_pause()
        self.stopped = True

    def counters(self) -> dict[str, int]:
        """Counters under memcached's names."""
        cdef uint64_t waiting = now_us() - self.paused_at if self.paused else 0
        return {
            "curr_connections": net_atomic_get(&self.unsettled),
            "total_connections": self.accepted,
            "rejected_connections": self.rejected,
            "accepting_conns": 0 if self.paused or self.stopped else 1,
            "listen_disabled_num": self.disabled,
            "time_in_listen_disabled_us": self.disabled_us + waiting,
        }
