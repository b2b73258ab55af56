# cython: language_level=3
"""The encrypted bytes of a connection that speaks TLS: receive, send and close, in the place of the kernel's own calls.

A TLS connection is a connection of the reactor like any other; only where bytes cross the socket does it take this way.
OpenSSL reads and writes the socket itself, through an ssl.SSLSocket whose handshake is done (see handshakes.py), so no
encrypted byte is kept here.

Knows: ssl.SSLSocket, records. Must not know: connections, engines, when to read or to send; contexts and certificates.
Memory: a Tls is its connection's; it owns the SSLSocket, which owns the file descriptor. OpenSSL keeps a buffer for a record
only while a part of one has come in, or has gone out (SSL_MODE_RELEASE_BUFFERS, which the ssl module sets).
Threads: one at a time for each Tls. The functions take the GIL for themselves; no C lock may be held around them.
"""
from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

from cacheserver.net.linux cimport ssize_t

cdef enum:
    RECORD_MAX = 16384       # bytes of the largest record; less room would leave a rest inside OpenSSL, where no event tells of it
    RECORD_BYTES = 16896     # bytes of the buffer OpenSSL has for a part of a record

cdef enum:
    TLS_BROKEN = -1          # the stream is at its end or out of step: close
    TLS_AGAIN = -2           # the kernel has nothing, or no room: see Tls.wants

cdef struct Tls:
    PyObject *sock
    size_t base              # bytes OpenSSL needs for the connection when it is at rest
    size_t charged           # bytes counted for it now: its connection's to keep
    size_t retry             # bytes of a send that is not done: the next must offer the same bytes, these and no more
    uint32_t wants           # epoll events that the last TLS_AGAIN waits for
    bint partial             # a part of a record has come in
    bint ended               # nothing may be sent or received any more

cdef Tls *tls_wrap(object sock, size_t base)
cdef ssize_t tls_recv(Tls *t, char *p, size_t n) noexcept nogil
cdef ssize_t tls_send(Tls *t, const char *p, size_t n) noexcept nogil
cdef void tls_bye(Tls *t) noexcept nogil
cdef void tls_close(Tls *t) noexcept nogil

cdef inline size_t tls_bytes(Tls *t) noexcept nogil:
    """What OpenSSL holds for the connection now."""
    return t.base + (RECORD_BYTES if t.partial else 0) + (RECORD_BYTES if t.retry else 0)
