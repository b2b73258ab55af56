# cython: language_level=3
"""The recency order of one slab class: segments HOT, WARM and COLD, linked through the items.

A read only sets a bit; an item moves when it reaches the tail of its segment (FETCHED and ACTIVE decide where to), so a hit
never writes to its neighbours. Shares follow memcached: HOT 20 %, WARM 40 % of the class.
Knows: segments. Must not know: keys, chunks' owners. Owns no memory. Threads: the shard's lock is held.
"""
from libc.stdint cimport uint32_t

from cacheserver.store.arena cimport Arena
from cacheserver.store.item cimport ACTIVE, FETCHED, Item, handle_t
from cacheserver.store.shard cimport SlabClass

cdef enum LruStatus:         # what a callback of lru_walk() did with an item, after the kernel's list_lru
    LRU_REMOVED              # it is gone (the callback removed it)
    LRU_ROTATE               # give it another round
    LRU_SKIP                 # leave it where it is
    LRU_STOP                 # end the walk, leave it where it is

ctypedef LruStatus (*lru_isolate)(void *context, handle_t h, Item *it) noexcept nogil

cdef void lru_link(Arena *a, SlabClass *k, handle_t h, Item *it, uint32_t segment) noexcept nogil
cdef void lru_unlink(Arena *a, SlabClass *k, handle_t h, Item *it) noexcept nogil
cdef void lru_replace(Arena *a, SlabClass *k, Item *it, handle_t moved) noexcept nogil
cdef void lru_balance(Arena *a, SlabClass *k, uint32_t steps) noexcept nogil
cdef void lru_join(Arena *a, SlabClass *k, uint32_t segment, handle_t before, handle_t after) noexcept nogil
cdef uint32_t lru_walk(Arena *a, SlabClass *k, uint32_t segment, lru_isolate isolate, void *context,
                       uint32_t most) noexcept nogil

cdef inline void lru_touch(Item *it, uint32_t now) noexcept nogil:
    """Note a read."""
    it.bits |= ACTIVE if it.bits & FETCHED else FETCHED
    it.atime = now

cdef inline void lru_use(Item *it, uint32_t now) noexcept nogil:
    """Note a use that is no read, as of a number that is changed: the item stays unfetched, but earns another round."""
    it.bits |= ACTIVE
    it.atime = now
