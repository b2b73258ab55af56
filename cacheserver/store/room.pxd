# cython: language_level=3
"""Room for an item: a free chunk, a new page where there is leave for one, or what eviction gives.

Knows: where chunks come from, and the order in which to try. Must not know: what the item is, why memory is short.
Memory: the chunk is the caller's; pages are the arena's. Threads: room_for() with the shard's lock held, which tries other
shards' locks and never waits for one; take_chunk() with no lock held.
"""
from libc.stdint cimport uint64_t

from cacheserver.store.item cimport Item, handle_t
from cacheserver.store.shard cimport Shard, StoreC

cdef handle_t room_for(Shard *sh, uint64_t nbytes) noexcept nogil
cdef void count_no_memory(Shard *sh, uint64_t nbytes) noexcept nogil
cdef handle_t take_chunk(StoreC *s, Shard *sh, uint64_t need) noexcept nogil
cdef void drop_chunk(StoreC *s, Shard *sh, handle_t h, Item *it) noexcept nogil
