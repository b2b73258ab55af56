# cython: language_level=3
"""What a reactor does to its connections between batches: closing idle ones, letting go of the store's memory.

Knows: connections, the engine's reservations. Must not know: who asks, requests, asyncio.
Memory: see conn.pxd. Threads: the reactor's own, outside of a batch or from a command's handler.
"""
from libc.stddef cimport size_t

from cacheserver.net.conn cimport ReactorC

cdef void sweep(ReactorC *r, double now, double timeout) noexcept nogil
cdef size_t relieve(ReactorC *r, bint hard, long long target) noexcept nogil
