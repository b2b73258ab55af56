# cython: language_level=3
"""Which page goes next, and how cold an item is.

Knows: pages, their holes, what the header of an item says about its use. Must not know: how anything is taken out, why
memory is wanted, how segments are ordered.
Memory: nothing is allocated or changed, but for the dice. Threads: the shard's lock is held in every function.
"""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.item cimport FETCHED, Item, item_expired
from cacheserver.store.shard cimport Shard

cdef enum:
    COLDEST = 0xffffffff     # holds nothing
    EXPIRED = 0xfffffffe     # holds what nobody may read any more; all that lives is less cold
    AGE_MAX = 0x1fffffff     # seconds

cdef inline uint32_t item_warmth(Item *it) noexcept nogil:
    """From 0 to 3: how often it was read since it was stored, as far as the item remembers."""
    return it.reads if it.reads else (it.bits & FETCHED) != 0

cdef inline uint32_t coldness(Item *it, uint32_t now) noexcept nogil:
    """How little is lost with a LIVE item: by the time since its last use, and in the same second by its reads.

    One that nobody has read counts as twice as old: a scan that passes through must not outlive what is being read.
    """
    cdef uint32_t age = now - it.atime if now > it.atime else 0, warmth = item_warmth(it)
    if item_expired(it, now):
        return EXPIRED
    if age > AGE_MAX:
        age = AGE_MAX
    if warmth == 0:
        age *= 2
    return age << 2 | (3 - warmth)

cdef inline uint32_t draw(Shard *sh, uint32_t count) noexcept nogil:
    """A number below `count`, by a linear congruential sequence (Knuth, TAOCP 2, 3.3.4): fair enough to sample by."""
    sh.dice = sh.dice * 1664525 + 1013904223
    return <uint32_t>(<uint64_t>sh.dice * count >> 32)

cdef bint may_empty(Shard *sh, uint32_t page) noexcept nogil
cdef uint32_t pages_at_random(Shard *sh, uint32_t cls, uint32_t *out, uint32_t most) noexcept nogil
cdef uint32_t oldest_page(Shard *sh, uint32_t cls) noexcept nogil
cdef uint32_t victim_page(Shard *sh, uint32_t cls, bint sparse) noexcept nogil
cdef uint32_t sparsest_page(Shard *sh, uint32_t cls) noexcept nogil
cdef uint32_t cheapest_page(Shard *sh, uint32_t bound, const uint64_t *but) noexcept nogil
