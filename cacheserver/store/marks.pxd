# cython: language_level=3
"""Looking at an item under its lock, as it was before the look: for readers that decide by what they see. And the marks
that come of it: stale (out of date, still served) and won (one reader has been told to renew it).

Knows: items by key, their marks. Must not know: the protocol, sockets, pressure. Memory: a Sight is good until store_done()
or store_pin() of its view. Threads: any thread; while a Sight is good its shard's lock is held: no store function but those
that take it, and no system call in between.
Times are seconds of the store's clock; exptime 0 = never.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from cacheserver.store.item cimport handle_t
from cacheserver.store.operations cimport Outcome, Put
from cacheserver.store.shard cimport Shard, StoreC
from cacheserver.store.view cimport View

cdef struct Sight:
    View view
    uint32_t now
    uint32_t idle            # seconds since the item was read or written
    bint fetched             # read since it was stored
    bint encoded             # see struct Item
    bint created             # by this very look

cdef enum Claim:             # bits of store_claim()
    CLAIM_TAKEN = 1          # another reader has won before
    CLAIM_STALE = 2
    CLAIM_WON = 4            # this reader is the one to renew the item

cdef struct Removal:         # the terms of a removal
    bint comparing
    uint64_t compare         # the cas the item must have
    bint stale               # the item stays, marked, with another cas; nobody has won it
    bint emptied             # the item stays, without value, with the client flags `flags`, with another cas
    bint expiring            # where it stays: it gets the expiry `exptime`
    uint32_t exptime
    uint32_t flags
    bint numbered            # where it stays: it gets the cas `number`
    uint64_t number

cdef bint store_look(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, Put *creating, uint32_t now,
                     Sight *g) noexcept nogil
cdef void fill_sight(Shard *sh, handle_t h, bint created, uint32_t now, Sight *g) noexcept nogil
cdef int64_t sight_ttl(Sight *g) noexcept nogil
cdef void sight_expire(Sight *g, uint32_t exptime) noexcept nogil
cdef bint sight_expires_before(Sight *g, uint32_t when) noexcept nogil
cdef uint32_t sight_claim(Sight *g, bint winning) noexcept nogil
cdef void sight_count(Sight *g, bint touched) noexcept nogil
cdef void sight_bump(Sight *g) noexcept nogil
cdef uint32_t sight_class(Sight *g) noexcept nogil
cdef uint64_t sight_size(Sight *g) noexcept nogil
cdef Outcome store_remove(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, const Removal *terms,
                          uint32_t now) noexcept nogil
