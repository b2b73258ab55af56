# cython: language_level=3
"""Forgetting every item, page by page and not item by item.

Knows: pages, index, segments. Must not know: who asks. Memory: pages go to the arena's pool; the upkeep releases them.
Threads: any; takes the shards' locks one at a time.
"""
from cacheserver.store.shard cimport StoreC

cdef void flush_all(StoreC *s) noexcept nogil
