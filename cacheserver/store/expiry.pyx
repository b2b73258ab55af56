# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""Expiry: see expiry.pxd."""
from libc.stdint cimport int64_t, uint32_t

from cacheserver.store.arena cimport CHUNK_BITS, PAGE_DRAINING, Page, item_at
from cacheserver.store.item cimport FETCHED, LIVE, STATE, Item, handle_t, item_expired
from cacheserver.store.link cimport hash_of, remove_item
from cacheserver.store.platform cimport monotonic_ns, pthread_mutex_lock, pthread_mutex_unlock
from cacheserver.store.shard cimport Shard, SlabClass, StoreC
from cacheserver.store.slab cimport slab_owns


cdef void expire_page(StoreC *s, Shard *sh, uint32_t page) noexcept nogil:
    """Remove what has expired on a page and find out when the next item will. Shard's lock held."""
    cdef Page *p = &s.arena.pages[page]
    cdef uint32_t chunk, next_exp = 0xffffffff
    cdef handle_t h
    cdef Item *it
    cdef SlabClass *k = &sh.classes[p.cls]
    cdef bint last
    for chunk in range(p.bump):
        h = page << CHUNK_BITS | chunk
        it = item_at(&s.arena, h)
        if it.bits & STATE != LIVE or it.exptime == 0:
            continue
        if item_expired(it, sh.now):
            last = p.used == 1
            k.crawler_reclaimed += 1
            k.expired_unfetched += not it.bits & FETCHED
            remove_item(sh, hash_of(sh, it), h, it)
            if last:
                return       # the page is in the pool now, or somebody else's already
        elif it.exptime < next_exp:
            next_exp = it.exptime
    k.crawler_items_checked += p.bump
    p.min_exp = next_exp


cdef void expire_some(StoreC *s, uint32_t now, int64_t end) noexcept nogil:
    """Go round the pages and free what has expired without waiting for anyone to read it."""
    cdef uint32_t seen = 0, page, high = s.arena.high
    cdef Page *p
    cdef Shard *sh
    while seen < high:
        seen += 1
        s.crawl = s.crawl + 1 if s.crawl + 1 < high else 1
        s.crawls += s.crawl == 1
        page = s.crawl
        p = &s.arena.pages[page]
        if p.min_exp > now or p.shard >= s.nshards:
            continue
        sh = &s.shards[p.shard]
        pthread_mutex_lock(&sh.lock)
        if slab_owns(sh, page) and p.state != PAGE_DRAINING and p.min_exp <= now:
            if sh.now < now:
                sh.now = now
            expire_page(s, sh, page)
        pthread_mutex_unlock(&sh.lock)
        if monotonic_ns() >= end:
            return
