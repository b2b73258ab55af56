# cython: language_level=3
"""Dropping one live item for its memory: which one of a class, by the order of its segments, and what is counted.

Knows: segments, counters. Must not know: pages, commands, why memory is wanted. Memory: the chunk goes back to its page.
Threads: the shard's lock is held in every function.
"""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.item cimport Item, handle_t
from cacheserver.store.shard cimport Shard

cdef void note_eviction(Shard *sh, uint32_t cls, Item *it) noexcept nogil
cdef void evict_item(Shard *sh, uint64_t hash, handle_t h, Item *it) noexcept nogil
cdef bint evict_one(Shard *sh, uint32_t cls) noexcept nogil
