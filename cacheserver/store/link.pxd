# cython: language_level=3
"""An item in and out of a shard: index, segment and slab class together.

Knows: how the three fit. Must not know: why an item comes or goes, commands. Memory: gives chunks back to their pages;
nothing here calls the system. Threads: the shard's lock is held in every function.
"""
from libc.stdint cimport uint64_t

from cacheserver.store.arena cimport item_at
from cacheserver.store.index cimport index_slot
from cacheserver.store.item cimport Item, handle_t
from cacheserver.store.platform cimport prefetch
from cacheserver.store.shard cimport Shard

cdef uint64_t hash_of(Shard *sh, Item *it) noexcept nogil
cdef bint link_item(Shard *sh, uint64_t hash, handle_t h, Item *it, handle_t old) noexcept nogil
cdef void remove_item(Shard *sh, uint64_t hash, handle_t h, Item *it) noexcept nogil

cdef inline void fetch_links(Shard *sh, uint64_t hash, Item *it) noexcept nogil:
    """Start fetching what taking an item out, or moving it, will touch: its bucket and its two neighbours.

    The neighbour that an end of a segment has not got is page 0, which is never used: asking for it does no harm.
    """
    prefetch(&sh.index.buckets[index_slot(&sh.index, hash)])
    prefetch(item_at(sh.arena, it.prev))
    prefetch(item_at(sh.arena, it.next))
