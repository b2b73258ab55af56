# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""Upkeep: see upkeep.pxd."""
from libc.stdint cimport int64_t, uint32_t

from cacheserver.store.arena cimport PAGE_SHIFT, PAGE_SIZE, arena_release_pool
from cacheserver.store.classes cimport classes_tick
from cacheserver.store.expiry cimport expire_some
from cacheserver.store.platform cimport atomic_get, monotonic_ns, pthread_mutex_lock, pthread_mutex_unlock
from cacheserver.store.release cimport release_index
from cacheserver.store.shard cimport Shard, StoreC
from cacheserver.store.slab cimport slab_reopen_page

cdef enum:
    IDLE_POOL = 4            # empty pages kept resident for the next write, and one in POOL_SHARE of all pages
    POOL_SHARE = 64
    INDEX_SPARE = 262144     # bytes behind the index's end worth a system call, when there is no hurry


cdef void tend_shard(StoreC *s, Shard *sh, uint32_t now) noexcept nogil:
    """Tell a quiet shard the time, and put in order what a cancelled soft shrink left behind."""
    pthread_mutex_lock(&sh.lock)
    if now > sh.now:
        sh.now = now
    classes_tick(sh)
    if sh.draining and sh.draining != sh.moving and atomic_get(&s.debt) <= 0:
        slab_reopen_page(sh, sh.draining)
        sh.draining = 0
    pthread_mutex_unlock(&sh.lock)


cdef void upkeep_slice(StoreC *s, uint32_t now, int64_t budget_ns) noexcept nogil:
    """Housekeeping without any ask: expiry, surplus empty pages, the index's size. One thread at a time calls this."""
    cdef int64_t end = monotonic_ns() + budget_ns
    cdef uint32_t i, keep
    s.upkeeps += 1
    expire_some(s, now, end)
    keep = IDLE_POOL + <uint32_t>((atomic_get(&s.arena.committed) >> PAGE_SHIFT) // POOL_SHARE)
    if s.arena.npool > keep:
        arena_release_pool(&s.arena, 4 * PAGE_SIZE, keep)
    for i in range(s.nshards):
        tend_shard(s, &s.shards[i], now)
        release_index(s, &s.shards[i], INDEX_SPARE, end)
