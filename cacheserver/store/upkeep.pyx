# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""Upkeep: see upkeep.pxd."""
from libc.stdint cimport int32_t, int64_t, uint32_t

from cacheserver.store.arena cimport PAGE_SHIFT, PAGE_SIZE, arena_release_pool
from cacheserver.store.expiry cimport expire_some
from cacheserver.store.platform cimport atomic_get, monotonic_ns, pthread_mutex_lock, pthread_mutex_unlock
from cacheserver.store.release cimport release_index
from cacheserver.store.shard cimport Shard, StoreC
from cacheserver.store.slab cimport slab_reopen_page
from cacheserver.store.steer cimport steer_follow, steer_wanted

cdef enum:
    IDLE_POOL = 4            # empty pages kept resident for the next write, and one in POOL_SHARE of all pages
    POOL_SHARE = 64
    INDEX_SPARE = 262144     # bytes behind the index's end worth a system call, when there is no hurry


cdef void tend_shard(StoreC *s, Shard *sh, uint32_t now, int32_t candidate) noexcept nogil:
    """Tell a quiet shard the time, have it follow what is learnt, and put in order what a cancelled soft shrink left behind."""
    pthread_mutex_lock(&sh.lock)
    if now > sh.now:
        sh.now = now
    steer_follow(sh, candidate)
    if sh.draining and atomic_get(&s.debt) <= 0:
        slab_reopen_page(sh, sh.draining)
        sh.draining = 0
    pthread_mutex_unlock(&sh.lock)


cdef void upkeep_slice(StoreC *s, uint32_t now, int64_t budget_ns) noexcept nogil:
    """Housekeeping without any ask: expiry, surplus empty pages, the index's size. One thread at a time calls this."""
    cdef int64_t end = monotonic_ns() + budget_ns
    cdef uint32_t i, keep
    cdef int32_t candidate = steer_wanted(s)
    s.upkeeps += 1
    expire_some(s, now, end)
    keep = IDLE_POOL + <uint32_t>((atomic_get(&s.arena.committed) >> PAGE_SHIFT) // POOL_SHARE)
    if s.arena.npool > keep:
        arena_release_pool(&s.arena, 4 * PAGE_SIZE, keep)
    for i in range(s.nshards):
        tend_shard(s, &s.shards[i], now, candidate)
    for i in range(s.nshards):           # each begins in its turn, as the time may not do for all
        release_index(s, &s.shards[(i + s.upkeeps) & (s.nshards - 1)], INDEX_SPARE, end)
        if monotonic_ns() >= end:
            break
