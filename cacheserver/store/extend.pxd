# cython: language_level=3
"""append and prepend: a new item of an old value and a new one behind it or in front.

Knows: how two values become one while others read and write. Must not know: where the new one comes from, the protocol.
Memory: as in operations. Threads: any thread; no lock held. A large value is copied without the lock, the old item pinned.
Times are seconds of the store's clock; exptime 0 = never.
"""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.operations cimport Outcome, Put
from cacheserver.store.shard cimport StoreC

cdef Outcome extend_item(StoreC *s, Put *put, uint64_t hash, const char *key, uint32_t nkey, uint32_t flags,
                         uint32_t exptime, const char *value, uint32_t nbytes, uint32_t now) noexcept nogil
cdef Outcome store_extend(StoreC *s, Put *put, uint64_t hash, const char *key, uint32_t nkey, uint32_t flags,
                          uint32_t exptime, const char *value, uint32_t nbytes, uint32_t now) noexcept nogil
