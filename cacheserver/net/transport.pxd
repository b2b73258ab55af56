# cython: language_level=3
"""The encrypted bytes of a connection that speaks TLS: receive, send and close, in the place of the kernel's own calls.

A TLS connection is a connection of the reactor like any other; only where bytes cross the socket does it take this way.
OpenSSL never sees the socket: one call of it goes on for as long as the socket has records without data in them, of which a
client can send any number. It is fed by hand instead, whole records as a rule and a bounded number of them at a time,
and what it says is sent by hand.

Knows: the ssl module, a socket, where records begin. Must not know: connections, engines, when to read or to send;
certificates.
Memory: a Tls is its connection's; it owns its Secure, which owns the socket. OpenSSL keeps a buffer for a record only while a
part of one has come in (SSL_MODE_RELEASE_BUFFERS, which the ssl module sets). A MemoryBIO keeps the memory that the longest
piece needed, so bytes cross it in pieces of a few KiB. What the kernel does not take is a block of the Tls.
Threads: one at a time for each Tls and Secure. The functions take the GIL for themselves; no C lock may be held around them.
"""
from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

from cacheserver.net.linux cimport ssize_t

cdef enum:
    RECORD_MAX = 16384       # bytes of data in the largest record
    RECORD_BYTES = 16896     # bytes of the buffer OpenSSL has for a part of a record
    PIECE_BYTES = 5632       # bytes that a MemoryBIO keeps once a long piece has crossed it
    RECEIVE_ROOM = 32768     # least room for tls_recv(): what OpenSSL has of a record, and what one call feeds it

cdef enum:
    TLS_BROKEN = -1          # the stream is at its end or out of step: close
    TLS_AGAIN = -2           # the kernel has nothing, or no room

cdef struct Records:         # where in the stream of records the received bytes end
    uint32_t head            # bytes of the header that have come; 0: between two records
    uint32_t left            # bytes of the record that are still to come, once its header has
    uint32_t idle            # records since one that brought data

cdef class Secure:
    cdef readonly object sock
    cdef object tls
    cdef object incoming
    cdef object outgoing
    cdef Records records
    cdef bytes unsent        # of the handshake
    cdef bint long_in        # as in Tls
    cdef bint long_out
    cdef int push(self) except -1
    cdef int pull(self) except -1

cdef struct Tls:
    PyObject *secure
    int fd
    size_t base              # bytes OpenSSL needs for the connection when it is at rest
    size_t charged           # bytes counted for it now: its connection's to keep
    Records records
    char *block              # encrypted bytes that the kernel did not take, or NULL
    size_t sent              # bytes of the block that it took since
    size_t nblock
    bint long_in             # a long piece has come in
    bint long_out            # one has gone out
    bint more                # the last tls_recv() left something in the kernel
    bint over                # the client has said that it will send no more
    bint ended               # nothing may be sent or received any more

cdef Tls *tls_wrap(Secure secure, size_t base)
cdef ssize_t tls_recv(Tls *t, char *p, size_t n) noexcept nogil
cdef ssize_t tls_send(Tls *t, const char *p, size_t n) noexcept nogil
cdef void tls_bye(Tls *t) noexcept nogil
cdef void tls_close(Tls *t) noexcept nogil

cdef inline bint tls_partial(Tls *t) noexcept nogil:
    """Whether a part of a record has come in."""
    return t.records.head != 0

cdef inline bint tls_unsent(Tls *t) noexcept nogil:
    """Whether encrypted bytes wait for room in the kernel; tls_send() sends them first."""
    return t.block != NULL

cdef inline size_t tls_bytes(Tls *t) noexcept nogil:
    """What is held for the connection now."""
    return t.base + (RECORD_BYTES if tls_partial(t) else 0) + t.nblock + (<size_t>t.long_in + t.long_out) * PIECE_BYTES
