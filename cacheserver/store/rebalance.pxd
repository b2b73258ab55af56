# cython: language_level=3
"""Which slab class gives a page to which, and which class is worth pages of its own: pure functions of a snapshot.

A class's *worth* is what its pages have shown to be good for in a window that is common to all classes of a shard: an
eviction counts LOST_READ if the item had been read, else LOST_UNREAD, a hit counts HIT. Per page this is an estimate of the
hits that one page more would bring, and one less would cost. Under a popularity like Zipf's the hits of n pages grow with
log n, so that the next page brings in proportion to hits / n; but never more than what is evicted and read again, which is
nothing once all fits, and nothing for a scan. Both are counted anyhow, in operations rather than seconds, so that the
measure is as fine as the load is high.

Knows: numbers. Must not know: pages, items, locks. Owns no memory.
"""
from libc.stdint cimport uint32_t, uint64_t

cdef struct ClassView:
    uint64_t worth           # of all its pages in the window
    uint32_t pages
    uint32_t spare           # pages' worth of free chunks
    uint32_t size            # bytes of a chunk; 0: items with pages of their own
    uint32_t used            # chunks in use
    uint64_t sets            # writes in the window of items that are of this class by their size, wherever they lie

cdef enum:
    NOBODY = 65535
    LOST_READ = 16
    LOST_UNREAD = 1
    HIT = 1
    PAGE = 1048576
    SAVED = 25
    NEED = 60
    LAST = 8
    STEP_MAX = 24

cdef inline uint32_t rebalance_lowest(const ClassView *views, uint32_t cls) noexcept nogil:
    """The smallest class whose items lie in chunks of class `cls`, because it and those between have no page."""
    while cls > 0 and views[cls - 1].pages == 0:
        cls -= 1
    return cls

cdef inline uint64_t rebalance_sets(const ClassView *views, uint32_t lowest, uint32_t highest) noexcept nogil:
    cdef uint64_t sets = 0
    while lowest <= highest:
        sets += views[lowest].sets
        lowest += 1
    return sets

cdef inline uint32_t rebalance_step(uint32_t seen, uint64_t pages) noexcept nogil:
    """A shard of so many pages, asked for items of so many classes, opens every how many-th class only: else the pages that
    each class has filled in part would be too much of all. A page and a half for each that is opened is the least."""
    cdef uint32_t step = 1
    while <uint64_t>seen * 5 > pages * step * 4 and step < STEP_MAX:
        step *= 2 if step > 1 else 3
    return step

cdef inline bint rebalance_may_open(uint32_t count, uint32_t step, uint32_t cls) noexcept nogil:
    return (count - 1 - cls) % step == 0

cdef inline uint64_t rebalance_cost(const ClassView *views, uint32_t count, uint32_t step, uint32_t giver) noexcept nogil:
    """What the class would lose with a page, times 256. The last page's items may lie in chunks of the next larger class:
    then it costs what they take up there, if that is less."""
    cdef uint32_t host = giver + 1
    cdef uint64_t cost = views[giver].worth * 256 // views[giver].pages, items, all, above
    if views[giver].pages > 1 or views[giver].size == 0:
        return cost
    if rebalance_may_open(count - 1, step, giver):
        return cost * LAST
    while host < count and views[host].pages == 0:
        host += 1
    if host >= count or views[host].size == 0:
        return cost
    items = rebalance_sets(views, rebalance_lowest(views, giver), giver)
    all = items + rebalance_sets(views, giver + 1, host)
    items = items * views[host].used // all if all else 0
    if items < views[giver].used:
        items = views[giver].used
    above = (views[host].worth + views[giver].worth) * 256 // views[host].pages * (items * views[host].size // 1024) // 1024
    return above if above < cost else cost

cdef inline uint32_t rebalance_giver(const ClassView *views, uint32_t count, uint32_t step, uint32_t taker) noexcept nogil:
    """The class that should give a page to `taker`, which has to evict; NOBODY if all is as it should be.

    Free chunks lie idle, so a class with two pages' worth of them gives first. Else the one to which it costs least gives, if
    the taker gains clearly more (an eighth), so that no page goes to and fro.
    """
    cdef uint32_t c, best = NOBODY
    cdef uint64_t gain = views[taker].worth * 256 // (views[taker].pages + 1), least = gain - gain // 8, cost
    for c in range(count):
        if c == taker or views[c].pages == 0:
            continue
        if views[c].spare >= 2:
            return c
        cost = rebalance_cost(views, count, step, c)
        if cost < least:
            least = cost
            best = c
    return best

cdef inline uint32_t rebalance_host(const ClassView *views, uint32_t count, uint32_t cls) noexcept nogil:
    """The next larger class that has pages; `count` if there is none."""
    while cls < count and (views[cls].pages == 0 or views[cls].size == 0):
        cls += 1
    return cls

cdef inline uint32_t rebalance_opening(const ClassView *views, uint32_t count, uint32_t step) noexcept nogil:
    """The class that should get a page of its own because its items, and smaller ones, take up too much of the chunks of a
    larger class; NOBODY if that saves little."""
    cdef uint32_t c = 0, host, lowest, best = NOBODY
    cdef uint64_t guests, all, taken, need, most = PAGE // 100 * SAVED
    while c < count:
        lowest = c
        host = rebalance_host(views, count, c)
        if host == count:
            break
        all = rebalance_sets(views, lowest, host)
        guests = 0
        while c < host:
            guests += views[c].sets
            taken = <uint64_t>views[host].used * guests // all * views[host].size if guests else 0
            need = taken // views[host].size * views[c].size
            if need < PAGE // 100 * NEED:
                need = PAGE // 100 * NEED
            if rebalance_may_open(count, step, c) and taken > need + most:
                most = taken - need
                best = c
            c += 1
        c += 1
    return best
