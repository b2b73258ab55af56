# cython: language_level=3
"""What the store holds, as a dict of plain numbers (memcached's names where it has one).

Knows: every counter of the store. Must not know: how a reply to `stats` looks. Owns no memory.
Threads: takes the shards' locks one at a time, with the GIL released.
"""
from cacheserver.store.shard cimport StoreC

cdef dict store_snapshot(StoreC *s)
