# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""In and out of a shard: see link.pxd."""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.arena cimport Page, item_at, page_of
from cacheserver.store.deadlines cimport note_deadline
from cacheserver.store.hashing cimport key_hash
from cacheserver.store.index cimport (
    INSERT_FAILED,
    INSERTED_AGAIN,
    Inserted,
    index_insert,
    index_remove,
    index_replace,
)
from cacheserver.store.item cimport LIVE, LOOSE, STATE, Item, handle_t, item_bytes, item_key
from cacheserver.store.lru cimport lru_entry, lru_inherit, lru_link, lru_unlink
from cacheserver.store.shard cimport Shard, SlabClass
from cacheserver.store.slab cimport slab_free
from cacheserver.store.steer cimport steer_store


cdef uint64_t hash_of(Shard *sh, Item *it) noexcept nogil:
    return key_hash(&sh.index.hasher, item_key(it), it.nkey)


cdef void let_go(Shard *sh, handle_t h, Item *it) noexcept nogil:
    """The rest of a removal, when an item is out of the index."""
    cdef SlabClass *k = &sh.classes[page_of(sh.arena, h).cls]
    cdef uint64_t n = item_bytes(it)
    lru_unlink(sh.arena, k, it)
    k.bytes -= n
    sh.bytes -= n
    if it.refs:
        it.bits = (it.bits & ~STATE) | LOOSE
    else:
        slab_free(sh, h)


cdef bint link_item(Shard *sh, uint64_t hash, handle_t h, Item *it, handle_t old) noexcept nogil:
    """Make a LOOSE item LIVE, in the place of `old`, which has its key (0: none has); False, which happens only without
    an `old`, if the index has no room."""
    cdef Page *p = page_of(sh.arena, h)
    cdef SlabClass *k = &sh.classes[p.cls]
    cdef uint64_t n = item_bytes(it)
    cdef Inserted inserted
    cdef uint32_t segment
    if old:
        segment = lru_inherit(sh, it, item_at(sh.arena, old))
        index_replace(&sh.index, hash, old, h)
        let_go(sh, old, item_at(sh.arena, old))
    else:
        inserted = index_insert(&sh.index, sh.arena, hash, h)
        if inserted == INSERT_FAILED:
            return False
        segment = lru_entry(sh, k, inserted == INSERTED_AGAIN)
    it.bits = (it.bits & ~STATE) | LIVE
    lru_link(sh.arena, k, h, it, segment)
    steer_store(sh, hash)
    if it.exptime:
        note_deadline(sh.arena, h, it.exptime, sh.now)
    k.bytes += n
    sh.bytes += n
    return True


cdef void remove_item(Shard *sh, uint64_t hash, handle_t h, Item *it) noexcept nogil:
    """Take a LIVE item out of index and segment; its chunk is free at once, or when its last pin is given back."""
    index_remove(&sh.index, sh.arena, hash, h)
    let_go(sh, h, it)
