# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""Slab classes compared: see classes.pxd."""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.arena cimport item_at
from cacheserver.store.item cimport handle_t
from cacheserver.store.lru cimport lru_coldest
from cacheserver.store.rebalance cimport NOBODY
from cacheserver.store.shard cimport Shard, SlabClass
from cacheserver.store.slab cimport slab_sizes


cdef handle_t coldest_item(Shard *sh, uint32_t cls) noexcept nogil:
    return lru_coldest(sh.arena, &sh.classes[cls])


cdef uint32_t tail_age(Shard *sh, uint32_t cls) noexcept nogil:
    """Seconds since the coldest item of a class was used."""
    cdef handle_t h = coldest_item(sh, cls)
    cdef uint32_t atime
    if h == 0:
        return 0
    atime = item_at(sh.arena, h).atime
    return sh.now - atime if sh.now > atime else 0


cdef uint32_t spare_pages(SlabClass *k) noexcept nogil:
    """Pages' worth of free chunks."""
    return k.pages - <uint32_t>((k.used + k.nchunks - 1) // k.nchunks)


cdef uint32_t coldest_class(Shard *sh, bint sparse) noexcept nogil:
    """The class (the run class included) to take memory from next; NOBODY if the shard holds none.

    `sparse`: first one with a page's worth of holes, for a caller that moves what it finds into them.
    """
    cdef uint32_t c, best = NOBODY, runs = slab_sizes().count
    cdef uint64_t score, top = 0
    for c in range(runs + 1):
        if sh.classes[c].pages == 0:
            continue
        score = <uint64_t>tail_age(sh, c) + 1
        if sparse and c < runs and spare_pages(&sh.classes[c]) >= 1:
            score += <uint64_t>1 << 32
        if score > top:
            top = score
            best = c
    return best
