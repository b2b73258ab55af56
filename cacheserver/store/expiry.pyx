# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Expiry: see expiry.pxd.

A round goes over the page table once a second and works on the pages where something is due. What a page holds is not
looked at but for the items whose deadlines have come, so a round costs a look at each page's entry, a few cache lines of
deadlines for each page with something due, and the removal itself.
"""
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from cacheserver.store.arena cimport CHUNK_BITS, PAGE_DRAINING, PAGE_RUN, Page, item_at
from cacheserver.store.deadlines cimport NEVER, note_deadline, take_due
from cacheserver.store.item cimport FETCHED, HEADER, LIVE, STATE, Item, handle_t, item_expired, item_key
from cacheserver.store.link cimport fetch_links, hash_of, remove_item
from cacheserver.store.platform cimport monotonic_ns, prefetch, pthread_mutex_lock, pthread_mutex_unlock
from cacheserver.store.shard cimport Shard, SlabClass, StoreC
from cacheserver.store.slab cimport slab_owns

cdef enum:
    AHEAD = 16               # items whose memory is fetched before it is needed
    QUIET = 1024             # pages passed over between two looks at the clock


cdef void remove_expired(Shard *sh, uint64_t hash, handle_t h, Item *it) noexcept nogil:
    cdef SlabClass *k = &sh.classes[sh.arena.pages[h >> CHUNK_BITS].cls]
    k.crawler_reclaimed += 1
    k.expired_unfetched += not it.bits & FETCHED
    remove_item(sh, hash, h, it)


cdef uint32_t expire_run(Shard *sh, uint32_t page) noexcept nogil:
    cdef Page *p = &sh.arena.pages[page]
    cdef handle_t h = page << CHUNK_BITS
    cdef Item *it = item_at(sh.arena, h)
    p.min_exp = NEVER
    if it.bits & STATE != LIVE or it.exptime == 0:
        return 0
    if not item_expired(it, sh.now):
        p.min_exp = it.exptime
        return 0
    remove_expired(sh, hash_of(sh, it), h, it)
    return 1


cdef void fetch_items(Shard *sh, uint32_t page, const uint16_t *chunks, uint32_t n) noexcept nogil:
    cdef uint32_t i
    cdef Item *it
    for i in range(n if n < AHEAD else AHEAD):
        it = item_at(sh.arena, page << CHUNK_BITS | chunks[i])
        prefetch(it)
        prefetch(item_key(it) + HEADER)      # a header and a key of usual length lie in two lines


cdef uint32_t sort_out(Shard *sh, uint32_t page, const uint16_t *chunks, uint32_t n, handle_t *handles,
                       uint64_t *hashes) noexcept nogil:
    """Keep the chunks whose items have expired, and fetch what their removal will touch; returns how many.

    A live item with a time to come has its deadline noted anew; a chunk without one has none any more.
    """
    cdef uint32_t i, kept = 0
    cdef handle_t h
    cdef Item *it
    for i in range(n):
        h = page << CHUNK_BITS | chunks[i]
        it = item_at(sh.arena, h)
        if it.bits & STATE != LIVE or it.exptime == 0:
            continue
        if not item_expired(it, sh.now):
            note_deadline(sh.arena, h, it.exptime, sh.now)
            continue
        handles[kept] = h
        hashes[kept] = hash_of(sh, it)
        fetch_links(sh, hashes[kept], it)
        kept += 1
    return kept


cdef uint32_t expire_page(Shard *sh, uint32_t page) noexcept nogil:
    """Remove up to EXPIRE_MOST items of a page whose time has come; returns how many. Lock held; not for a draining page.

    Where the last item of a page goes, so does the page.
    """
    cdef uint16_t chunks[EXPIRE_MOST]
    cdef handle_t handles[AHEAD]
    cdef uint64_t hashes[AHEAD]
    cdef Page *p = &sh.arena.pages[page]
    cdef uint32_t n, kept, i, at = 0, removed = 0
    cdef bint last
    if p.state == PAGE_RUN:
        return expire_run(sh, page)
    n = take_due(sh.arena, page, sh.now, chunks, EXPIRE_MOST)
    sh.classes[p.cls].crawler_items_checked += n
    fetch_items(sh, page, chunks, n)
    while at < n:
        kept = sort_out(sh, page, chunks + at, n - at if n - at < AHEAD else AHEAD, handles, hashes)
        at += AHEAD
        if at < n:
            fetch_items(sh, page, chunks + at, n - at)
        for i in range(kept):
            last = p.used == 1 and item_at(sh.arena, handles[i]).refs == 0
            remove_expired(sh, hashes[i], handles[i], item_at(sh.arena, handles[i]))
            removed += 1
            if last:
                return removed       # the page is in the pool now, or another shard's already
    return removed


cdef bint expire_more(Shard *sh, uint32_t page, uint32_t now) noexcept nogil:
    """Work on a page for a bounded time; True if more of it is due."""
    cdef Page *p = &sh.arena.pages[page]
    cdef bint more = False
    pthread_mutex_lock(&sh.lock)
    if slab_owns(sh, page) and p.state != PAGE_DRAINING and p.min_exp <= now:
        if sh.now < now:
            sh.now = now
        expire_page(sh, page)
        more = slab_owns(sh, page) and p.min_exp <= now
    pthread_mutex_unlock(&sh.lock)
    return more


cdef bint expire_some(StoreC *s, uint32_t now, int64_t end) noexcept nogil:
    """Go on with the second's round until it or the time is over; True if the round is not."""
    cdef uint32_t page, quiet = 0
    cdef Page *p
    if s.crawl == 0:
        if s.crawled == now:
            return False
        s.crawled = now
        s.crawls += 1
        s.crawl = 1
    while s.crawl < s.arena.high:
        page = s.crawl
        p = &s.arena.pages[page]
        quiet += 1
        if p.min_exp <= now and p.shard < s.nshards:
            quiet = QUIET
            if expire_more(&s.shards[p.shard], page, now):
                if monotonic_ns() >= end:
                    return True
                continue
        s.crawl = page + 1
        if quiet >= QUIET:
            quiet = 0
            if monotonic_ns() >= end:
                return True
    s.crawl = 0
    return False
