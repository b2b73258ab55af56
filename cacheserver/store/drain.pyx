# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Emptying pages: see drain.pxd."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from cacheserver.store.arena cimport CHUNK_BITS, PAGE_RUN, PAGE_SLAB, Page, item_at, page_of
from cacheserver.store.classes cimport coldest_class
from cacheserver.store.deadlines cimport note_deadline
from cacheserver.store.discard cimport discard_page
from cacheserver.store.evict cimport evict_item, evict_one
from cacheserver.store.index cimport index_replace
from cacheserver.store.item cimport LIVE, STATE, Item, handle_t, item_bytes, item_expired
from cacheserver.store.link cimport fetch_links, hash_of
from cacheserver.store.lru cimport lru_replace
from cacheserver.store.platform cimport monotonic_ns, mutex_wanted
from cacheserver.store.poison cimport unpoison
from cacheserver.store.rebalance cimport NOBODY
from cacheserver.store.shard cimport DRAIN_FORCED, DRAIN_RESCUE, DrainHow, Rescue, Shard, SlabClass
from cacheserver.store.slab cimport slab_alloc, slab_close_page, slab_free, slab_owns, slab_reopen_page, slab_touch
from cacheserver.store.victim cimport coldness, item_warmth, may_empty, oldest_page, victim_page

cdef enum:
    AHEAD = 16               # items of a page whose buckets and neighbours are fetched before they are touched
    AHEAD_BYTES = 16384      # ... and no more than this in one go, as they may have to be copied
    SWEEP = 32               # chunks searched for cold items before the clock is looked at again
    STRIDES = 64             # pages passed, likewise
    DISPLACED = 8            # items evicted at most to make a hole for one
    SWEEPS = 8               # ... and how often, before an item has to wait
    HOLD = 20000             # nanoseconds that a slice keeps the lock

cdef enum Fate:              # of an item on a page that is being emptied
    GONE
    WAITS                    # no hole for it yet: the search goes on in the next slice
    STUCK                    # no hole for it, and none to be made


cdef bint sweep_block(Shard *sh, uint32_t page, uint32_t begin, uint32_t end) noexcept nogil:
    """Evict what is cold of some chunks of a page; False if nothing is."""
    cdef handle_t handles[SWEEP]
    cdef uint64_t hashes[SWEEP]
    cdef uint32_t n = 0, i, chunk
    cdef Item *it
    for chunk in range(begin, end):
        it = item_at(sh.arena, page << CHUNK_BITS | chunk)
        if it.bits & STATE == LIVE and it.refs == 0 and coldness(it, sh.now) >= sh.rescue.bound:
            handles[n] = page << CHUNK_BITS | chunk
            hashes[n] = hash_of(sh, it)
            fetch_links(sh, hashes[n], it)
            n += 1
    for i in range(n):
        evict_item(sh, hashes[i], handles[i], item_at(sh.arena, handles[i]))
    return n != 0


cdef Fate sweep(Shard *sh, uint32_t cls) noexcept nogil:
    """Make holes in other pages of a class by evicting what is cold there, page after page, some chunks at a time."""
    cdef Rescue *r = &sh.rescue
    cdef uint32_t strides, end
    cdef Page *p
    for strides in range(STRIDES):
        if r.page == 0 or r.page >= sh.arena.high:
            r.page = 1
            r.chunk = 0
        p = &sh.arena.pages[r.page]
        if slab_owns(sh, r.page) and p.state == PAGE_SLAB and p.cls == cls and r.chunk < p.bump:
            end = min(r.chunk + SWEEP, p.bump)
            if sweep_block(sh, r.page, r.chunk, end):
                r.passed = 0
                r.chunk = end
                return GONE
            r.chunk = end
            return WAITS
        r.page += 1
        r.chunk = 0
        r.passed += 1
        if r.passed > sh.arena.high:
            return STUCK
    return WAITS


cdef void move_item(Shard *sh, uint64_t hash, handle_t h, Item *it, handle_t hole) noexcept nogil:
    cdef Page *p = page_of(sh.arena, hole)
    cdef SlabClass *k = &sh.classes[p.cls]
    cdef Item *copy = item_at(sh.arena, hole)
    unpoison(copy, item_bytes(it))
    memcpy(copy, it, item_bytes(it))
    slab_touch(sh, hole, item_bytes(it))
    index_replace(&sh.index, hash, h, hole)
    lru_replace(sh.arena, k, copy, hole)
    if copy.exptime:
        note_deadline(sh.arena, hole, copy.exptime, sh.now)
    slab_free(sh, h)
    sh.rescued += 1


cdef handle_t displace(Shard *sh, uint32_t cls, Item *it) noexcept nogil:
    """A hole for a warm item in the place of one whose turn to be evicted it is; 0 if none was found soon.

    Whose turn it is may lie on the page that is being emptied, too, and makes no hole then, but one item less to move. It
    may be `it` itself, which is LIVE no more then.
    """
    cdef uint32_t tries
    cdef handle_t hole
    for tries in range(DISPLACED):
        if not evict_one(sh, cls) or it.bits & STATE != LIVE:
            return 0
        hole = slab_alloc(sh, cls)
        if hole:
            return hole
    return 0


