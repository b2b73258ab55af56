# cython: language_level=3
"""What the index does with memory beside growing: what it needs no more goes back to the host, a piece at a time, and
buckets that are in use as a whole come to lie in huge pages.

Knows: the index's reservations, the arena's counts. Must not know: what is in a bucket. Owns no memory.
Threads: the shard's lock is held where a function says so. Who calls index_release() or index_join(), which are system
calls, holds no lock, has set `releasing` under it, and clears it afterwards under it.
"""
from libc.stdint cimport int64_t

from cacheserver.store.arena cimport Arena
from cacheserver.store.index cimport Bucket, Index

cdef int64_t index_spare(Index *ix) noexcept nogil
cdef int64_t index_release(Index *ix, Arena *a) noexcept nogil
cdef bint index_overflow_idle(Index *ix, int64_t least) noexcept nogil
cdef Bucket *index_retire_overflow(Index *ix, Bucket *fresh) noexcept nogil
cdef bint index_may_join(Index *ix) noexcept nogil
cdef bint index_join(Index *ix) noexcept nogil
