# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Rescue: see rescue.pxd."""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from cacheserver.store.arena cimport CHUNK_BITS, PAGE_RUN, PAGE_SHIFT, Page, item_at
from cacheserver.store.classes cimport spare_pages
from cacheserver.store.drain cimport drain_begin, drain_slice, evict_coldest, evict_page
from cacheserver.store.item cimport LIVE, STATE, Item, handle_t
from cacheserver.store.platform cimport atomic_get, prefetch
from cacheserver.store.rebalance cimport NOBODY
from cacheserver.store.shard cimport DRAIN_RESCUE, SAMPLE, Rescue, Shard, StoreC
from cacheserver.store.victim cimport COLDEST, EXPIRED, cheapest_page, coldness, draw, pages_at_random

cdef enum:
    DRAWS = 64               # items looked at in one go
    PATIENCE = 8             # searches in vain before a page goes whole
    RENEWALS = 16            # samples in the time in which all pages of a shard go


cdef void sort_down(uint32_t *values, uint32_t n) noexcept nogil:
    """D. L. Shell's sort (1959): in place, no recursion, and quick enough for a few hundred."""
    cdef uint32_t gap = n // 2, i, j, v
    while gap:
        for i in range(gap, n):
            v = values[i]
            j = i
            while j >= gap and values[j - gap] < v:
                values[j] = values[j - gap]
                j -= gap
            values[j] = v
        gap //= 2


cdef uint32_t bound_of(StoreC *s, Rescue *r) noexcept nogil:
    """How cold an item must be at least to belong to the part of the sample that the debt is of all pages."""
    cdef uint64_t pages = 0, rank
    cdef uint32_t i
    for i in range(s.nshards):
        pages += s.shards[i].pages       # without their locks: an estimate will do
    if pages == 0 or r.sampled == 0:
        return 0
    sort_down(r.sample, r.sampled)
    rank = <uint64_t>atomic_get(&s.debt) * r.sampled // (pages << PAGE_SHIFT)
    if rank >= r.sampled:
        return 0
    return r.sample[rank] if r.sample[rank] < EXPIRED else EXPIRED


cdef void note(Shard *sh, handle_t h) noexcept nogil:
    """Add what is in a chunk to the sample; the item of a run as often as it has pages."""
    cdef Rescue *r = &sh.rescue
    cdef Page *p = &sh.arena.pages[h >> CHUNK_BITS]
    cdef Item *it = item_at(sh.arena, h)
    cdef uint32_t i, cold
    if h & ((1 << CHUNK_BITS) - 1) >= p.bump or it.bits & STATE != LIVE:
        if spare_pages(&sh.classes[p.cls]) == 0:
            return           # holes that are too few to put a page's items in give nothing back
        cold = COLDEST
    else:
        cold = coldness(it, sh.now)
    for i in range(p.run if p.state == PAGE_RUN else 1):
        if r.sampled < SAMPLE:
            r.sample[r.sampled] = cold
            r.sampled += 1


cdef void take_sample(StoreC *s, Shard *sh) noexcept nogil:
    """Look at some more items; when they are enough, find the bound."""
    cdef Rescue *r = &sh.rescue
    cdef uint32_t pages[DRAWS]
    cdef handle_t handles[DRAWS]
    cdef uint32_t n = pages_at_random(sh, NOBODY, pages, DRAWS), i, before = r.sampled
    for i in range(n):
        handles[i] = pages[i] << CHUNK_BITS | draw(sh, sh.arena.pages[pages[i]].nchunks)
        prefetch(item_at(sh.arena, handles[i]))
    for i in range(n):
        note(sh, handles[i])
    if r.sampled < SAMPLE and r.sampled - before >= DRAWS // 4:
        return
    r.bound = bound_of(s, r)
    r.sampled = r.emptied = 0
    r.ask = atomic_get(&s.asks)
    memset(r.dry, 0, sizeof(r.dry))


cdef bint stale(StoreC *s, Shard *sh) noexcept nogil:
    """Whether the bound is that of another time: more is owed now, or much has gone."""
    return (sh.rescue.sampled != 0 or sh.rescue.ask != atomic_get(&s.asks)
            or sh.rescue.emptied > 1 + sh.pages // RENEWALS)


cdef bint in_vain(Shard *sh) noexcept nogil:
    """No page could be emptied with this bound: find another, or in the end take the coldest page as it is."""
    cdef Rescue *r = &sh.rescue
    r.misses += 1
    r.ask = -1
    if r.misses < PATIENCE:
        return True
    r.misses = 0
    return evict_coldest(sh)


cdef bint go_on(Shard *sh) noexcept nogil:
    """A slice of emptying a page, and what is learned when that is done with."""
    cdef Rescue *r = &sh.rescue
    cdef uint32_t cls = sh.arena.pages[sh.draining].cls
    cdef uint64_t before = sh.pages
    drain_slice(sh)
    if sh.draining:
        return True
    if sh.pages < before:
        r.emptied += 1
        r.misses = 0
        return True
    r.dry[cls >> 6] |= <uint64_t>1 << (cls & 63)
    r.misses += 1
    return r.misses < PATIENCE or in_vain(sh)


cdef bint rescue_step(StoreC *s, Shard *sh) noexcept nogil:
    """A slice of the work of giving up a page of the shard with as little loss as can be; False if it has none to give."""
    cdef uint32_t page
    if sh.draining:
        return go_on(sh)
    if sh.pages == 0:
        return False
    if stale(s, sh):
        take_sample(s, sh)
        return True
    page = cheapest_page(sh, sh.rescue.bound, sh.rescue.dry)
    if page == 0:
        return in_vain(sh)
    if sh.arena.pages[page].state == PAGE_RUN:
        sh.rescue.emptied += 1
        sh.rescue.misses = 0
        return evict_page(sh, page)
    drain_begin(sh, page, DRAIN_RESCUE)
    return True
