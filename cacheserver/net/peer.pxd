# cython: language_level=3
"""Whom a socket talks to: kept from the beginning, because a broken connection cannot be asked any more.

Knows: socket addresses. Must not know: connections, the engine. No memory of its own. Threads: any.
"""
from libc.stdint cimport uint8_t, uint16_t

cdef enum:
    PEER_TEXT = 64           # bytes that peer_text() may write

cdef struct Peer:            # zero: a Unix socket, or not known
    uint8_t family           # 4, 6, or 0
    uint8_t address[16]
    uint16_t port

cdef void peer_of(int fd, Peer *peer) noexcept nogil
cdef unsigned int peer_text(const Peer *peer, char *out) noexcept nogil
