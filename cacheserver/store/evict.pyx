# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""Eviction and making room: see evict.pxd."""
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from cacheserver.store.arena cimport (
    CHUNK_BITS,
    PAGE_DRAINING,
    PAGE_RUN,
    Arena,
    Page,
    arena_take_page,
    item_at,
    page_of,
)
from cacheserver.store.index cimport index_hash, index_insert, index_remove, index_replace, index_slot
from cacheserver.store.item cimport (
    ACTIVE,
    FETCHED,
    LIVE,
    LOOSE,
    SEGMENT,
    SEGMENT_SHIFT,
    STATE,
    Item,
    handle_t,
    item_bytes,
    item_expired,
    item_key,
)
from cacheserver.store.journal cimport ITEM_EVICTED, Record, journal_write
from cacheserver.store.lru cimport (
    LRU_REMOVED,
    LRU_ROTATE,
    LRU_SKIP,
    LRU_STOP,
    LruStatus,
    lru_balance,
    lru_link,
    lru_replace,
    lru_unlink,
    lru_walk,
)
from cacheserver.store.platform cimport (
    pointer_look,
    prefetch,
    pthread_mutex_trylock,
    pthread_mutex_unlock,
    sched_yield,
)
from cacheserver.store.rebalance cimport NOBODY, ClassView, rebalance_giver
from cacheserver.store.shard cimport CLASS_MAX, COLD, HOT, WARM, Shard, SlabClass
from cacheserver.store.slab cimport (
    slab_adopt,
    slab_alloc,
    slab_alloc_run,
    slab_class_of,
    slab_close_page,
    slab_free,
    slab_owns,
    slab_reopen_page,
    slab_sizes,
)

cdef enum:
    AHEAD = 16               # items of a page whose buckets and neighbours are fetched before they are touched
    WALK = 48                # items of a tail looked at for one that may go
    SAMPLE = 128             # pages compared when the one at the tail will not do
    PROBES = 8               # chunks looked at to know how warm a page is
    FIT_UP = 3               # an item may lie in a chunk of up to FIT_UP / 2 times its size before a page is moved for it


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


cdef handle_t coldest_item(Shard *sh, uint32_t cls) noexcept nogil:
    cdef SlabClass *k = &sh.classes[cls]
    if k.segments[COLD].tail:
        return k.segments[COLD].tail
    return k.segments[WARM].tail if k.segments[WARM].tail else k.segments[HOT].tail


cdef uint32_t tail_age(Shard *sh, uint32_t cls) noexcept nogil:
    """Seconds since the coldest item of a class was used."""
    cdef handle_t h = coldest_item(sh, cls)
    cdef uint32_t atime
    if h == 0:
        return 0
    atime = item_at(sh.arena, h).atime
    return sh.now - atime if sh.now > atime else 0


