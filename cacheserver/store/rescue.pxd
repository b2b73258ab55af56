# cython: language_level=3
"""Paying soft debt with what is worth least: which items go, and from which page what is better is moved away.

The bound between the two is taken from a sample of the shard: what is colder than it adds up to the debt. Free and expired
memory counts as coldest, so nothing that lives goes as long as that is enough.
Knows: shards, the debt. Must not know: who asks, how items move. Owns no memory.
Threads: the shard's lock is held, for some ten microseconds at a time.
"""
from cacheserver.store.shard cimport Shard, StoreC

cdef bint rescue_step(StoreC *s, Shard *sh) noexcept nogil