cdef Fate take_off(Shard *sh, uint32_t page, uint64_t hash, handle_t h, Item *it) noexcept nogil:
    """One item of a page that is being emptied: moved, or removed where that is its worth."""
    cdef uint32_t cls = sh.arena.pages[page].cls
    cdef handle_t hole
    cdef Fate fate = WAITS
    cdef uint32_t tries
    if item_expired(it, sh.now) or (sh.how == DRAIN_RESCUE and coldness(it, sh.now) >= sh.rescue.bound):
        evict_item(sh, hash, h, it)
        return GONE
    hole = slab_alloc(sh, cls)
    if hole == 0 and sh.how == DRAIN_RESCUE:
        for tries in range(SWEEPS):
            fate = sweep(sh, cls)
            if fate != WAITS:
                break
        if fate == GONE:
            hole = slab_alloc(sh, cls)
        if hole == 0:
            return STUCK if fate == STUCK else WAITS     # what has gone may have been the last on its page
    elif hole == 0 and sh.how == DRAIN_FORCED:
        if item_warmth(it):
            hole = displace(sh, cls, it)
        if hole == 0:
            if it.bits & STATE == LIVE:
                evict_item(sh, hash, h, it)
            return GONE
    if hole == 0:
        return STUCK
    move_item(sh, hash, h, it, hole)
    return GONE


cdef Fate empty_block(Shard *sh, uint32_t page) noexcept nogil:
    """Take the next few items off the page; `drained` goes as far as that is done."""
    cdef Page *p = &sh.arena.pages[page]
    cdef uint32_t n = 0, i, chunk = sh.drained, stop = AHEAD_BYTES // p.chunk_size
    cdef handle_t handles[AHEAD]
    cdef uint64_t hashes[AHEAD]
    cdef Item *it
    cdef Fate fate
    stop = min(chunk + (1 if stop == 0 else AHEAD if stop > AHEAD else stop), p.bump)
    while chunk < stop:
        it = item_at(sh.arena, page << CHUNK_BITS | chunk)
        if it.bits & STATE == LIVE and it.refs == 0:
            handles[n] = page << CHUNK_BITS | chunk
            hashes[n] = hash_of(sh, it)
            fetch_links(sh, hashes[n], it)
            n += 1
        chunk += 1
    for i in range(n):
        it = item_at(sh.arena, handles[i])
        if it.bits & STATE != LIVE:      # it had to make room for one before it
            continue
        fate = take_off(sh, page, hashes[i], handles[i], it)
        if fate != GONE:
            sh.drained = handles[i] & ((1 << CHUNK_BITS) - 1)
            return fate
    sh.drained = stop
    return GONE


cdef void drain_begin(Shard *sh, uint32_t page, DrainHow how) noexcept nogil:
    """Close a page cut in chunks, to be emptied by drain_slice(). No other is being emptied."""
    slab_close_page(sh, page)
    sh.draining = page
    sh.drained = 0
    sh.how = how
    sh.rescue.passed = 0


cdef void drain_end(Shard *sh) noexcept nogil:
    """Whatever is left on the page that is being emptied stays there."""
    cdef uint32_t page = sh.draining
    sh.draining = 0
    slab_reopen_page(sh, page)


cdef void drain_slice(Shard *sh) noexcept nogil:
    """Go on with the page that is being emptied, for HOLD or until somebody waits for the lock; when that is done with,
    `draining` is 0."""
    cdef uint32_t page = sh.draining
    cdef Page *p = &sh.arena.pages[page]
    cdef int64_t end = monotonic_ns() + HOLD
    while sh.drained < p.bump and p.used:
        if empty_block(sh, page) == STUCK:
            break
        if mutex_wanted(&sh.lock) or monotonic_ns() >= end:
            return
    drain_end(sh)


cdef bint evict_page(Shard *sh, uint32_t page) noexcept nogil:
    """Empty a page that may_empty() at once, without rescue; it ends in the arena's pool. A run's page: its item goes."""
    cdef Item *it
    if sh.arena.pages[page].state == PAGE_RUN:
        it = item_at(sh.arena, page << CHUNK_BITS)
        evict_item(sh, hash_of(sh, it), page << CHUNK_BITS, it)
    else:
        discard_page(sh, page)
    return True


cdef bint evict_coldest(Shard *sh) noexcept nogil:
    """Empty the coldest page of the shard; False if there is none that may go."""
    cdef uint32_t cls, page = sh.draining
    if page:
        drain_end(sh)        # half empty already
        sh.moving = 0
        if slab_owns(sh, page) and may_empty(sh, page):
            return evict_page(sh, page)
    cls = coldest_class(sh, False)
    if cls == NOBODY:
        return False
    page = victim_page(sh, cls, False)
    if page == 0:
        page = oldest_page(sh, NOBODY)
    return page != 0 and evict_page(sh, page)
