# cython: language_level=3
"""Taking items out of a shard: by command, for room, or to empty a page. What goes next is chosen in victim.

Knows: index, segments and slabs of one shard, and how they fit. Must not know: commands, the protocol, why memory is wanted.
Memory: gives chunks back to their pages and empty pages to the arena's pool; nothing here calls the system.
Threads: the shard's lock is held in every function.
"""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.item cimport Item, handle_t
from cacheserver.store.shard cimport Shard

cdef enum EmptyHow:
    EMPTY_ALL                # everything goes
    EMPTY_COLD               # first pass of a rescue: see empty_page()
    EMPTY_RESCUE             # second pass

cdef uint64_t hash_of(Shard *sh, Item *it) noexcept nogil
cdef bint link_item(Shard *sh, uint64_t hash, handle_t h, Item *it, uint32_t segment) noexcept nogil
cdef void remove_item(Shard *sh, uint64_t hash, handle_t h, Item *it) noexcept nogil
cdef void empty_page(Shard *sh, uint32_t page, uint32_t begin, uint32_t count, EmptyHow how) noexcept nogil
cdef bint evict_one(Shard *sh, uint32_t cls, uint32_t spare) noexcept nogil
cdef bint evict_page(Shard *sh, uint32_t page) noexcept nogil
cdef bint evict_coldest(Shard *sh) noexcept nogil
