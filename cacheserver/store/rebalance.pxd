# cython: language_level=3
"""Which slab class gives a page to which, and which class is worth pages of its own: pure functions of a snapshot.

A class's *worth* is what its pages have shown to be good for in a window of operations that all classes of a shard share:
LOST_READ for an eviction of an item that had been read, LOST_UNREAD for one of another, HIT for a hit. Worth per page stands
for the hits that one page more would bring and one less would cost. Where popularity follows Zipf's law n pages hit in
proportion to log n, so the next one brings hits / n; but it brings nothing where all fits and nothing is evicted, and
little where nothing that is evicted was ever read, as in a scan: hence the weights. Counted in operations the measure is
as fine as the load is high, and it costs no item a byte.

Where there are few pages, classes share them: an item whose class has none lies in a chunk of the next larger class that
has some (its *host*).

All arrays of views: by class, ascending sizes, the class of items with pages of their own last; `count` is without it where
that cannot be meant.
Knows: numbers. Must not know: pages, items, locks. Owns no memory.
"""
from libc.stdint cimport uint32_t, uint64_t

cdef struct ClassView:
    uint64_t worth           # of all its pages in the window
    uint32_t pages
    uint32_t spare           # pages' worth of free chunks
    uint32_t size            # bytes of a chunk; 0: items with pages of their own
    uint64_t used            # chunks in use
    uint64_t sets            # writes in the window of items that are of this class by their size, wherever they lie

cdef enum:
    NOBODY = 65535
    LOST_READ = 16
    LOST_UNREAD = 1
    HIT = 1
    UNIT = 256               # costs and gains are worth per page, times this
    PAGE = 1048576           # bytes
    LEAST_NEED = 629146      # bytes of its first page that a class may be credited with at least: 0.6 pages
    LEAST_SAVED = 262144     # bytes that its own pages must save it: a quarter of a page
    LAST = 8                 # times its worth that the last page costs a class that may be opened again
    STEP_MAX = 24

cdef inline uint32_t rebalance_lowest(const ClassView *views, uint32_t cls) noexcept nogil:
    """The smallest class whose items lie in chunks of class `cls`, because it and those between have no page."""
    while cls > 0 and views[cls - 1].pages == 0:
        cls -= 1
    return cls

cdef inline uint32_t rebalance_host(const ClassView *views, uint32_t count, uint32_t cls) noexcept nogil:
    """The next larger class that has pages; `count` if there is none."""
    while cls < count and (views[cls].pages == 0 or views[cls].size == 0):
        cls += 1
    return cls

cdef inline uint64_t rebalance_sets(const ClassView *views, uint32_t lowest, uint32_t highest) noexcept nogil:
    """Writes of all classes from one to another."""
    cdef uint64_t sets = 0
    while lowest <= highest:
        sets += views[lowest].sets
        lowest += 1
    return sets

cdef inline uint32_t rebalance_step(uint32_t seen, uint64_t pages) noexcept nogil:
    """A shard of so many pages, asked for items of so many classes, opens every how many-th class only: else the pages that
    each class has filled in part would be too much of all. Five pages for four classes are the least. The steps are
    multiples of each other, so that a shard that grows or shrinks keeps the classes it has."""
    cdef uint32_t step = 1
    while <uint64_t>seen * 5 > pages * step * 4 and step < STEP_MAX:
        step *= 2 if step > 1 else 3
    return step

cdef inline bint rebalance_may_open(uint32_t count, uint32_t step, uint32_t cls) noexcept nogil:
    """Whether a class that has no page may get one; the largest always may, as it has no host."""
    return (count - 1 - cls) % step == 0

cdef inline uint64_t rebalance_cost(const ClassView *views, uint32_t count, uint32_t step, uint32_t giver) noexcept nogil:
    """What the class would lose with a page, in UNITs.

    Its last page, if it is not one of those that may be opened, costs what its items take up with their host, where that
    is less. If it is, the next item would open it again, so it must be worth next to nothing.
    """
    cdef uint32_t host
    cdef uint64_t cost = views[giver].worth * UNIT // views[giver].pages, items, all, above
    if views[giver].pages > 1 or views[giver].size == 0:
        return cost
    if rebalance_may_open(count - 1, step, giver):
        return cost * LAST
    host = rebalance_host(views, count, giver + 1)
    if host == count:
        return cost
    items = rebalance_sets(views, rebalance_lowest(views, giver), giver)
    all = items + rebalance_sets(views, giver + 1, host)
    items = items * views[host].used // all if all else 0
    if items < views[giver].used:
        items = views[giver].used
    above = (views[host].worth + views[giver].worth) * UNIT // views[host].pages
    above = above * (items * views[host].size // 1024) // (PAGE // 1024)
    return above if above < cost else cost

cdef inline uint32_t rebalance_giver(const ClassView *views, uint32_t count, uint32_t step, uint32_t taker) noexcept nogil:
    """The class that should give a page to `taker`, which has to evict; NOBODY if all is as it should be.

    Free chunks lie idle, so a class with two pages' worth of them gives first. Else the one to which it costs least gives, if
    the taker gains clearly more (an eighth), so that no page goes to and fro.
    """
    cdef uint32_t c, best = NOBODY
    cdef uint64_t gain = views[taker].worth * UNIT // (views[taker].pages + 1), least = gain - gain // 8, cost
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

cdef inline uint32_t rebalance_opening(const ClassView *views, uint32_t count, uint32_t step) noexcept nogil:
    """The class that should have pages of its own because its items, and smaller ones, take up too much of their host's;
    NOBODY if that would save less than LEAST_SAVED."""
    cdef uint32_t c = 0, host = rebalance_host(views, count, 0), best = NOBODY
    cdef uint64_t guests, all, taken, need, most = LEAST_SAVED
    while host < count:
        all = rebalance_sets(views, c, host)
        guests = 0
        while c < host:
            guests += views[c].sets
            taken = views[host].used * guests // all if guests else 0
            need = taken * views[c].size
            taken *= views[host].size
            if need < LEAST_NEED:
                need = LEAST_NEED
            if rebalance_may_open(count, step, c) and taken > need + most:
                most = taken - need
                best = c
            c += 1
        c = host + 1
        host = rebalance_host(views, count, c)
    return best

cdef inline uint64_t rebalance_guests(const ClassView *views, uint32_t count, uint32_t guest) noexcept nogil:
    """What the items that a class without pages would have have been worth, which counts as their host's so far."""
    cdef uint32_t host = rebalance_host(views, count, guest)
    cdef uint64_t theirs = rebalance_sets(views, rebalance_lowest(views, guest), guest)
    cdef uint64_t all = theirs + rebalance_sets(views, guest + 1, host)
    return views[host].worth * theirs // all if all else 0
