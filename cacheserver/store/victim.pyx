# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Choosing a page: see victim.pxd.

A page is judged by a few of its chunks, and compared with a few others, drawn at random: whoever frees a share of the
memory asks often, and the best of many small samples is nearly the best of all.
"""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.arena cimport CHUNK_BITS, PAGE_DRAINING, PAGE_RUN, Page, item_at
from cacheserver.store.classes cimport coldest_item, spare_pages
from cacheserver.store.item cimport LIVE, STATE, Item, handle_t, item_expired
from cacheserver.store.platform cimport prefetch
from cacheserver.store.rebalance cimport NOBODY
from cacheserver.store.shard cimport Shard, SlabClass
from cacheserver.store.slab cimport slab_owns

cdef enum:
    PAGES = 32               # pages compared where an item moved costs more than a look,
    FEW = 16                 # and where all goes
    PROBES = 8               # chunks looked at of each
    TRIES = 512              # draws for pages that will do
    OPEN_PAGES = 192         # pages with holes looked at
    WHOLE = 1024             # cost of moving a full page
    RATE = 1048576           # of an item read once a second


cdef bint may_empty(Shard *sh, uint32_t page) noexcept nogil:
    cdef Page *p = &sh.arena.pages[page]
    return p.pins == 0 and p.state != PAGE_DRAINING


cdef bint will_do(Shard *sh, uint32_t cls, uint32_t page) noexcept nogil:
    return (slab_owns(sh, page) and (cls == NOBODY or sh.arena.pages[page].cls == cls) and may_empty(sh, page)
            and sh.arena.pages[page].used != 0)


cdef uint32_t pages_at_random(Shard *sh, uint32_t cls, uint32_t *out, uint32_t most) noexcept nogil:
    """Up to `most` pages of a class (NOBODY: of any) that may be emptied, drawn with repetition; 0 if there are none."""
    cdef uint32_t count = sh.arena.high - 1, n = 0, i, page, start
    for i in range(TRIES):
        page = 1 + draw(sh, count)
        if will_do(sh, cls, page):
            out[n] = page
            n += 1
            if n == most:
                return n
    if n == 0:
        start = draw(sh, count)
        for i in range(count):
            page = 1 + (start + i) % count
            if will_do(sh, cls, page):
                out[0] = page
                return 1
    return n


cdef inline Item *probe(Shard *sh, uint32_t page, uint32_t i, uint32_t offset) noexcept nogil:
    """One of PROBES chunks spread over a page; NULL where it was never handed out."""
    cdef Page *p = &sh.arena.pages[page]
    cdef uint32_t chunk = (i * p.nchunks + offset % p.nchunks) // PROBES
    return item_at(sh.arena, page << CHUNK_BITS | chunk) if chunk < p.bump else NULL


cdef void fetch_probes(Shard *sh, const uint32_t *pages, uint32_t n, uint32_t offset) noexcept nogil:
    cdef uint32_t i, j
    for i in range(n):
        for j in range(PROBES):
            prefetch(probe(sh, pages[i], j, offset))


cdef uint64_t page_heat(Shard *sh, uint32_t page, uint32_t offset) noexcept nogil:
    """Reads a second that are lost with a page, as far as a few of its items tell: reads so far by the time since the last.

    A page is not as cold as its coldest item: chunks that eviction frees one by one are filled again at once, so the
    page at the tail may hold the newest items, too. What was never handed out is about to hold new ones.
    """
    cdef uint64_t heat = 0
    cdef uint32_t i
    cdef Item *it
    for i in range(PROBES):
        it = probe(sh, page, i, offset)
        if it == NULL:
            heat += RATE
        elif it.bits & STATE == LIVE and not item_expired(it, sh.now):
            heat += <uint64_t>RATE * (1 + item_warmth(it)) // (1 + (sh.now - it.atime if sh.now > it.atime else 0))
    return heat // sh.arena.pages[page].run if sh.arena.pages[page].state == PAGE_RUN else heat


cdef uint32_t oldest_page(Shard *sh, uint32_t cls) noexcept nogil:
    """A page of the class (NOBODY: of any) that may be emptied, the coldest of a sample; 0 if there is none."""
    cdef uint32_t pages[FEW]
    cdef uint32_t n = pages_at_random(sh, cls, pages, FEW), offset = draw(sh, 1 << 14), best = 0, i
    cdef uint64_t heat, least = 0
    fetch_probes(sh, pages, n, offset)
    for i in range(n):
        heat = page_heat(sh, pages[i], offset)
        if best == 0 or heat < least:
            best = pages[i]
            least = heat
    return best


cdef uint32_t sparsest_page(Shard *sh, uint32_t cls) noexcept nogil:
    """The page with fewest items of those with holes that may be emptied; 0 if there is none."""
    cdef uint32_t page = sh.classes[cls].open, best = 0, used = 0xffffffff, seen = 0
    while page and seen < OPEN_PAGES:
        if sh.arena.pages[page].used < used and may_empty(sh, page):
            used = sh.arena.pages[page].used
            best = page
        page = sh.arena.pages[page].next
        seen += 1
    return best


cdef uint32_t victim_page(Shard *sh, uint32_t cls, bint sparse) noexcept nogil:
    """The page of a class that costs least to empty: the coldest, or (`sparse`) the one with fewest items if there are
    holes for them. Without holes a sparse page is no bargain: the newest items lie on one.

    The page of the item that would be evicted next is as good as one that is a little colder: the order of eviction is
    finer than seconds, and knows more than an item's header.
    """
    cdef handle_t h = coldest_item(sh, cls)
    cdef uint32_t best = 0, offset = draw(sh, 1 << 14), tail = h >> CHUNK_BITS
    if sparse and sh.classes[cls].nchunks > 1 and spare_pages(&sh.classes[cls]) >= 1:
        best = sparsest_page(sh, cls)
        if best:
            return best
    best = oldest_page(sh, cls)
    if tail and may_empty(sh, tail) and (
            best == 0 or page_heat(sh, tail, offset) * 3 <= page_heat(sh, best, offset) * 4):
        return tail
    return best


cdef uint32_t cost_to_move(Shard *sh, uint32_t page, uint32_t bound, uint32_t offset) noexcept nogil:
    """What of a page is to be moved when all that is as cold as `bound` goes, in WHOLE-ths; above WHOLE if it cannot be.

    It is moved to holes in other pages of its class: those that are there, or those that cold items leave.
    """
    cdef Page *p = &sh.arena.pages[page]
    cdef SlabClass *k = &sh.classes[p.cls]
    cdef uint32_t i, hot = 0
    cdef Item *it
    if bound >= EXPIRED and p.min_exp > sh.now:
        hot = <uint32_t>(<uint64_t>p.used * WHOLE // p.nchunks)
        return hot if p.state != PAGE_RUN and spare_pages(k) >= 1 else WHOLE + 1
    for i in range(PROBES):
        it = probe(sh, page, i, offset)
        if it != NULL and it.bits & STATE == LIVE and coldness(it, sh.now) < bound:
            hot += WHOLE // PROBES
    if hot and (p.state == PAGE_RUN or k.pages < 2):
        return WHOLE + 1
    return hot


cdef uint32_t cheapest_page(Shard *sh, uint32_t bound, const uint64_t *but) noexcept nogil:
    """The page that is emptied by moving least when all that is as cold as `bound` goes; 0 if a sample has none.

    No page of the classes in the set `but`.
    """
    cdef uint32_t pages[PAGES]
    cdef uint32_t n = pages_at_random(sh, NOBODY, pages, PAGES), offset = draw(sh, 1 << 14)
    cdef uint32_t best = 0, cost, least = WHOLE + 1, i, cls
    fetch_probes(sh, pages, n, offset)
    for i in range(n):
        cls = sh.arena.pages[pages[i]].cls
        if but[cls >> 6] >> (cls & 63) & 1:
            continue
        cost = cost_to_move(sh, pages[i], bound, offset)
        if cost < least:
            best = pages[i]
            least = cost
    return best
