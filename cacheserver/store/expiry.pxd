# cython: language_level=3
"""Freeing what has expired without waiting for anyone to read it.

Knows: pages and the times in their items. Must not know: who calls, how often. Memory: chunks go back to their pages.
Threads: any, one at a time; takes one shard's lock at a time.
"""
from libc.stdint cimport int64_t, uint32_t

from cacheserver.store.shard cimport StoreC

cdef void expire_some(StoreC *s, uint32_t now, int64_t end) noexcept nogil
