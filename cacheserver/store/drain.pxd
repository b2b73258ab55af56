# cython: language_level=3
"""Emptying pages: everything goes at once, or in slices, and what is worth keeping moves to other pages of its class.

Knows: pages, their chunks, index and segments. Must not know: who wants the memory, which page is wise, commands.
Memory: empty pages go to the arena's pool; nothing here calls the system. Threads: the shard's lock is held in every
function. A shard empties one page in slices at a time, whoever began with it; Shard.how says what may be given up for it.
"""
from libc.stdint cimport uint32_t

from cacheserver.store.shard cimport DrainHow, Shard

cdef bint evict_page(Shard *sh, uint32_t page) noexcept nogil
cdef bint evict_coldest(Shard *sh) noexcept nogil
cdef void drain_begin(Shard *sh, uint32_t page, DrainHow how) noexcept nogil
cdef void drain_slice(Shard *sh) noexcept nogil
cdef void drain_end(Shard *sh) noexcept nogil
