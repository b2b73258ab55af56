# cython: language_level=3
"""The order of one slab class: two segments linked through the items, and how reads are counted in it.

HOT holds what is on probation: an item comes in at its head and moves by others coming in. At its tail it goes, unless it
was read often enough meanwhile: then it has proved itself. WARM holds what has: at its tail an item goes once the reads
that it has saved up are used up, one for each round. So a read writes to nothing but the item, and keys that nobody asks
for again pass through HOT and leave WARM alone. An item whose ghost is found (see index) has proved itself, too. How large
HOT is and how much proof it takes is a shard's Manner, which may change at any moment: the lists just go on. Plain LRU is
a manner without HOT, in which a read moves the item to WARM's head.

There is no third segment: the statistics that memcached keeps of its COLD are 0 here.
Knows: segments, reads, the manner. Must not know: keys, who sets the manner. Owns no memory. Threads: the shard's lock is
held. Source of the default manner: J. Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023.
"""
from libc.stdint cimport uint32_t

from cacheserver.store.arena cimport Arena
from cacheserver.store.item cimport FETCHED, READS_MAX, SEGMENT, SEGMENT_SHIFT, Item, handle_t
from cacheserver.store.manner cimport Manner
from cacheserver.store.shard cimport Shard, SlabClass

cdef enum LruStatus:         # what a callback of lru_walk() did with an item, after the kernel's list_lru
    LRU_REMOVED              # it is gone (the callback removed it)
    LRU_ROTATE               # give it another round: it goes to WARM's head
    LRU_SKIP                 # leave it where it is
    LRU_STOP                 # end the walk, leave it where it is

ctypedef LruStatus (*lru_isolate)(void *context, handle_t h, Item *it) noexcept nogil

cdef Manner manner_lru() noexcept nogil
cdef Manner manner_s3fifo() noexcept nogil
cdef Manner manner_filling() noexcept nogil
cdef void lru_link(Arena *a, SlabClass *k, handle_t h, Item *it, uint32_t segment) noexcept nogil
cdef void lru_unlink(Arena *a, SlabClass *k, Item *it) noexcept nogil
cdef void lru_replace(Arena *a, SlabClass *k, Item *it, handle_t moved) noexcept nogil
cdef uint32_t lru_entry(Shard *sh, SlabClass *k, bint known) noexcept nogil
cdef uint32_t lru_inherit(Shard *sh, Item *it, Item *before) noexcept nogil
cdef void lru_bump(Shard *sh, handle_t h, Item *it) noexcept nogil
cdef uint32_t lru_victims(Shard *sh, SlabClass *k) noexcept nogil
cdef handle_t lru_coldest(Arena *a, SlabClass *k) noexcept nogil
cdef bint lru_earned(const Manner *m, Item *it) noexcept nogil
cdef void lru_join(Arena *a, SlabClass *k, uint32_t segment, handle_t before, handle_t after) noexcept nogil
cdef uint32_t lru_walk(Arena *a, SlabClass *k, uint32_t segment, lru_isolate isolate, void *context,
                       uint32_t most) noexcept nogil

cdef inline uint32_t lru_segment(Item *it) noexcept nogil:
    return (it.bits & SEGMENT) >> SEGMENT_SHIFT

cdef inline bint lru_spared(Shard *sh, Item *it) noexcept nogil:
    """Whether an item is worth more than one at a tail: it was read since it was stored or last went round. Where reads
    move items they are not counted, and being read at all is what is left to know."""
    return it.reads != 0 or (sh.manner.bump and it.bits & FETCHED)

cdef inline void lru_use(Shard *sh, handle_t h, Item *it, uint32_t now) noexcept nogil:
    """Note a use that is no read, as of a number that is changed: the item stays unfetched, but earns what a read does."""
    if it.atime != now:      # a line that is only read stays in every processor's cache
        it.atime = now
    if sh.manner.bump:
        lru_bump(sh, h, it)
    elif it.reads < READS_MAX:
        it.reads += 1

cdef inline void lru_touch(Shard *sh, handle_t h, Item *it, uint32_t now) noexcept nogil:
    """Note a read."""
    if not it.bits & FETCHED:
        it.bits |= FETCHED
    lru_use(sh, h, it, now)
