# cython: language_level=3
"""The slab classes of a shard compared: what each is worth, how cold it is, which one gives memory next.

Knows: segments, page counts, what the classes have lost and hit lately. Must not know: which page goes, why memory is wanted.
Memory: nothing is allocated. Threads: the shard's lock is held in every function.
"""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.item cimport handle_t
from cacheserver.store.rebalance cimport ClassView
from cacheserver.store.shard cimport Shard, SlabClass

cdef handle_t coldest_item(Shard *sh, uint32_t cls) noexcept nogil
cdef uint32_t tail_age(Shard *sh, uint32_t cls) noexcept nogil
cdef uint32_t spare_pages(SlabClass *k) noexcept nogil
cdef void classes_count(Shard *sh) noexcept nogil
cdef void classes_view(Shard *sh, ClassView *views) noexcept nogil
cdef void classes_lost(Shard *sh, uint32_t cls, bint read) noexcept nogil
cdef void classes_tick(Shard *sh) noexcept nogil
cdef uint64_t classes_least(Shard *sh) noexcept nogil
cdef uint32_t coldest_class(Shard *sh, bint sparse) noexcept nogil
