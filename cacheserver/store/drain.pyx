# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""Emptying pages: see drain.pxd."""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from cacheserver.store.arena cimport CHUNK_BITS, PAGE_RUN, Page, item_at, page_of
from cacheserver.store.classes cimport coldest_class
from cacheserver.store.evict cimport evict_item, evict_one
from cacheserver.store.index cimport index_replace, index_slot
from cacheserver.store.item cimport (
    ACTIVE, LIVE, SEGMENT, SEGMENT_SHIFT, STATE, Item, handle_t, item_bytes, item_expired,
)
from cacheserver.store.link cimport hash_of
from cacheserver.store.lru cimport lru_link, lru_replace, lru_unlink
from cacheserver.store.platform cimport prefetch
from cacheserver.store.rebalance cimport NOBODY
from cacheserver.store.shard cimport COLD, WARM, Shard, SlabClass
from cacheserver.store.slab cimport slab_alloc, slab_close_page, slab_free, slab_owns, slab_reopen_page
from cacheserver.store.victim cimport may_empty, oldest_page, victim_page

cdef enum:
    AHEAD = 16               # items of a page whose buckets and neighbours are fetched before they are touched
    SLICE = 256              # chunks of a page looked at while its shard's lock is held, when there is no hurry


cdef bint in_use(Item *it) noexcept nogil:
    """Just stored, read more than once, or promoted: worth more than an item at the tail."""
    return it.bits & ACTIVE or (it.bits & SEGMENT) >> SEGMENT_SHIFT != COLD


cdef bint rescue_item(Shard *sh, uint32_t page, uint64_t hash, handle_t h, Item *it, bint displace) noexcept nogil:
    """Copy a live item of a closed page into a hole of another page of its class; `displace`: make one at the tail."""
    cdef uint32_t cls = page_of(sh.arena, h).cls
    cdef SlabClass *k = &sh.classes[cls]
    cdef handle_t moved = slab_alloc(sh, cls)
    cdef Item *copy
    cdef Page *p
    if moved == 0 and displace and evict_one(sh, cls, page):
        moved = slab_alloc(sh, cls)
    if moved == 0:
        return False
    copy = item_at(sh.arena, moved)
    memcpy(copy, it, item_bytes(it))
    index_replace(&sh.index, hash, h, moved)
    lru_replace(sh.arena, k, copy, moved)
    p = page_of(sh.arena, moved)
    if copy.exptime and copy.exptime < p.min_exp:
        p.min_exp = copy.exptime
    slab_free(sh, h)
    sh.rescued += 1
    return True


cdef void empty_page(Shard *sh, uint32_t page, uint32_t begin, uint32_t count, EmptyHow how) noexcept nogil:
    """Take what lives in `count` chunks of a closed page, from `begin` on, off that page.

    EMPTY_COLD removes what is not in use (a hole elsewhere saves it) and moves the rest out of the tail's way, so that
    EMPTY_RESCUE, which comes after it, finds colder items than these at the tail to put them in the place of.
    """
    cdef Page *p = &sh.arena.pages[page]
    cdef uint32_t chunk = begin, end = p.bump, stop, n, i
    cdef handle_t handles[AHEAD]
    cdef uint64_t hashes[AHEAD]
    cdef Item *it
    if end - begin > count:
        end = begin + count
    while chunk < end:
        n = 0
        stop = chunk + AHEAD if end - chunk > AHEAD else end
        while chunk < stop:
            it = item_at(sh.arena, page << CHUNK_BITS | chunk)
            if it.bits & STATE == LIVE and it.refs == 0:
                handles[n] = page << CHUNK_BITS | chunk
                hashes[n] = hash_of(sh, it)
                prefetch(&sh.index.buckets[index_slot(&sh.index, hashes[n])])
                prefetch(item_at(sh.arena, it.prev))
                prefetch(item_at(sh.arena, it.next))
                n += 1
            chunk += 1
        for i in range(n):
            take_off(sh, page, hashes[i], handles[i], how)


cdef void take_off(Shard *sh, uint32_t page, uint64_t hash, handle_t h, EmptyHow how) noexcept nogil:
    """One item of a page that is being emptied. An item that was read ahead may have been evicted meanwhile."""
    cdef Item *it = item_at(sh.arena, h)
    cdef SlabClass *k = &sh.classes[page_of(sh.arena, h).cls]
    if it.bits & STATE != LIVE:
        return
    if how != EMPTY_ALL and not item_expired(it, sh.now):
        if rescue_item(sh, page, hash, h, it, how == EMPTY_RESCUE):
            return
        if how == EMPTY_COLD and in_use(it):
            if (it.bits & SEGMENT) >> SEGMENT_SHIFT == COLD:
                lru_unlink(sh.arena, k, h, it)
                lru_link(sh.arena, k, h, it, WARM)
            return
    evict_item(sh, hash, h, it)


cdef bint evict_page(Shard *sh, uint32_t page) noexcept nogil:
    """Empty a page at once, without rescue; it ends in the arena's pool. A run's page: its item goes."""
    cdef Page *p = &sh.arena.pages[page]
    cdef Item *it
    cdef bint emptied
    if p.state == PAGE_RUN:
        it = item_at(sh.arena, page << CHUNK_BITS)
        evict_item(sh, hash_of(sh, it), page << CHUNK_BITS, it)
        return True
    slab_close_page(sh, page)
    empty_page(sh, page, 0, p.bump, EMPTY_ALL)
    emptied = p.used == 0
    slab_reopen_page(sh, page)
    return emptied


cdef bint evict_coldest(Shard *sh) noexcept nogil:
    """Empty the coldest page of the shard; False if there is none that may go."""
    cdef uint32_t cls, page = sh.draining
    if page:
        sh.draining = 0      # half empty already
        slab_reopen_page(sh, page)
        if slab_owns(sh, page) and may_empty(sh, page):
            return evict_page(sh, page)
    cls = coldest_class(sh, False)
    if cls == NOBODY:
        return False
    page = victim_page(sh, cls, False)
    if page == 0:
        page = oldest_page(sh, NOBODY)
    return page != 0 and evict_page(sh, page)


cdef bint drain_step(Shard *sh) noexcept nogil:
    """Work on emptying one page of the shard, survivors moving to other pages; False if there is nothing to empty.

    The shard's lock is held.
    """
    cdef uint32_t cls, page
    if sh.draining == 0:
        cls = coldest_class(sh, True)
        if cls == NOBODY:
            return False
        page = victim_page(sh, cls, True)
        if page == 0:
            return evict_coldest(sh)
        if sh.arena.pages[page].state == PAGE_RUN:
            return evict_page(sh, page)
        slab_close_page(sh, page)
        sh.draining = page
        sh.drained = 0
    drain_slice(sh, SLICE)
    return True


cdef void drain_slice(Shard *sh, uint32_t count) noexcept nogil:
    """Go on with the page that is being emptied, `count` chunks of it; when that is done with, `draining` is 0. The shard's
    lock is held."""
    cdef uint32_t page = sh.draining
    cdef Page *p = &sh.arena.pages[page]
    if sh.drained < p.bump:
        empty_page(sh, page, sh.drained, count, EMPTY_COLD)
        sh.drained = min(sh.drained + count, p.bump)
    else:
        empty_page(sh, page, sh.drained - p.bump, count, EMPTY_RESCUE)
        sh.drained += count
    if p.used == 0 or sh.drained >= 2 * p.bump:
        sh.draining = 0
        slab_reopen_page(sh, page)
