# cython: language_level=3
"""Slab classes: which chunk sizes there are, and handing chunks out of pages.

Knows: chunk sizes, free lists, occupancy. Must not know: keys, recency, who is evicted.
Memory: a shard's pages belong to it from arena_take_page() to arena_put_page(); a chunk belongs to whoever allocated it.
Threads: the shard's lock is held in every function that takes a Shard.
"""
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from cacheserver.store.arena cimport LARGE_CHUNKS, page_of
from cacheserver.store.item cimport handle_t
from cacheserver.store.shard cimport Shard

cdef struct SlabSizes:
    uint32_t count           # classes 0 .. count - 1 have chunks; class `count` is the run class
    uint32_t chunk_size[320]
    uint16_t lookup[32769]   # class for (bytes + 7) // 8

cdef SlabSizes *slab_sizes() noexcept nogil
cdef uint32_t slab_class_of(uint64_t nbytes) noexcept nogil
cdef void slab_open(Shard *sh) noexcept nogil
cdef bint slab_owns(Shard *sh, uint32_t page) noexcept nogil
cdef handle_t slab_alloc(Shard *sh, uint32_t cls) noexcept nogil
cdef void slab_adopt(Shard *sh, uint32_t page, uint32_t cls) noexcept nogil
cdef handle_t slab_alloc_run(Shard *sh, uint64_t nbytes, bint force) noexcept nogil
cdef void slab_touch_large(Shard *sh, handle_t h, uint64_t nbytes) noexcept nogil
cdef void slab_free(Shard *sh, handle_t h) noexcept nogil
cdef void slab_close_page(Shard *sh, uint32_t page) noexcept nogil
cdef void slab_reopen_page(Shard *sh, uint32_t page) noexcept nogil
cdef void slab_give_page(Shard *sh, uint32_t page) noexcept nogil

cdef inline void slab_touch(Shard *sh, handle_t h, uint64_t nbytes) noexcept nogil:
    """The first `nbytes` of a chunk have been written: the host has charged them. For small chunks it is counted already."""
    if page_of(sh.arena, h).nchunks <= LARGE_CHUNKS:
        slab_touch_large(sh, h, nbytes)
