# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""Eviction: see evict.pxd."""
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from cacheserver.store.arena cimport CHUNK_BITS, PAGE_RUN, Page, item_at, page_of
from cacheserver.store.index cimport index_hash, index_insert, index_remove, index_replace, index_slot
from cacheserver.store.item cimport (
    ACTIVE, FETCHED, LIVE, LOOSE, SEGMENT, SEGMENT_SHIFT, STATE, Item, handle_t, item_bytes, item_expired,
    item_key,
)
from cacheserver.store.journal cimport ITEM_EVICTED, Record, journal_write
from cacheserver.store.lru cimport (
    LRU_REMOVED, LRU_ROTATE, LRU_SKIP, LRU_STOP, LruStatus, lru_balance, lru_link, lru_replace, lru_unlink,
    lru_walk,
)
from cacheserver.store.platform cimport pointer_look, prefetch
from cacheserver.store.rebalance cimport NOBODY
from cacheserver.store.shard cimport COLD, HOT, WARM, Shard, SlabClass
from cacheserver.store.slab cimport slab_alloc, slab_close_page, slab_free, slab_owns, slab_reopen_page
from cacheserver.store.victim cimport coldest_class, may_empty, oldest_page, victim_page


cdef enum:
    AHEAD = 16               # items of a page whose buckets and neighbours are fetched before they are touched
    WALK = 48                # items of a tail looked at for one that may go

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
    if it.exptime and it.exptime < p.min_exp:
        p.min_exp = it.exptime
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


cdef bint in_use(Item *it) noexcept nogil:
    """Just stored, read more than once, or promoted: worth more than an item at the tail."""
    return it.bits & ACTIVE or (it.bits & SEGMENT) >> SEGMENT_SHIFT != COLD


cdef bint rescue_item(Shard *sh, uint32_t page, uint64_t hash, handle_t h, Item *it, bint displace) noexcept nogil:
    """Copy a live item of a closed page into a hole of another page of its class; `displace`: make one at the tail."""
    cdef uint32_t cls = page_of(sh.arena, h).cls
    cdef SlabClass *k = &sh.classes[cls]
    cdef handle_t moved = slab_alloc(sh, cls)
    cdef Item *copy
    cdef Page *p
    if moved == 0 and displace and evict_one(sh, cls, page):
        moved = slab_alloc(sh, cls)
    if moved == 0:
        return False
    copy = item_at(sh.arena, moved)
    memcpy(copy, it, item_bytes(it))
    index_replace(&sh.index, hash, h, moved)
    lru_replace(sh.arena, k, copy, moved)
    p = page_of(sh.arena, moved)
    if copy.exptime and copy.exptime < p.min_exp:
        p.min_exp = copy.exptime
    slab_free(sh, h)
    sh.rescued += 1
    return True


cdef void empty_page(Shard *sh, uint32_t page, uint32_t begin, uint32_t count, EmptyHow how) noexcept nogil:
    """Take what lives in `count` chunks of a closed page, from `begin` on, off that page.

    EMPTY_COLD removes what is not in use (a hole elsewhere saves it) and moves the rest out of the tail's way, so that
    EMPTY_RESCUE, which comes after it, finds colder items than these at the tail to put them in the place of.
    """
    cdef Page *p = &sh.arena.pages[page]
    cdef uint32_t chunk = begin, end = p.bump, stop, n, i
    cdef handle_t handles[AHEAD]
    cdef uint64_t hashes[AHEAD]
    cdef Item *it
    if end - begin > count:
        end = begin + count
    while chunk < end:
        n = 0
        stop = chunk + AHEAD if end - chunk > AHEAD else end
        while chunk < stop:
            it = item_at(sh.arena, page << CHUNK_BITS | chunk)
            if it.bits & STATE == LIVE and it.refs == 0:
                handles[n] = page << CHUNK_BITS | chunk
                hashes[n] = hash_of(sh, it)
                prefetch(&sh.index.buckets[index_slot(&sh.index, hashes[n])])
                prefetch(item_at(sh.arena, it.prev))
                prefetch(item_at(sh.arena, it.next))
                n += 1
            chunk += 1
        for i in range(n):
            take_off(sh, page, hashes[i], handles[i], how)


cdef void take_off(Shard *sh, uint32_t page, uint64_t hash, handle_t h, EmptyHow how) noexcept nogil:
    """One item of a page that is being emptied. An item that was read ahead may have been evicted meanwhile."""
    cdef Item *it = item_at(sh.arena, h)
    cdef SlabClass *k = &sh.classes[page_of(sh.arena, h).cls]
    if it.bits & STATE != LIVE:
        return
    if how != EMPTY_ALL and not item_expired(it, sh.now):
        if rescue_item(sh, page, hash, h, it, how == EMPTY_RESCUE):
            return
        if how == EMPTY_COLD and in_use(it):
            if (it.bits & SEGMENT) >> SEGMENT_SHIFT == COLD:
                lru_unlink(sh.arena, k, h, it)
                lru_link(sh.arena, k, h, it, WARM)
            return
    evict_item(sh, hash, h, it)


cdef bint evict_page(Shard *sh, uint32_t page) noexcept nogil:
    """Empty a page at once, without rescue; it ends in the arena's pool. A run's page: its item goes."""
    cdef Page *p = &sh.arena.pages[page]
    cdef Item *it
    cdef bint emptied
    if p.state == PAGE_RUN:
        it = item_at(sh.arena, page << CHUNK_BITS)
        evict_item(sh, hash_of(sh, it), page << CHUNK_BITS, it)
        return True
    slab_close_page(sh, page)
    empty_page(sh, page, 0, p.bump, EMPTY_ALL)
    emptied = p.used == 0
    slab_reopen_page(sh, page)
    return emptied


cdef bint evict_coldest(Shard *sh) noexcept nogil:
    """Empty the coldest page of the shard; False if there is none that may go."""
    cdef uint32_t cls, page = sh.draining
    if page:
        sh.draining = 0      # half empty already
        slab_reopen_page(sh, page)
        if slab_owns(sh, page) and may_empty(sh, page):
            return evict_page(sh, page)
    cls = coldest_class(sh, False)
    if cls == NOBODY:
        return False
    page = victim_page(sh, cls, False)
    if page == 0:
        page = oldest_page(sh, NOBODY)
    return page != 0 and evict_page(sh, page)
