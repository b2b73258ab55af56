# cython: language_level=3
"""Holes put together: a class with clearly more free chunks than it needs gives pages up, unasked.

Knows: occupancy of classes over time. Must not know: coldness, debts, how items move. Owns no memory.
Threads: the shard's lock is held, for some ten microseconds at a time.
"""
from libc.stdint cimport uint32_t

from cacheserver.store.shard cimport Shard

cdef void compact_look(Shard *sh, uint32_t now) noexcept nogil
cdef bint compact_step(Shard *sh) noexcept nogil
