# cython: language_level=3
"""Operations by key: get, put, delete, touch, flush.

Knows: items by key, and the rules that make a write happen or not. Must not know: the protocol, sockets, pressure.
Memory: the StoreC owns arena and shards. Threads: every function may be called from any thread. Lock order: one shard, then
the arena. store_get() == True leaves the shard's lock held, until the view ends: see view.
Times are seconds of the store's clock, chosen by the caller; exptime 0 = never.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from cacheserver.store.arena cimport item_at
from cacheserver.store.hashing cimport key_hash
from cacheserver.store.index cimport index_glance, index_slot
from cacheserver.store.item cimport Item, handle_t
from cacheserver.store.journal cimport Found
from cacheserver.store.platform cimport prefetch
from cacheserver.store.shard cimport Shard, SlabClass, StoreC, shard_of
from cacheserver.store.view cimport View

cdef enum PutMode:
    PUT_SET, PUT_ADD, PUT_REPLACE, PUT_APPEND, PUT_PREPEND, PUT_CAS

cdef enum Outcome:
    STORED                   # also: deleted, touched, computed
    NOT_STORED
    EXISTS
    NOT_FOUND
    TOO_LARGE
    NO_MEMORY
    NOT_A_NUMBER

cdef enum:
    LINE = 64                # bytes of a cache line
    LINES_AHEAD = 3          # of an item: header, key, and a small value; the processor fetches what follows by itself

cdef struct Put:             # the terms of a write, and what came of it
    PutMode mode
    bint clearing            # where it fails for want of room no old value stays
    bint tolerant            # PUT_CAS: an item with a higher cas is overwritten, too; the new one is stale and expires as the old
    bint comparing           # PUT_APPEND, PUT_PREPEND: the cas is compared
    bint creating            # PUT_APPEND, PUT_PREPEND: a key that is not there is stored
    bint encoded             # see struct Item
    bint numbered            # the item gets the cas `number`
    uint64_t number
    uint64_t compare         # PUT_CAS: the cas the item must have; 0 = none will do
    uint64_t cas             # of the item that was stored; 0 where none was
    uint32_t nbytes          # of the value that was stored, or sent

cdef struct Seen:            # what this thread's last lookup by key found, before anything was done to it
    bint fresh               # a lookup was made since the caller last set this to False
    Found found
    uint32_t clsid           # as in Record; 0 where nothing was found, as are the others
    uint32_t nbytes
    uint32_t flags
    uint32_t exptime

cdef Seen *store_seen() noexcept nogil
cdef uint32_t store_clsid(uint32_t nkey, uint32_t flags, uint64_t nbytes) noexcept nogil
cdef bint store_get(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, uint32_t now, bint touching,
                    View *v) noexcept nogil
cdef void store_view_expire(View *v, uint32_t exptime) noexcept nogil
cdef Outcome store_put(StoreC *s, Put *put, uint64_t hash, const char *key, uint32_t nkey, uint32_t flags,
                       uint32_t exptime, const char *value, uint32_t nbytes, uint32_t now) noexcept nogil
cdef Outcome store_delete(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, uint32_t now) noexcept nogil
cdef void store_drop(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, uint32_t now) noexcept nogil
cdef Outcome store_touch(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, uint32_t exptime,
                         uint32_t now) noexcept nogil
cdef handle_t find_live(Shard *sh, uint64_t hash, const char *key, uint32_t nkey, uint32_t now) noexcept nogil
cdef Outcome may_put(Shard *sh, const Put *put, handle_t old) noexcept nogil
cdef void end_put(StoreC *s, Shard *sh, Put *put, Item *it) noexcept nogil
cdef handle_t put_new(StoreC *s, Shard *sh, uint64_t hash, const char *key, uint32_t nkey, uint32_t flags,
                      uint32_t exptime, const char *value, uint32_t nbytes) noexcept nogil
cdef void set_exptime(Shard *sh, handle_t h, Item *it, uint32_t exptime) noexcept nogil
cdef void count_hit(Shard *sh, SlabClass *k, Item *it) noexcept nogil
cdef void count_put(Shard *sh, uint32_t cls, PutMode mode, Outcome outcome) noexcept nogil
cdef uint64_t next_cas(StoreC *s, Shard *sh) noexcept nogil
cdef void choose_cas(StoreC *s, Shard *sh, Item *it, uint64_t cas) noexcept nogil
cdef void store_flush(StoreC *s) noexcept nogil
cdef void store_flush_later(StoreC *s, uint32_t when) noexcept nogil
cdef void store_tick(StoreC *s, uint32_t now) noexcept nogil

cdef inline uint64_t store_hash(StoreC *s, const char *key, uint32_t nkey) noexcept nogil:
    return key_hash(&s.shards[0].index.hasher, key, nkey)

cdef inline void store_prefetch(StoreC *s, uint64_t hash) noexcept nogil:
    """Start fetching the bucket of a hash: for the caller that knows the next keys already. A racy read of the size."""
    cdef Shard *sh = shard_of(s, hash)
    prefetch(&sh.index.buckets[index_slot(&sh.index, hash)])

cdef inline void store_prefetch_item(StoreC *s, uint64_t hash) noexcept nogil:
    """Start fetching the item that a hash most likely stands for, whose bucket store_prefetch() has asked for before."""
    cdef handle_t h = index_glance(&shard_of(s, hash).index, hash)
    cdef char *it
    cdef uint32_t i
    if h:
        it = <char *>item_at(&s.arena, h)
        for i in range(LINES_AHEAD):
            prefetch(it + LINE * i)
