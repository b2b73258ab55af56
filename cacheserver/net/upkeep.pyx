# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""What a reactor does to its connections between batches: see upkeep.pxd."""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

from cacheserver.engine cimport CLOSE_IDLE, engine_revoked, engine_target
from cacheserver.net.conn cimport (
    CLOSING, COMMAND, LINGER, PARKED, PINNED, RESUME, UNSENT, Conn, ReactorC, budget_enforce, conn_destroy, largest_holder,
)
from cacheserver.net.linux cimport net_now_us
from cacheserver.net.serve cimport clock_set

cdef enum:
    LINGER_SECONDS = 2       # how long a closing connection waits for its client to stop sending
    CLOSING_SECONDS = 10     # how long the last output of a closing connection may make no progress


cdef void sweep(ReactorC *r, double now, double timeout) noexcept nogil:
    cdef uint32_t i = r.count
    cdef Conn *c
    cdef double idle
    if r.swept < 0:
        clock_set(r)
        r.swept_clock = r.clock
    elif now > r.swept:
        r.swept_clock += now - r.swept
    r.swept = now
    r.swept_us = net_now_us()
    r.clock = r.swept_clock
    while i > 0:
        i -= 1
        c = r.table[i]
        idle = r.clock - c.last
        if c.flags & PARKED:
            pass
        elif c.flags & LINGER:
            if idle >= LINGER_SECONDS:
                conn_destroy(r, c)
        elif c.flags & CLOSING:
            if idle >= CLOSING_SECONDS:
                conn_destroy(r, c)
        elif c.flags & (RESUME | COMMAND) and not c.flags & UNSENT:
            pass                 # it is the server that lets the client wait
        elif timeout > 0 and idle >= timeout:
            r.idle_kicks += 1
            c.why = CLOSE_IDLE
            conn_destroy(r, c)
    budget_enforce(r)


cdef size_t relieve(ReactorC *r, bint hard, long long target) noexcept nogil:
    """See Reactor.relieve()."""
    cdef uint32_t i
    cdef Conn *c
    cdef Conn *worst
    cdef size_t room, released = 0
    for i in range(r.count):
        c = r.table[i]
        if engine_revoked(r.engine, &c.session):
            engine_target(r.engine, &c.session, &room)
    while hard and r.bytes[PINNED] > 0 and (target < 0 or <long long>released < target):
        worst = largest_holder(r, PINNED)
        released += worst.pinned
        r.pressure_kicks += 1
        conn_destroy(r, worst)
    return released