cdef uint32_t spare_pages(SlabClass *k) noexcept nogil:
    """Pages' worth of free chunks."""
    return k.pages - <uint32_t>((k.used + k.nchunks - 1) // k.nchunks)


cdef uint32_t coldest_class(Shard *sh, bint sparse) noexcept nogil:
    """The class (the run class included) to take memory from next; NOBODY if the shard holds none.

    `sparse`: first one with a page's worth of holes, for a caller that moves what it finds into them.
    """
    cdef uint32_t c, best = NOBODY, runs = slab_sizes().count
    cdef uint64_t score, top = 0
    for c in range(runs + 1):
        if sh.classes[c].pages == 0:
            continue
        score = <uint64_t>tail_age(sh, c) + 1
        if sparse and c < runs and spare_pages(&sh.classes[c]) >= 1:
            score += <uint64_t>1 << 32
        if score > top:
            top = score
            best = c
    return best


cdef bint may_empty(Shard *sh, uint32_t page) noexcept nogil:
    cdef Page *p = &sh.arena.pages[page]
    return p.pins == 0 and p.state != PAGE_DRAINING


cdef uint64_t page_heat(Shard *sh, uint32_t page) noexcept nogil:
    """How much it would hurt to lose a page, from a few of its chunks: items not in COLD first, then the latest use.

    A page is not as cold as its coldest item: chunks that eviction frees one by one are filled again at once, so the
    page at the tail may hold the newest items, too.
    """
    cdef Page *p = &sh.arena.pages[page]
    cdef uint32_t chunk = 0, step = p.bump // PROBES + 1
    cdef uint64_t warm = 0, latest = 0
    cdef Item *it
    while chunk < p.bump:
        it = item_at(sh.arena, page << CHUNK_BITS | chunk)
        if it.bits & STATE == LIVE:
            warm += (it.bits & SEGMENT) >> SEGMENT_SHIFT != COLD
            if it.atime > latest:
                latest = it.atime
        chunk += step
    return warm << 32 | latest


cdef uint32_t oldest_page(Shard *sh, uint32_t cls) noexcept nogil:
    """A page of the class (NOBODY: of any) that may be emptied, the coldest of a sample, found by the page table alone."""
    cdef Arena *a = sh.arena
    cdef uint32_t best = 0, seen = 0, i, page, start = sh.turn
    cdef uint64_t heat, least = 0
    for i in range(1, a.high):
        page = 1 + (start + i) % (a.high - 1)
        if not slab_owns(sh, page) or not may_empty(sh, page) or a.pages[page].used == 0:
            continue
        if cls != NOBODY and a.pages[page].cls != cls:
            continue
        heat = page_heat(sh, page)
        if best == 0 or heat < least:
            best = page
            least = heat
        seen += 1
        if seen == SAMPLE:
            sh.turn = page
            break
    return best


cdef uint32_t victim_page(Shard *sh, uint32_t cls, bint sparse) noexcept nogil:
    """The page of a class that costs least to empty: the coldest, or (`sparse`) the one with fewest items if there are
    holes for them. Without holes a sparse page is no bargain: the newest items lie on one."""
    cdef SlabClass *k = &sh.classes[cls]
    cdef uint32_t page, best = 0, used = 0xffffffff, seen = 0
    cdef handle_t h = coldest_item(sh, cls)
    if sparse and k.nchunks > 1 and spare_pages(k) >= 1:
        page = k.open
        while page and seen < WALK * 4:
            if sh.arena.pages[page].used < used and may_empty(sh, page):
                used = sh.arena.pages[page].used
                best = page
            page = sh.arena.pages[page].next
            seen += 1
        if best:
            return best
    if h and may_empty(sh, h >> CHUNK_BITS) and page_heat(sh, h >> CHUNK_BITS) >> 32 == 0:
        return h >> CHUNK_BITS
    return oldest_page(sh, cls)


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


cdef handle_t fresh_chunk(Shard *sh, uint32_t cls) noexcept nogil:
    """A chunk that costs nobody anything: from an open page, or from a page that there is leave for."""
    cdef handle_t h = slab_alloc(sh, cls)
    cdef uint32_t page
    if h:
        return h
    page = arena_take_page(sh.arena, False)
    if page == 0:
        return 0
    slab_adopt(sh, page, cls)
    return slab_alloc(sh, cls)


cdef void balance(Shard *sh, uint32_t taker) noexcept nogil:
    """Now and then, let the class that must evict have a page of one whose items are colder."""
    cdef ClassView views[CLASS_MAX]
    cdef uint32_t c, count = slab_sizes().count, giver, page
    for c in range(count):
        views[c].pages = sh.classes[c].pages
        views[c].age = tail_age(sh, c) if sh.classes[c].pages else 0
        views[c].spare = spare_pages(&sh.classes[c])
    giver = rebalance_giver(views, count, taker)
    if giver == NOBODY:
        return
    page = victim_page(sh, giver, False)
    if page and evict_page(sh, page):
        sh.slabs_moved += 1


cdef handle_t room_in_class(Shard *sh, uint32_t cls) noexcept nogil:
    """A chunk of this class by evicting from it; 0 if it has nothing to evict."""
    cdef uint32_t tries
    cdef handle_t h
    if sh.since_balance > sh.classes[cls].nchunks // 2 + 16:
        sh.since_balance = 0
        balance(sh, cls)
        h = fresh_chunk(sh, cls)
        if h:
            return h
    for tries in range(4):
        if not evict_one(sh, cls, 0):
            return 0
        h = fresh_chunk(sh, cls)
        if h:
            return h
    return 0


cdef handle_t room_from_others(Shard *sh, uint32_t cls) noexcept nogil:
    """A page of another shard, for a shard that has none to give up itself."""
    cdef uint32_t i, tries
    cdef Shard *other
    cdef handle_t h
    for tries in range(64):
        for i in range(1, sh.nshards):
            other = &sh.all[(sh.number + i) % sh.nshards]
            if pthread_mutex_trylock(&other.lock) != 0:
                continue
            evict_coldest(other)
            pthread_mutex_unlock(&other.lock)
            h = fresh_chunk(sh, cls)
            if h:
                return h
        sched_yield()
    return 0


cdef handle_t room_above(Shard *sh, uint32_t cls, uint64_t nbytes) noexcept nogil:
    """A chunk of a larger class that has pages already, not too much too large; 0 if there is no such class."""
    cdef uint32_t c = cls + 1, count = slab_sizes().count
    cdef handle_t h = 0
    while h == 0 and c < count and sh.classes[c].chunk_size * 2 <= nbytes * FIT_UP:
        if sh.classes[c].pages:
            h = fresh_chunk(sh, c)
            if h == 0:
                h = room_in_class(sh, c)
        c += 1
    return h


cdef handle_t last_resort(Shard *sh, uint32_t cls) noexcept nogil:
    """A shard with no page at all takes one without leave, so that a write never fails because memory is tight."""
    cdef uint32_t page
    if sh.pages:
        return 0
    page = arena_take_page(sh.arena, True)
    if page == 0:
        return 0
    slab_adopt(sh, page, cls)
    return slab_alloc(sh, cls)


cdef handle_t room_for(Shard *sh, uint64_t nbytes) noexcept nogil:
    """A chunk for an item of `nbytes`: free, new with leave, or made by eviction; 0 only if nothing may be evicted.

    An item that needs a run gets it only where there is leave: making room for one takes system calls (see receive).
    """
    cdef uint32_t cls = slab_class_of(nbytes)
    cdef SlabClass *k = &sh.classes[cls]
    cdef handle_t h
    if cls == slab_sizes().count:
        return slab_alloc_run(sh, nbytes, False)
    h = fresh_chunk(sh, cls)
    if h or sh.no_evictions:
        return h
    sh.classes[cls].direct_reclaims += 1
    if k.pages:
        h = room_in_class(sh, cls)
    if h == 0:
        h = room_above(sh, cls, nbytes)
    if h == 0 and evict_coldest(sh):
        h = fresh_chunk(sh, cls)
    if h == 0:
        h = room_from_others(sh, cls)
    return h if h else last_resort(sh, cls)
