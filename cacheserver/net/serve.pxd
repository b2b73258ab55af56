# cython: language_level=3
"""One batch of the reactor, and its parts that follow a command run by Python."""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

from cacheserver.engine cimport Feed
from cacheserver.net.conn cimport Conn, ReactorC

cdef enum:
    TURN_US = 2000           # microseconds of one batch for connections the engine paused
    COMMANDS_US = 500        # microseconds of one wake-up after which no further command for Python begins

cdef void clock_set(ReactorC *r) noexcept nogil
cdef int serve(ReactorC *r) noexcept nogil
cdef void serve_on(ReactorC *r) noexcept nogil
cdef void settle(ReactorC *r, Conn *c, Feed answer, const char *rest, size_t n, uint32_t first) noexcept nogil
cdef void feed_carry(ReactorC *r, Conn *c) noexcept nogil
cdef void end_drained(ReactorC *r) noexcept nogil
