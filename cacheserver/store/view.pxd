# cython: language_level=3
"""How a reader keeps what it has found: a view, under the lock of the item's shard, and pins, without it.

Knows: items that others have found. Must not know: keys, the protocol, sockets, pressure.
Memory: a View is good until store_done() or store_pin(); pinned bytes until store_unpin(), which must come exactly once.
Threads: any thread. While a View is good its shard's lock is held: no other store function and no system call in between.
"""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.arena cimport item_at
from cacheserver.store.item cimport Item, handle_t, item_flags, item_value
from cacheserver.store.shard cimport Shard, StoreC

cdef struct View:
    Shard *shard
    Item *item
    handle_t handle
    const char *value
    uint32_t nbytes
    uint32_t flags
    uint64_t cas
    bint expired             # a miss because the item had expired

cdef inline void fill_view(Shard *sh, handle_t h, View *v) noexcept nogil:
    cdef Item *it = item_at(sh.arena, h)
    v.shard = sh
    v.item = it
    v.handle = h
    v.value = item_value(it)
    v.nbytes = it.nbytes
    v.flags = item_flags(it)
    v.cas = it.cas
    v.expired = False

cdef void store_done(View *v) noexcept nogil
cdef uint64_t store_pin(StoreC *s, View *v) noexcept nogil
cdef void store_unpin(StoreC *s, uint64_t pin) noexcept nogil
cdef void pin_item(Shard *sh, handle_t h, Item *it) noexcept nogil
cdef bint unpin_item(Shard *sh, handle_t h, Item *it) noexcept nogil
