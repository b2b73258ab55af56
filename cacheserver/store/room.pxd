# cython: language_level=3
"""Room for an item: a free chunk, a new page where there is leave for one, or what eviction gives.

Knows: where chunks come from, and the order in which to try. Must not know: what the item is, why memory is short.
Memory: the chunk is the caller's; pages are the arena's. Threads: the shard's lock is held; other shards' locks are tried,
never waited for.
"""
from libc.stdint cimport uint64_t

from cacheserver.store.item cimport handle_t
from cacheserver.store.shard cimport Shard

cdef handle_t room_for(Shard *sh, uint64_t nbytes) noexcept nogil
