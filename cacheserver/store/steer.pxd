# cython: language_level=3
"""Eviction follows what is learnt.

Shard 0 tells the learner of its reads and writes. Keys are dealt to the shards by hash, so its share is a fair sample,
and what it learns holds for all of them. There is no learner before something is evicted.
Knows: shards, the learner. Must not know: how it learns, how eviction works. Memory: shard 0 owns the learner; the arena
counts it as committed. Threads: the shard's lock is held, but for steer_wanted(), which takes that of shard 0; others are
only tried.
"""
from libc.stdint cimport int32_t, uint64_t

from cacheserver.store.learn cimport learn_samples
from cacheserver.store.shard cimport Shard, StoreC

cdef enum:
    UNDECIDED = -1           # nothing has been learnt yet

cdef void steer_begin(Shard *sh) noexcept nogil
cdef int32_t steer_wanted(StoreC *s) noexcept nogil
cdef void steer_follow(Shard *sh, int32_t candidate) noexcept nogil
cdef void steer_hear_read(Shard *sh, uint64_t hash, bint found) noexcept nogil
cdef void steer_hear_store(Shard *sh, uint64_t hash) noexcept nogil
cdef void steer_hear_delete(Shard *sh, uint64_t hash) noexcept nogil

cdef inline void steer_read(Shard *sh, uint64_t hash, bint found) noexcept nogil:
    """A key was read, and `found` or not."""
    if sh.learner != NULL and learn_samples(sh.learner, hash):
        steer_hear_read(sh, hash, found)

cdef inline void steer_store(Shard *sh, uint64_t hash) noexcept nogil:
    if sh.learner != NULL and learn_samples(sh.learner, hash):
        steer_hear_store(sh, hash)

cdef inline void steer_delete(Shard *sh, uint64_t hash) noexcept nogil:
    if sh.learner != NULL and learn_samples(sh.learner, hash):
        steer_hear_delete(sh, hash)
