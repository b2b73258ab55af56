# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The balance between classes, asked from Python: see rebalance.pxd. The store does not come here."""
from libc.stdint cimport uint32_t

from cacheserver.store.shard cimport CLASS_MAX


cdef uint32_t fill(ClassView *views, classes) except? 0:
    cdef uint32_t c
    if not 0 < len(classes) <= CLASS_MAX:
        raise ValueError(f"there are 1 to {CLASS_MAX} classes, not {len(classes)}")
    for c, one in enumerate(classes):
        views[c].worth, views[c].pages, views[c].spare, views[c].size, views[c].used, views[c].sets = one
    return <uint32_t>len(classes)


def giver(classes, uint32_t taker, *, uint32_t step=1):
    cdef ClassView views[CLASS_MAX]
    cdef uint32_t count = fill(views, classes), found = rebalance_giver(views, count, step, taker)
    return None if found == NOBODY else found


def cost(classes, uint32_t cls, *, uint32_t step=1):
    cdef ClassView views[CLASS_MAX]
    cdef uint32_t count = fill(views, classes)
    return <double>rebalance_cost(views, count, step, cls) / UNIT


def opening(classes, *, uint32_t step=1):
    cdef ClassView views[CLASS_MAX]
    cdef uint32_t count = fill(views, classes), found = rebalance_opening(views, count - 1, step)
    return None if found == NOBODY else found


def step(uint32_t seen, uint32_t pages):
    return rebalance_step(seen, pages)
