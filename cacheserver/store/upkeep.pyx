# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Upkeep: see upkeep.pxd."""
from libc.stdint cimport int32_t, int64_t, uint32_t

from cacheserver.store.arena cimport PAGE_SHIFT, PAGE_SIZE, arena_release_pool
from cacheserver.store.classes cimport classes_tick
from cacheserver.store.compact cimport compact_look, compact_step
from cacheserver.store.drain cimport drain_end
from cacheserver.store.expiry cimport expire_some
from cacheserver.store.index cimport index_sparse
from cacheserver.store.index_memory cimport index_join, index_may_join
from cacheserver.store.platform cimport atomic_get, monotonic_ns, pthread_mutex_lock, pthread_mutex_unlock
from cacheserver.store.release cimport release_index, unlock_kindly
from cacheserver.store.shard cimport DRAIN_RESCUE, Shard, StoreC
from cacheserver.store.steer cimport steer_follow, steer_wanted

cdef enum:
    IDLE_POOL = 4            # empty pages kept resident for the next write, and one in POOL_SHARE of all pages
    POOL_SHARE = 64
    INDEX_SPARE = 262144     # bytes behind the index's end worth a system call, when there is no hurry
    JOIN_AGAIN = 64          # upkeeps until a system that refused a huge page is asked again; a power of two


cdef void tend_shard(StoreC *s, Shard *sh, uint32_t now, int32_t candidate) noexcept nogil:
    """Tell a quiet shard the time and what is learnt, put in order what a cancelled soft shrink left behind, and look for idle holes."""
    pthread_mutex_lock(&sh.lock)
    if now > sh.now:
        sh.now = now
    classes_tick(sh)
    steer_follow(sh, candidate)
    if sh.draining and sh.how == DRAIN_RESCUE and atomic_get(&s.debt) <= 0:
        drain_end(sh)
    compact_look(sh, now)
    pthread_mutex_unlock(&sh.lock)


cdef bint release_surplus(StoreC *s, int64_t end) noexcept nogil:
    """Give empty pages back but for a few, until the clock shows `end`; True if there are more."""
    cdef uint32_t keep = IDLE_POOL + <uint32_t>((atomic_get(&s.arena.committed) >> PAGE_SHIFT) // POOL_SHARE)
    while s.arena.npool > keep:
        arena_release_pool(&s.arena, PAGE_SIZE, keep)
        if monotonic_ns() >= end:
            return s.arena.npool > keep
    return False


cdef void join_index(StoreC *s, Shard *sh) noexcept nogil:
    """Put 2 MiB of a large index in a huge page."""
    cdef bint mine, joined
    pthread_mutex_lock(&sh.lock)
    mine = index_may_join(&sh.index)
    if mine:
        sh.index.releasing = True
    pthread_mutex_unlock(&sh.lock)
    if not mine:
        return
    joined = index_join(&sh.index)
    pthread_mutex_lock(&sh.lock)
    sh.index.releasing = False
    pthread_mutex_unlock(&sh.lock)
    s.join_from = 0 if joined else s.upkeeps + JOIN_AGAIN


cdef bint compact(StoreC *s, int64_t end) noexcept nogil:
    """Put holes together until the clock shows `end`; True if there are more. A page at a time, shard after shard."""
    cdef uint32_t idle = 0
    cdef Shard *sh
    while idle < s.nshards and atomic_get(&s.debt) <= 0:     # who pays a debt looks for holes first
        sh = &s.shards[s.upkeep_turn & (s.nshards - 1)]
        pthread_mutex_lock(&sh.lock)
        idle = 0 if compact_step(sh) else idle + 1
        if idle or sh.draining == 0:
            s.upkeep_turn += 1
        unlock_kindly(&sh.lock)
        if monotonic_ns() >= end:
            return idle < s.nshards
        release_surplus(s, end)
    return False


cdef bint upkeep_slice(StoreC *s, uint32_t now, int64_t budget_ns) noexcept nogil:
    """Housekeeping without any ask; True if there is more to do than fitted into the budget. One thread at a time."""
    cdef int64_t end = monotonic_ns() + budget_ns
    cdef uint32_t i
    cdef bint more
    cdef int32_t candidate = steer_wanted(s)
    cdef Shard *sh
    s.upkeeps += 1
    more = expire_some(s, now, end)
    for i in range(s.nshards):
        tend_shard(s, &s.shards[i], now, candidate)
    for i in range(s.nshards):           # each begins in its turn, as the time may not do for all
        sh = &s.shards[(i + s.upkeeps) & (s.nshards - 1)]
        release_index(s, sh, INDEX_SPARE, end)
        if s.upkeeps >= s.join_from:
            join_index(s, sh)
        more |= index_sparse(&sh.index)
        if monotonic_ns() >= end:
            break
    more |= compact(s, end)
    more |= release_surplus(s, end)
    return more
