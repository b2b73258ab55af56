# cython: language_level=3
"""Parked connections: one whose command is a long job is left out of the reactor until the job gives it back.

Knows: the socket, how to wait for its client. Must not know: what the job is, requests, asyncio.
Memory: a Parked holds a file descriptor of its own for the socket, and its reactor; the Conn stays the reactor's, which
does not free it before it has been given back.
Threads: lend(), park() and park_end() are the reactor's own; a Parked belongs to the job's thread.
"""
from cacheserver.net.conn cimport Conn, ReactorC

cdef class Parked:
    cdef ReactorC *r
    cdef Conn *c
    cdef object owner
    cdef int fd
    cdef long long taken     # bytes of the portion that the client is taking; see Parked.send()
    cdef long long waited    # microseconds that sending them has taken
    cdef bint broken         # a send failed: the client would not know where the next reply begins
    cdef void withdraw(self) noexcept
    cdef int give_back(self, bint ending) except -1

cdef Parked lend(object owner, ReactorC *r, Conn *c)
cdef void park(ReactorC *r, Conn *c) noexcept nogil
cdef void park_end(ReactorC *r, Conn *c) noexcept nogil
cdef void park_free(ReactorC *r) noexcept nogil
