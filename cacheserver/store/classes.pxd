# cython: language_level=3
"""The slab classes of a shard compared: how cold each is, which one gives memory next.

Knows: segments, page counts. Must not know: which page goes, why memory is wanted. Nothing is allocated or changed.
Threads: the shard's lock is held in every function.
"""
from libc.stdint cimport uint32_t

from cacheserver.store.item cimport handle_t
from cacheserver.store.shard cimport Shard, SlabClass

cdef handle_t coldest_item(Shard *sh, uint32_t cls) noexcept nogil
cdef uint32_t tail_age(Shard *sh, uint32_t cls) noexcept nogil
cdef uint32_t spare_pages(SlabClass *k) noexcept nogil
cdef uint32_t coldest_class(Shard *sh, bint sparse) noexcept nogil
