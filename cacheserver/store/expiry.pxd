# cython: language_level=3
"""Freeing what has expired without waiting for anyone to read it.

Knows: the deadlines of pages, and how items go. Must not know: who calls, how often. Memory: chunks go back to their pages.
Threads: expire_some() any, one at a time; takes one shard's lock at a time, for EXPIRE_MOST items. expire_page() with the
lock of the page's shard held.
"""
from libc.stdint cimport int64_t, uint32_t

from cacheserver.store.shard cimport Shard, StoreC

cdef enum:
    EXPIRE_MOST = 256        # items of a page that are looked at while its shard's lock is held: some 50 us

cdef uint32_t expire_page(Shard *sh, uint32_t page) noexcept nogil
cdef bint expire_some(StoreC *s, uint32_t now, int64_t end) noexcept nogil
