# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Steering eviction: see steer.pxd."""
from libc.stdint cimport int32_t, uint32_t, uint64_t

from cacheserver.store.arena cimport arena_force
from cacheserver.store.learn cimport (
    learn_bytes,
    learn_choice,
    learn_delete,
    learn_manner,
    learn_open,
    learn_read,
    learn_resize,
    learn_store,
)
from cacheserver.store.platform cimport (
    atomic_add,
    pthread_mutex_lock,
    pthread_mutex_trylock,
    pthread_mutex_unlock,
)
from cacheserver.store.shard cimport Shard, StoreC


cdef void steer_follow(Shard *sh, int32_t candidate) noexcept nogil:
    """Evict by a candidate from now on, unless the shard was told how."""
    if candidate != UNDECIDED and sh.learning:
        sh.manner = learn_manner(candidate)


cdef void spread(Shard *sh) noexcept nogil:
    """Let all shards follow shard 0, which is `sh`; one that is busy does at the next upkeep."""
    cdef uint32_t i
    steer_follow(sh, learn_choice(sh.learner))
    for i in range(1, sh.nshards):
        if pthread_mutex_trylock(&sh.all[i].lock) == 0:
            steer_follow(&sh.all[i], learn_choice(sh.learner))
            pthread_mutex_unlock(&sh.all[i].lock)


cdef void steer_begin(Shard *sh) noexcept nogil:
    """Shard 0 evicts for a write: it begins to matter how. Without memory for a learner it stays as it was."""
    sh.learner = learn_open(sh.index.items)
    if sh.learner == NULL:
        return
    arena_force(sh.arena, learn_bytes())
    atomic_add(&sh.arena.untouched, -learn_bytes())
    spread(sh)


cdef int32_t steer_wanted(StoreC *s) noexcept nogil:
    """The candidate that the shards are to follow."""
    cdef Shard *sh = &s.shards[0]
    cdef int32_t candidate = UNDECIDED
    pthread_mutex_lock(&sh.lock)
    if sh.learner != NULL:
        candidate = learn_choice(sh.learner)
    pthread_mutex_unlock(&sh.lock)
    return candidate


cdef void steer_hear_read(Shard *sh, uint64_t hash, bint found) noexcept nogil:
    if learn_read(sh.learner, hash, found):
        spread(sh)


cdef void steer_hear_store(Shard *sh, uint64_t hash) noexcept nogil:
    learn_resize(sh.learner, sh.index.items)
    learn_store(sh.learner, hash)


cdef void steer_hear_delete(Shard *sh, uint64_t hash) noexcept nogil:
    learn_delete(sh.learner, hash)
