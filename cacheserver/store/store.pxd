# cython: language_level=3
"""The store as an object: owns arena and shards, and is their Python face.

Knows: everything below it. Must not know: the protocol, asyncio, pressure. Threads: every method may be called from any
thread and releases the GIL while it works; no lock of the store is ever waited for with the GIL held.
"""
from cacheserver.store.shard cimport StoreC

cdef class Store:
    cdef StoreC c
