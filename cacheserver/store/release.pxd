# cython: language_level=3
"""Giving memory back to the host because somebody asks: hard at once, soft as a debt that is paid in slices.

Knows: all shards and the arena. Must not know: who asks, keys, the protocol. Owns no memory.
Threads: any thread. Locks are taken one at a time; none is held while the host takes pages back. A large hard release
starts up to three threads more and joins them before it returns.
"""
from libc.stdint cimport int64_t

from cacheserver.store.platform cimport pthread_mutex_t
from cacheserver.store.shard cimport Shard, StoreC

cdef int64_t release_hard(StoreC *s, int64_t target) noexcept nogil
cdef int64_t release_soft(StoreC *s, int64_t target) noexcept nogil
cdef int64_t release_pay(StoreC *s, int64_t budget_ns) noexcept nogil
cdef void unlock_kindly(pthread_mutex_t *lock) noexcept nogil
cdef int64_t release_index(StoreC *s, Shard *sh, int64_t least, int64_t end) noexcept nogil
