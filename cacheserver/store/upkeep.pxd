# cython: language_level=3
"""What the store does for itself, unasked: expiry, holes put together, surplus empty pages, the index's size and place.

Knows: which of the parts has something to do. Must not know: how they do it, who calls. Owns no memory.
Threads: one at a time; takes one shard's lock at a time, and none while the host takes memory back.
"""
from libc.stdint cimport int64_t, uint32_t

from cacheserver.store.shard cimport StoreC

cdef bint upkeep_slice(StoreC *s, uint32_t now, int64_t budget_ns) noexcept nogil
