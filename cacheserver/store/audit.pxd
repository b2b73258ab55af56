# cython: language_level=3
"""The whole store counted again from its chunks, and what does not add up.

Knows: how every struct of the store must look between two operations. Must not know: how anything gets there, who asks.
It is for tests, and for an operator who looks into a process from Python; no command of the protocol reaches it.
Memory: one block of 13 KiB for each shard while it runs, whatever the store holds; nothing of the store is changed.
Threads: any. It holds the locks of all shards and of the arena until it is done: about 0.1 s for a million items. A page
that another thread has taken out of a list and not yet put into the next one, and bytes given back but not yet counted,
are reported: what it says is exact while no other thread is in the store.
"""
from libc.stdint cimport int64_t

from cacheserver.store.shard cimport StoreC

cdef list audit_store(StoreC *s)
cdef int64_t audit_resident(StoreC *s) noexcept nogil
