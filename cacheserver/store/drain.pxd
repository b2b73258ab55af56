# cython: language_level=3
"""Emptying pages: everything goes, or what is in use moves to holes elsewhere. Which page is chosen in victim.

Knows: pages, their chunks, index and segments. Must not know: who wants the memory, commands.
Memory: empty pages go to the arena's pool; nothing here calls the system. Threads: the shard's lock is held in every
function.
"""
from libc.stdint cimport uint32_t

from cacheserver.store.shard cimport Shard

cdef enum EmptyHow:
    EMPTY_ALL                # everything goes
    EMPTY_COLD               # first pass of a rescue: see empty_page()
    EMPTY_RESCUE             # second pass

cdef void empty_page(Shard *sh, uint32_t page, uint32_t begin, uint32_t count, EmptyHow how) noexcept nogil
cdef bint evict_page(Shard *sh, uint32_t page) noexcept nogil
cdef bint evict_coldest(Shard *sh) noexcept nogil
cdef bint drain_step(Shard *sh) noexcept nogil
cdef void drain_slice(Shard *sh, uint32_t count) noexcept nogil
