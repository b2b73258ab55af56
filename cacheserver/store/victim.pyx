# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""Choosing a page: see victim.pxd."""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.arena cimport CHUNK_BITS, PAGE_DRAINING, Arena, Page, item_at
from cacheserver.store.classes cimport coldest_item, spare_pages
from cacheserver.store.item cimport LIVE, STATE, Item, handle_t
from cacheserver.store.lru cimport lru_spared
from cacheserver.store.rebalance cimport NOBODY
from cacheserver.store.shard cimport Shard, SlabClass
from cacheserver.store.slab cimport slab_owns

cdef enum:
    WALK = 48                # items of a tail looked at for one that may go
    SAMPLE = 128             # pages compared when the one at the tail will not do
    PROBES = 8               # chunks looked at to know how warm a page is


cdef bint may_empty(Shard *sh, uint32_t page) noexcept nogil:
    cdef Page *p = &sh.arena.pages[page]
    return p.pins == 0 and p.state != PAGE_DRAINING


cdef uint64_t page_heat(Shard *sh, uint32_t page) noexcept nogil:
    """How much it would hurt to lose a page, from a few of its chunks: items that were read first, then the latest use.

    A page is not as cold as its coldest item: chunks that eviction frees one by one are filled again at once, so the
    page at the tail may hold the newest items, too.
    """
    cdef Page *p = &sh.arena.pages[page]
    cdef uint32_t chunk = 0, step = p.bump // PROBES + 1
    cdef uint64_t warm = 0, latest = 0
    cdef Item *it
    while chunk < p.bump:
        it = item_at(sh.arena, page << CHUNK_BITS | chunk)
        if it.bits & STATE == LIVE:
            warm += lru_spared(sh, it)
            if it.atime > latest:
                latest = it.atime
        chunk += step
    return warm << 32 | latest


cdef uint32_t oldest_page(Shard *sh, uint32_t cls) noexcept nogil:
    """A page of the class (NOBODY: of any) that may be emptied, the coldest of a sample, found by the page table alone."""
    cdef Arena *a = sh.arena
    cdef uint32_t best = 0, seen = 0, i, page, start = sh.turn
    cdef uint64_t heat, least = 0
    for i in range(1, a.high):
        page = 1 + (start + i) % (a.high - 1)
        if not slab_owns(sh, page) or not may_empty(sh, page) or a.pages[page].used == 0:
            continue
        if cls != NOBODY and a.pages[page].cls != cls:
            continue
        heat = page_heat(sh, page)
        if best == 0 or heat < least:
            best = page
            least = heat
        seen += 1
        if seen == SAMPLE:
            sh.turn = page
            break
    return best


cdef uint32_t victim_page(Shard *sh, uint32_t cls, bint sparse) noexcept nogil:
    """The page of a class that costs least to empty: the coldest, or (`sparse`) the one with fewest items if there are
    holes for them. Without holes a sparse page is no bargain: the newest items lie on one."""
    cdef SlabClass *k = &sh.classes[cls]
    cdef uint32_t page, best = 0, used = 0xffffffff, seen = 0
    cdef handle_t h = coldest_item(sh, cls)
    if sparse and k.nchunks > 1 and spare_pages(k) >= 1:
        page = k.open
        while page and seen < WALK * 4:
            if sh.arena.pages[page].used < used and may_empty(sh, page):
                used = sh.arena.pages[page].used
                best = page
            page = sh.arena.pages[page].next
            seen += 1
        if best:
            return best
    if h and may_empty(sh, h >> CHUNK_BITS) and page_heat(sh, h >> CHUNK_BITS) >> 32 == 0:
        return h >> CHUNK_BITS
    return oldest_page(sh, cls)
