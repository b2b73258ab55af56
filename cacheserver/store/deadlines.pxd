# cython: language_level=3
"""When the items of a page expire, beside the page: two bytes a chunk, so that finding what is due touches no item.

A deadline is a number of seconds from the page's base (Page.deadlines) on, 0 = none. It is never later than the expiry of
the live item in its chunk, and may be earlier: the chunk may be free by now, its item may live longer or for ever, or
its time may lie beyond the 18 hours that two bytes hold. So who takes a chunk as due looks at its item, and notes its
deadline again where it lives on. Nothing needs to be noted when an item goes or gets a later time.

Knows: pages, their sides, chunk numbers. Must not know: items, index, segments, who expires what.
Memory: lies in the side of a page, which the arena counts and gives back with the page; a page whose items never expire has
none. Threads: the lock of the page's shard is held in every function.
"""
from libc.stdint cimport uint16_t, uint32_t

from cacheserver.store.arena cimport CHUNK_BITS, CHUNK_MASK, Arena, Page, side_of
from cacheserver.store.item cimport handle_t

cdef enum:
    BLOCK_SHIFT = 6
    BLOCK = 64               # chunks that are looked at together
    REACH = 65535            # seconds from the base that a deadline can hold
    NEVER = 0xffffffff       # Page.min_exp: nothing here expires

cdef struct Deadlines:
    uint16_t first[256]      # of each block: no deadline of it is earlier; 0 = it has none
    uint16_t chunks[16384]

cdef void make_deadlines(Arena *a, uint32_t page, uint32_t chunk, uint32_t now) noexcept nogil
cdef uint32_t take_due(Arena *a, uint32_t page, uint32_t now, uint16_t *out, uint32_t most) noexcept nogil

cdef inline void note_deadline(Arena *a, handle_t h, uint32_t exptime, uint32_t now) noexcept nogil:
    """A live item expires at `exptime` (not 0), seconds of the store's clock, as is `now`."""
    cdef uint32_t page = h >> CHUNK_BITS, chunk = h & CHUNK_MASK, when = 1
    cdef Page *p = &a.pages[page]
    cdef Deadlines *d = <Deadlines *>side_of(a, page)
    if p.nchunks == 1:       # a run: the page's own field says it all
        p.min_exp = exptime
        return
    if p.deadlines == 0 or p.side < sizeof(d.first) + (chunk + 1) * sizeof(uint16_t):
        make_deadlines(a, page, chunk, now)
    if exptime > p.deadlines:
        when = exptime - p.deadlines
        if when > REACH:
            when = REACH
    d.chunks[chunk] = <uint16_t>when
    if d.first[chunk >> BLOCK_SHIFT] == 0 or when < d.first[chunk >> BLOCK_SHIFT]:
        d.first[chunk >> BLOCK_SHIFT] = <uint16_t>when
    if p.deadlines + when < p.min_exp:
        p.min_exp = p.deadlines + when
