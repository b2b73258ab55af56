# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Compaction: see compact.pxd.

What a class needs is the most it has used at a time since the last look, a second ago; the other chunks lie idle. Compaction
begins where those are many and ends where few are free, so a class whose items come and go does not pay for it.
"""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.drain cimport drain_begin, drain_slice
from cacheserver.store.platform cimport low_bit
from cacheserver.store.shard cimport CLASS_WORDS, DRAIN_COMPACT, Shard, SlabClass
from cacheserver.store.slab cimport slab_sizes
from cacheserver.store.victim cimport sparsest_page

cdef enum:
    BEGIN_SHARE = 4          # begin where more than 1/4 of the chunks lies idle,
    BEGIN_PAGES = 2          # and that is two pages' worth
    END_SHARE = 16           # end where less than 1/16 of the chunks is free, or less than a page's worth
    NONE = 0xffffffff


cdef uint64_t free_chunks(SlabClass *k) noexcept nogil:
    return k.pages * <uint64_t>k.nchunks - k.used


cdef void compact_look(Shard *sh, uint32_t now) noexcept nogil:
    """Once a second: note which classes have had too many holes since the last look."""
    cdef uint32_t c
    cdef uint64_t chunks, idle
    cdef SlabClass *k
    if now == sh.looked:
        return
    sh.looked = now
    for c in range(slab_sizes().count):
        k = &sh.classes[c]
        chunks = k.pages * <uint64_t>k.nchunks
        idle = chunks - k.peak if chunks > k.peak else 0
        k.peak = k.used
        if idle >= BEGIN_PAGES * k.nchunks and idle * BEGIN_SHARE > chunks:
            sh.thin[c >> 6] |= <uint64_t>1 << (c & 63)


cdef void leave(Shard *sh, uint32_t c) noexcept nogil:
    sh.thin[c >> 6] &= ~(<uint64_t>1 << (c & 63))


cdef uint32_t next_thin(Shard *sh) noexcept nogil:
    """The class to go on with, NONE where there is none; those that are done with are forgotten."""
    cdef uint32_t word, c
    cdef uint64_t free
    cdef SlabClass *k
    for word in range(CLASS_WORDS):
        while sh.thin[word]:
            c = word * 64 + low_bit(sh.thin[word])
            k = &sh.classes[c]
            free = free_chunks(k)
            if free > k.nchunks and free * END_SHARE > k.pages * <uint64_t>k.nchunks:
                return c
            leave(sh, c)
    return NONE


cdef bint compact_step(Shard *sh) noexcept nogil:
    """A slice of moving the items of a sparse page to holes in others; False if there is nothing to do."""
    cdef uint32_t c, page
    cdef uint64_t before
    if sh.draining == 0:
        c = next_thin(sh)
        if c == NONE:
            return False
        page = sparsest_page(sh, c)
        if page == 0:
            leave(sh, c)
            return False
        drain_begin(sh, page, DRAIN_COMPACT)
    elif sh.how != DRAIN_COMPACT:
        return False         # somebody else's page: its time will come
    c = sh.arena.pages[sh.draining].cls
    before = sh.pages
    drain_slice(sh)
    if sh.draining == 0 and sh.pages == before:
        leave(sh, c)         # the holes were fewer, or something is pinned: see what the next look shows
    return True
