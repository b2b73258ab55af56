# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""Eviction: see evict.pxd."""
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from cacheserver.store.arena cimport CHUNK_BITS, page_of
from cacheserver.store.item cimport ACTIVE, FETCHED, Item, handle_t, item_expired, item_key
from cacheserver.store.journal cimport ITEM_EVICTED, Record, journal_write
from cacheserver.store.link cimport hash_of, remove_item
from cacheserver.store.lru cimport LRU_REMOVED, LRU_ROTATE, LRU_SKIP, LRU_STOP, LruStatus, lru_walk
from cacheserver.store.platform cimport pointer_look
from cacheserver.store.shard cimport COLD, HOT, WARM, Shard, SlabClass

cdef enum:
    WALK = 48                # items of a tail looked at for one that may go


cdef void note_eviction(Shard *sh, uint32_t cls, Item *it) noexcept nogil:
    """Write an eviction in the shard's journal. Lock held: one writer at a time, and no wait."""
    cdef Record r
    r.what = ITEM_EVICTED
    r.status = r.command = 0
    r.fetched = it.bits & FETCHED != 0
    r.ttl = <int64_t>it.exptime - sh.now if it.exptime else -1
    r.age = sh.now - it.atime if sh.now > it.atime else 0
    r.nbytes = it.nbytes
    r.clsid = <uint16_t>(cls + 1)
    r.cfd = 0
    r.nkey = it.nkey
    journal_write(&sh.journal, &r, item_key(it))


cdef void evict_item(Shard *sh, uint64_t hash, handle_t h, Item *it) noexcept nogil:
    """Drop a live item for its memory (or because it has expired) and count which."""
    cdef SlabClass *k = &sh.classes[page_of(sh.arena, h).cls]
    if item_expired(it, sh.now):
        k.reclaimed += 1
        sh.reclaimed += 1
        k.expired_unfetched += not it.bits & FETCHED
    else:
        k.evicted += 1
        sh.evictions += 1
        sh.since_balance += 1
        k.evicted_nonzero += it.exptime != 0
        k.evicted_unfetched += not it.bits & FETCHED
        k.evicted_active += (it.bits & ACTIVE) != 0
        k.evicted_time = sh.now - it.atime if sh.now > it.atime else 0
        if pointer_look(&sh.journal.ring) != NULL:
            note_eviction(sh, page_of(sh.arena, h).cls, it)
    remove_item(sh, hash, h, it)


cdef struct Hunt:
    Shard *sh
    uint32_t spare           # page whose items are not to be taken
    uint32_t removed
    bint second_chance


cdef LruStatus take_one(void *context, handle_t h, Item *it) noexcept nogil:
    cdef Hunt *hunt = <Hunt *>context
    if hunt.removed:
        return LRU_STOP
    if it.refs:
        hunt.sh.classes[page_of(hunt.sh.arena, h).cls].lrutail_reflocked += 1
        return LRU_SKIP
    if hunt.spare and h >> CHUNK_BITS == hunt.spare:
        return LRU_SKIP
    if hunt.second_chance and it.bits & ACTIVE and not item_expired(it, hunt.sh.now):
        return LRU_ROTATE
    evict_item(hunt.sh, hash_of(hunt.sh, it), h, it)
    hunt.removed = 1
    return LRU_REMOVED


cdef bint evict_one(Shard *sh, uint32_t cls, uint32_t spare) noexcept nogil:
    """Evict the coldest item of a class that is neither pinned nor on page `spare`."""
    cdef Hunt hunt
    hunt.sh = sh
    hunt.spare = spare
    hunt.removed = 0
    hunt.second_chance = True
    lru_walk(sh.arena, &sh.classes[cls], COLD, take_one, &hunt, WALK)
    hunt.second_chance = False
    if not hunt.removed:
        lru_walk(sh.arena, &sh.classes[cls], COLD, take_one, &hunt, WALK)
    if not hunt.removed:
        lru_walk(sh.arena, &sh.classes[cls], WARM, take_one, &hunt, WALK)
    if not hunt.removed:
        lru_walk(sh.arena, &sh.classes[cls], HOT, take_one, &hunt, WALK)
    return hunt.removed
