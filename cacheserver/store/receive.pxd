# cython: language_level=3
"""Values that arrive in pieces: reserve -> write into the item -> commit | abandon.

Knows: items that are in nobody's index yet. Must not know: the protocol, sockets, pressure.
Memory: a Reservation's bytes are its holder's until it is committed or abandoned: one of the two, exactly once. A hard shrink
may revoke it: the bytes stay writable, but the commit fails, and a holder that sees store_is_revoked() abandons it.
Threads: any thread; a Reservation has one holder.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from cacheserver.store.item cimport Item, handle_t
from cacheserver.store.operations cimport Outcome, Put
from cacheserver.store.shard cimport StoreC

cdef struct Reservation:
    Item *item               # NULL: none
    handle_t handle
    uint64_t hash
    char *value
    uint32_t nbytes
    uint32_t received        # bytes of value written so far; kept by the owner

cdef int64_t quota_of(uint64_t need) noexcept nogil
cdef Outcome store_reserve(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, uint32_t flags, uint32_t exptime,
                           uint32_t nbytes, uint32_t now, Reservation *r) noexcept nogil
cdef bint store_may_reserve(StoreC *s, uint64_t need) noexcept nogil
cdef void store_progress(StoreC *s, Reservation *r, uint32_t now) noexcept nogil
cdef bint store_is_revoked(Reservation *r) noexcept nogil
cdef Outcome store_commit(StoreC *s, Reservation *r, Put *put, uint32_t now) noexcept nogil
cdef void store_abandon(StoreC *s, Reservation *r) noexcept nogil
