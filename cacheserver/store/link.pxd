# cython: language_level=3
"""An item in and out of a shard: index, segment and slab class together.

Knows: how the three fit. Must not know: why an item comes or goes, commands. Memory: gives chunks back to their pages;
nothing here calls the system. Threads: the shard's lock is held in every function.
"""
from libc.stdint cimport uint64_t

from cacheserver.store.item cimport Item, handle_t
from cacheserver.store.shard cimport Shard

cdef uint64_t hash_of(Shard *sh, Item *it) noexcept nogil
cdef bint link_item(Shard *sh, uint64_t hash, handle_t h, Item *it, handle_t old) noexcept nogil
cdef void remove_item(Shard *sh, uint64_t hash, handle_t h, Item *it) noexcept nogil
