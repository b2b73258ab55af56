# cython: language_level=3
"""Sending: one send or sendmsg a connection a batch, and what becomes of the bytes the kernel does not take.

Knows: spans, pins, pieces. Must not know: reading, asyncio, requests.
"""
from libc.stdint cimport uint32_t

from cacheserver.net.conn cimport Conn, ReactorC

cdef void flush_note(ReactorC *r, Conn *c, uint32_t first) noexcept nogil
cdef void flush_all(ReactorC *r) noexcept nogil
cdef void flush_more(ReactorC *r, Conn *c) noexcept nogil
