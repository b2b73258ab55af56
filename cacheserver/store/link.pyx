# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""In and out of a shard: see link.pxd."""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.arena cimport Page, page_of
from cacheserver.store.deadlines cimport note_deadline
from cacheserver.store.index cimport index_hash, index_insert, index_remove
from cacheserver.store.item cimport LIVE, LOOSE, STATE, Item, handle_t, item_bytes, item_key
from cacheserver.store.lru cimport lru_balance, lru_link, lru_unlink
from cacheserver.store.shard cimport Shard, SlabClass
from cacheserver.store.slab cimport slab_free


cdef uint64_t hash_of(Shard *sh, Item *it) noexcept nogil:
    return index_hash(&sh.index.hasher, item_key(it), it.nkey)


cdef bint link_item(Shard *sh, uint64_t hash, handle_t h, Item *it, uint32_t segment) noexcept nogil:
    """Make a LOOSE item LIVE; its key is not in the index."""
    cdef Page *p = page_of(sh.arena, h)
    cdef SlabClass *k = &sh.classes[p.cls]
    cdef uint64_t n = item_bytes(it)
    if not index_insert(&sh.index, sh.arena, hash, h):
        return False
    it.bits = (it.bits & ~STATE) | LIVE
    lru_link(sh.arena, k, h, it, segment)
    lru_balance(sh.arena, k, 2)
    if it.exptime:
        note_deadline(sh.arena, h, it.exptime, sh.now)
    k.bytes += n
    sh.bytes += n
    return True


cdef void remove_item(Shard *sh, uint64_t hash, handle_t h, Item *it) noexcept nogil:
    """Take a LIVE item out of index and LRU; its chunk is free at once, or when its last pin is given back."""
    cdef SlabClass *k = &sh.classes[page_of(sh.arena, h).cls]
    cdef uint64_t n = item_bytes(it)
    index_remove(&sh.index, sh.arena, hash, h)
    lru_unlink(sh.arena, k, h, it)
    k.bytes -= n
    sh.bytes -= n
    if it.refs:
        it.bits = (it.bits & ~STATE) | LOOSE
    else:
        slab_free(sh, h)
