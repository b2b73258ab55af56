# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Views and pins: see view.pxd."""
from libc.stdint cimport uint64_t

from cacheserver.store.arena cimport item_at, page_of
from cacheserver.store.item cimport LOOSE, REFS_MAX, STATE, Item, handle_t
from cacheserver.store.lock cimport lock_shard
from cacheserver.store.platform cimport pthread_mutex_unlock
from cacheserver.store.shard cimport Shard, StoreC
from cacheserver.store.slab cimport slab_free


cdef void store_done(View *v) noexcept nogil:
    pthread_mutex_unlock(&v.shard.lock)


cdef void pin_item(Shard *sh, handle_t h, Item *it) noexcept nogil:
    """Keep an item's bytes where they are and as they are. Lock held; refs < REFS_MAX."""
    if it.refs == 0:
        page_of(sh.arena, h).pins += 1
    it.refs += 1


cdef bint unpin_item(Shard *sh, handle_t h, Item *it) noexcept nogil:
    """Give a pin back; True if that freed the chunk of an item removed meanwhile. Lock held."""
    it.refs -= 1
    if it.refs:
        return False
    page_of(sh.arena, h).pins -= 1
    if it.bits & STATE != LOOSE:
        return False
    slab_free(sh, h)
    return True


cdef uint64_t store_pin(StoreC *s, View *v) noexcept nogil:
    """End the view but keep its value's bytes until store_unpin(); 0 (and the lock still held) if it has all the pins it can."""
    if v.item.refs == REFS_MAX:
        return 0
    pin_item(v.shard, v.handle, v.item)
    pthread_mutex_unlock(&v.shard.lock)
    return v.handle


cdef void store_unpin(StoreC *s, uint64_t pin) noexcept nogil:
    cdef handle_t h = <handle_t>pin
    cdef Shard *sh = &s.shards[page_of(&s.arena, h).shard]
    lock_shard(sh)
    unpin_item(sh, h, item_at(&s.arena, h))
    pthread_mutex_unlock(&sh.lock)
