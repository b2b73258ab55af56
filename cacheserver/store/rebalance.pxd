# cython: language_level=3
"""Which slab class gives a page to which: a pure function of a snapshot.

Knows: ages and page counts. Must not know: pages, items, locks. Owns no memory.
"""
from libc.stdint cimport uint32_t

cdef struct ClassView:
    uint32_t pages
    uint32_t age             # seconds since the coldest item was last used
    uint32_t spare           # pages' worth of free chunks

cdef enum:
    NOBODY = 65535

cdef inline uint32_t rebalance_giver(const ClassView *views, uint32_t count, uint32_t taker) noexcept nogil:
    """The class that should give a page to `taker`, which has to evict; NOBODY if all is as it should be.

    Free chunks lie idle, so a class with two pages' worth of them gives first. Else the class with the oldest tail gives,
    if that is clearly (half as old again, and 2 s) older than the taker's: equal ages mean equal worth of a page, and the
    margin keeps two classes from passing a page to and fro. A class keeps its last page.
    """
    cdef uint32_t c, best = NOBODY, age = views[taker].age + views[taker].age // 2 + 2
    for c in range(count):
        if c == taker or views[c].pages < 2:
            continue
        if views[c].spare >= 2:
            return c
        if views[c].age > age:
            age = views[c].age
            best = c
    return best
