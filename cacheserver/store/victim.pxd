# cython: language_level=3
"""Which class, page or item of a shard goes next, by how cold it is.

Knows: segments, pages and their holes. Must not know: how anything is taken out, why memory is wanted.
Memory: nothing is allocated or changed. Threads: the shard's lock is held in every function.
"""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.item cimport handle_t
from cacheserver.store.shard cimport Shard, SlabClass

cdef uint32_t tail_age(Shard *sh, uint32_t cls) noexcept nogil
cdef uint32_t spare_pages(SlabClass *k) noexcept nogil
cdef uint32_t coldest_class(Shard *sh, bint sparse) noexcept nogil
cdef bint may_empty(Shard *sh, uint32_t page) noexcept nogil
cdef uint32_t oldest_page(Shard *sh, uint32_t cls) noexcept nogil
cdef uint32_t victim_page(Shard *sh, uint32_t cls, bint sparse) noexcept nogil
