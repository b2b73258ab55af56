# cython: language_level=3
"""Which page of a class goes next, by how cold it is.

Knows: segments, pages and their holes. Must not know: how anything is taken out, why memory is wanted.
Memory: nothing is allocated or changed. Threads: the shard's lock is held in every function.
"""
from libc.stdint cimport uint32_t

from cacheserver.store.shard cimport Shard

cdef bint may_empty(Shard *sh, uint32_t page) noexcept nogil
cdef uint32_t oldest_page(Shard *sh, uint32_t cls) noexcept nogil
cdef uint32_t victim_page(Shard *sh, uint32_t cls, bint sparse) noexcept nogil
