# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Eviction: see evict.pxd."""
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from cacheserver.store.arena cimport page_of
from cacheserver.store.item cimport FETCHED, Item, handle_t, item_expired, item_key
from cacheserver.store.index cimport index_remember
from cacheserver.store.journal cimport ITEM_EVICTED, Record, journal_write
from cacheserver.store.link cimport hash_of, remove_item
from cacheserver.store.lru cimport (
    LRU_REMOVED,
    LRU_ROTATE,
    LRU_SKIP,
    LRU_STOP,
    LruStatus,
    lru_earned,
    lru_segment,
    lru_spared,
    lru_victims,
    lru_walk,
)
from cacheserver.store.platform cimport pointer_look
from cacheserver.store.shard cimport HOT, WARM, Shard, SlabClass

cdef enum:
    WALK = 48                # items of a tail looked at for one that may go
    PROVEN = 512             # of HOT's, which sees each item once: where a cache was warmed before it was full, long rows
                             # of them have proved themselves, and giving up early would cost as many of those


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
    """Drop a live item for its memory (or because it has expired) and count which.

    Its key is remembered if it had no time to prove itself, or goes with its page though it has reads to its credit:
    should it come back soon it was dropped wrongly. What has come to WARM's tail without any has had its time.
    """
    cdef SlabClass *k = &sh.classes[page_of(sh.arena, h).cls]
    cdef bint remembered = False
    if item_expired(it, sh.now):
        k.reclaimed += 1
        sh.reclaimed += 1
        k.expired_unfetched += not it.bits & FETCHED
    else:
        remembered = sh.manner.ghosts and (lru_segment(it) == HOT or lru_spared(sh, it))
        k.evicted += 1
        sh.evictions += 1
        sh.since_balance += 1
        k.evicted_nonzero += it.exptime != 0
        k.evicted_unfetched += not it.bits & FETCHED
        k.evicted_active += lru_spared(sh, it)
        k.evicted_time = sh.now - it.atime if sh.now > it.atime else 0
        if pointer_look(&sh.journal.ring) != NULL:
            note_eviction(sh, page_of(sh.arena, h).cls, it)
    remove_item(sh, hash, h, it)
    if remembered:
        index_remember(&sh.index, hash)


cdef struct Hunt:
    Shard *sh
    uint32_t removed
    bint fair                # what has earned another round gets it


cdef LruStatus take_one(void *context, handle_t h, Item *it) noexcept nogil:
    cdef Hunt *hunt = <Hunt *>context
    if hunt.removed:
        return LRU_STOP
    if it.refs:
        hunt.sh.classes[page_of(hunt.sh.arena, h).cls].lrutail_reflocked += 1
        return LRU_SKIP if hunt.fair else LRU_ROTATE     # so that many of them at a tail are stepped over once only
    if hunt.fair and not item_expired(it, hunt.sh.now) and lru_earned(&hunt.sh.manner, it):
        return LRU_ROTATE
    evict_item(hunt.sh, hash_of(hunt.sh, it), h, it)
    hunt.removed = 1
    return LRU_REMOVED


cdef bint evict_one(Shard *sh, uint32_t cls) noexcept nogil:
    """Evict the item of a class whose turn it is, of those not pinned; False if there is none.

    Where all at one tail have earned another round the other segment gives one. A call moves about PROVEN items at most;
    beyond these it only steps over what is pinned.
    """
    cdef SlabClass *k = &sh.classes[cls]
    cdef uint32_t first = lru_victims(sh, k), other = WARM if first == HOT else HOT
    cdef Hunt hunt
    hunt.sh = sh
    hunt.removed = 0
    hunt.fair = True
    lru_walk(sh.arena, k, first, take_one, &hunt, PROVEN if first == HOT else WALK)
    if not hunt.removed:
        lru_walk(sh.arena, k, other, take_one, &hunt, WALK)
    hunt.fair = False
    if not hunt.removed:
        lru_walk(sh.arena, k, first, take_one, &hunt, k.segments[first].count)
    if not hunt.removed:
        lru_walk(sh.arena, k, other, take_one, &hunt, k.segments[other].count)
    return hunt.removed
