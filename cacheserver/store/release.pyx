# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""Release: see release.pxd."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from cacheserver.store.arena cimport (
    CHUNK_BITS,
    PAGE_DRAINING,
    PAGE_RUN,
    PAGE_SHIFT,
    PAGE_SIZE,
    PAGE_SLAB,
    Page,
    arena_give_back,
    arena_put_page,
    arena_release_pool,
    item_at,
    map_space,
    unmap_space,
)
from cacheserver.store.evict cimport (
    EMPTY_COLD, EMPTY_RESCUE, empty_page, evict_coldest, evict_page, hash_of, remove_item,
)
from cacheserver.store.victim cimport coldest_class, victim_page
from cacheserver.store.index cimport (
    Bucket,
    index_adjust,
    index_clear,
    index_release,
    index_spare,
    index_sparse,
    index_swap_overflow,
)
from cacheserver.store.item cimport (
    FETCHED,
    LIVE,
    LOOSE,
    REVOKED,
    STATE,
    Item,
    handle_t,
    item_bytes,
    item_expired,
)
from cacheserver.store.platform cimport (
    atomic_add,
    atomic_get,
    atomic_set,
    monotonic_ns,
    pthread_mutex_lock,
    pthread_mutex_trylock,
    pthread_mutex_unlock,
    sched_yield,
)
from cacheserver.store.rebalance cimport NOBODY
from cacheserver.store.shard cimport Shard, SlabClass, StoreC
from cacheserver.store.slab cimport slab_close_page, slab_free, slab_owns, slab_reopen_page, slab_sizes

cdef enum:
    BATCH = 32               # pages emptied before the host gets them back: bounds what a hard shrink has in hand
    PATIENCE = 2000          # tries for a shard's lock before waiting for it
    SLICE = 256              # chunks of a page looked at while its shard's lock is held, when there is no hurry
    IDLE_POOL = 4            # empty pages kept resident for the next write, and one in POOL_SHARE of all pages
    POOL_SHARE = 64
    INDEX_SPARE = 262144     # bytes behind the index's end worth a system call, when there is no hurry
    INDEX_PATIENCE = 20000000  # nanoseconds a hard shrink spends on one shard's index


cdef Shard *lock_next(StoreC *s, uint64_t barren) noexcept nogil:
    """Lock the next shard in turn that is free, has pages and is not marked in `barren`; NULL if there is no such shard.

    It waits for a busy one only after long trying.
    """
    cdef uint32_t tries, i, held = 0
    cdef Shard *sh
    for tries in range(PATIENCE):
        held = 0
        for i in range(s.nshards):
            s.turn = (s.turn + 1) & (s.nshards - 1)
            sh = &s.shards[s.turn]
            if sh.pages == 0 or barren >> sh.number & 1:
                continue
            held += 1
            if pthread_mutex_trylock(&sh.lock) == 0:
                return sh
        if held == 0:
            return NULL
        if tries > 100:
            sched_yield()
    for i in range(s.nshards):
        sh = &s.shards[i]
        if sh.pages and not barren >> i & 1:
            pthread_mutex_lock(&sh.lock)
            return sh
    return NULL


cdef void revoke(StoreC *s, int64_t target) noexcept nogil:
    """Mark values being received as revoked, until `target` bytes of them are; their owners give them up."""
    cdef uint32_t i
    cdef Shard *sh
    cdef handle_t h
    cdef Item *it
    for i in range(s.nshards):
        sh = &s.shards[i]
        pthread_mutex_lock(&sh.lock)
        h = sh.loose
        while h and target > 0:
            it = item_at(&s.arena, h)
            it.bits |= REVOKED
            target -= item_bytes(it)
            h = it.next
        pthread_mutex_unlock(&sh.lock)
    atomic_set(&s.revoked, 1)


cdef int64_t evict_and_release(StoreC *s, int64_t target) noexcept nogil:
    """Coldest pages first, a batch at a time, until `target` bytes are back at the host or no page may go."""
    cdef int64_t freed = 0
    cdef uint64_t barren = 0
    cdef uint32_t n, want
    cdef Shard *sh
    while freed < target:
        want = <uint32_t>((target - freed + PAGE_SIZE - 1) >> PAGE_SHIFT)
        n = 0
        while n < (want if want < BATCH else BATCH) and s.arena.npool <= want:
            sh = lock_next(s, barren)
            if sh == NULL:
                break
            if evict_coldest(sh):
                n += 1
            else:
                barren |= <uint64_t>1 << sh.number
            pthread_mutex_unlock(&sh.lock)
        n += s.arena.npool
        freed += arena_release_pool(&s.arena, target - freed, 0)
        if n == 0:
            break
    return freed


cdef int64_t release_index(StoreC *s, Shard *sh, int64_t least, int64_t end) noexcept nogil:
    """Bring a shard's index to its size and give back what is left over, if that is `least` bytes or more.

    Works in slices until done or the clock shows `end`; the host takes the memory while no lock is held.
    """
    cdef uint32_t i
    cdef bint more = True, mine = False      # mine: this thread, and no other, gives the tail back
    cdef int64_t freed = 0, nbytes = 0
    cdef Bucket *fresh
    while more:
        pthread_mutex_lock(&sh.lock)
        if sh.index.items == 0:
            index_clear(&sh.index)
        for i in range(SLICE):
            index_adjust(&sh.index, &s.arena)
        more = index_sparse(&sh.index) and monotonic_ns() < end
        if not more and not sh.index.releasing and index_spare(&sh.index) >= least:
            sh.index.releasing = mine = True
        pthread_mutex_unlock(&sh.lock)
    if mine:
        freed = index_release(&sh.index, &s.arena)
        pthread_mutex_lock(&sh.lock)
        sh.index.releasing = False
        pthread_mutex_unlock(&sh.lock)
    if sh.index.overflow_used == 0 and <int64_t>sh.index.overflow_ready >= least:
        fresh = <Bucket *>map_space(sh.index.space * sizeof(Bucket))
        pthread_mutex_lock(&sh.lock)
        fresh = index_swap_overflow(&sh.index, fresh, &nbytes)
        pthread_mutex_unlock(&sh.lock)
        unmap_space(fresh, sh.index.space * sizeof(Bucket))
        arena_give_back(&s.arena, nbytes)
        freed += nbytes
    return freed


cdef void settle_debt(StoreC *s, int64_t freed) noexcept nogil:
    """Whatever has been given back need not be paid any more."""
    cdef int64_t owed = atomic_add(&s.debt, -freed)
    if owed < 0:
        atomic_add(&s.debt, -owed)


cdef int64_t release_hard(StoreC *s, int64_t target) noexcept nogil:
    """Give at least `target` bytes back to the host before returning, coldest pages first; returns the bytes given.

    More by at most one page (or one item that spans more). Less only when what is left is pinned or being received: the
    latter is then revoked, and counts when its owner has let go.
    """
    cdef int64_t freed = arena_release_pool(&s.arena, target, 0)
    cdef uint32_t i
    freed += evict_and_release(s, target - freed)
    for i in range(s.nshards):
        if freed < target:
            freed += release_index(s, &s.shards[i], 1, monotonic_ns() + INDEX_PATIENCE)
    if freed < target:
        revoke(s, target - freed)
    atomic_add(&s.released_hard, freed)
    settle_debt(s, freed)
    return freed


cdef int64_t release_soft(StoreC *s, int64_t target) noexcept nogil:
    """Give back what costs nothing (empty pages) and note the rest as debt, to be paid in slices by release_pay()."""
    cdef int64_t freed = arena_release_pool(&s.arena, target, 0), owed = target - freed
    if owed > atomic_get(&s.debt):
        atomic_set(&s.debt, owed)
    atomic_add(&s.released_soft, freed)
    return freed


cdef bint drain_step(StoreC *s, Shard *sh) noexcept nogil:
    """Work on emptying one page of the shard, survivors moving to other pages; False if there is nothing to empty.

    The shard's lock is held.
    """
    cdef uint32_t cls, page
    if sh.draining == 0:
        cls = coldest_class(sh, True)
        if cls == NOBODY:
            return False
        page = victim_page(sh, cls, True)
        if page == 0:
            return evict_coldest(sh)
        if s.arena.pages[page].state == PAGE_RUN:
            return evict_page(sh, page)
        slab_close_page(sh, page)
        sh.draining = page
        sh.drained = 0
    drain_slice(sh)
    return True


cdef void drain_slice(Shard *sh) noexcept nogil:
    """Go on with the page that is being emptied; when that is done with, `draining` is 0. The shard's lock is held."""
    cdef uint32_t page = sh.draining
    cdef Page *p = &sh.arena.pages[page]
    if sh.drained < p.bump:
        empty_page(sh, page, sh.drained, SLICE, EMPTY_COLD)
        sh.drained = min(sh.drained + SLICE, p.bump)
    else:
        empty_page(sh, page, sh.drained - p.bump, SLICE, EMPTY_RESCUE)
        sh.drained += SLICE
    if p.used == 0 or sh.drained >= 2 * p.bump:
        sh.draining = 0
        slab_reopen_page(sh, page)


cdef int64_t release_pay(StoreC *s, int64_t budget_ns) noexcept nogil:
    """Pay soft debt for at most about `budget_ns`; returns the bytes still owed."""
    cdef int64_t end = monotonic_ns() + budget_ns, freed
    cdef uint64_t barren = 0
    cdef Shard *sh
    while atomic_get(&s.debt) > 0:
        freed = arena_release_pool(&s.arena, PAGE_SIZE, 0)
        if freed:
            settle_debt(s, freed)
            atomic_add(&s.released_soft, freed)
        else:
            sh = lock_next(s, barren)
            if sh == NULL:
                atomic_set(&s.debt, 0)     # nothing that may go: asking again will find what changes
                break
            if not drain_step(s, sh):
                barren |= <uint64_t>1 << sh.number
            pthread_mutex_unlock(&sh.lock)
        if monotonic_ns() >= end:
            break
    freed = atomic_get(&s.debt)
    return freed if freed > 0 else 0


cdef void expire_page(StoreC *s, Shard *sh, uint32_t page) noexcept nogil:
    """Remove what has expired on a page and find out when the next item will. Shard's lock held."""
    cdef Page *p = &s.arena.pages[page]
    cdef uint32_t chunk, next_exp = 0xffffffff
    cdef handle_t h
    cdef Item *it
    cdef SlabClass *k = &sh.classes[p.cls]
    cdef bint last
    for chunk in range(p.bump):
        h = page << CHUNK_BITS | chunk
        it = item_at(&s.arena, h)
        if it.bits & STATE != LIVE or it.exptime == 0:
            continue
        if item_expired(it, sh.now):
            last = p.used == 1
            k.crawler_reclaimed += 1
            k.expired_unfetched += not it.bits & FETCHED
            remove_item(sh, hash_of(sh, it), h, it)
            if last:
                return       # the page is in the pool now, or somebody else's already
        elif it.exptime < next_exp:
            next_exp = it.exptime
    k.crawler_items_checked += p.bump
    p.min_exp = next_exp


cdef void expire_some(StoreC *s, uint32_t now, int64_t end) noexcept nogil:
    """Go round the pages and free what has expired without waiting for anyone to read it."""
    cdef uint32_t seen = 0, page, high = s.arena.high
    cdef Page *p
    cdef Shard *sh
    while seen < high:
        seen += 1
        s.crawl = s.crawl + 1 if s.crawl + 1 < high else 1
        s.crawls += s.crawl == 1
        page = s.crawl
        p = &s.arena.pages[page]
        if p.min_exp > now or p.shard >= s.nshards:
            continue
        sh = &s.shards[p.shard]
        pthread_mutex_lock(&sh.lock)
        if slab_owns(sh, page) and p.state != PAGE_DRAINING and p.min_exp <= now:
            if sh.now < now:
                sh.now = now
            expire_page(s, sh, page)
        pthread_mutex_unlock(&sh.lock)
        if monotonic_ns() >= end:
            return


cdef void tend_shard(StoreC *s, Shard *sh, uint32_t now) noexcept nogil:
    """Tell a quiet shard the time, and put in order what a cancelled soft shrink left behind."""
    pthread_mutex_lock(&sh.lock)
    if now > sh.now:
        sh.now = now
    if sh.draining and atomic_get(&s.debt) <= 0:
        slab_reopen_page(sh, sh.draining)
        sh.draining = 0
    pthread_mutex_unlock(&sh.lock)


cdef void release_maintain(StoreC *s, uint32_t now, int64_t budget_ns) noexcept nogil:
    """Housekeeping without any ask: expiry, surplus empty pages, the index's size. One thread at a time calls this."""
    cdef int64_t end = monotonic_ns() + budget_ns
    cdef uint32_t i, keep
    s.upkeeps += 1
    expire_some(s, now, end)
    keep = IDLE_POOL + <uint32_t>((atomic_get(&s.arena.committed) >> PAGE_SHIFT) // POOL_SHARE)
    if s.arena.npool > keep:
        arena_release_pool(&s.arena, 4 * PAGE_SIZE, keep)
    for i in range(s.nshards):
        tend_shard(s, &s.shards[i], now)
        release_index(s, &s.shards[i], INDEX_SPARE, end)


cdef void forget_page(Shard *sh, uint32_t page) noexcept nogil:
    """Drop everything on a page that belongs to the shard; what is pinned or being received stays, out of the index."""
    cdef Page *p = &sh.arena.pages[page]
    cdef uint32_t chunk
    cdef handle_t h
    cdef Item *it
    if p.pins == 0 and p.state != PAGE_RUN:
        sh.classes[p.cls].used -= p.used
        sh.classes[p.cls].pages -= 1
        sh.pages -= 1
        arena_put_page(sh.arena, page)
        return
    if p.state == PAGE_RUN:
        it = item_at(sh.arena, page << CHUNK_BITS)
        if it.bits & STATE == LIVE:
            it.bits = (it.bits & ~STATE) | LOOSE
            if it.refs == 0:
                slab_free(sh, page << CHUNK_BITS)
        return
    if p.state == PAGE_SLAB:
        slab_close_page(sh, page)
    for chunk in range(p.bump):
        h = page << CHUNK_BITS | chunk
        it = item_at(sh.arena, h)
        if it.bits & STATE == LIVE:
            it.bits = (it.bits & ~STATE) | LOOSE
            it.next = it.prev = 0
            if it.refs == 0:
                slab_free(sh, h)
    slab_reopen_page(sh, page)


cdef void release_all(StoreC *s) noexcept nogil:
    """Forget every item, page by page and not item by item; the memory goes back to the host by release_maintain()."""
    cdef uint32_t i, page, c
    cdef Shard *sh
    for i in range(s.nshards):
        sh = &s.shards[i]
        pthread_mutex_lock(&sh.lock)
        index_clear(&sh.index)
        for c in range(slab_sizes().count + 1):
            memset(sh.classes[c].segments, 0, sizeof(sh.classes[c].segments))
            sh.classes[c].open = 0
            sh.classes[c].bytes = 0
        sh.bytes = 0
        sh.draining = 0
        for page in range(1, s.arena.high):
            if slab_owns(sh, page):
                s.arena.pages[page].next = s.arena.pages[page].prev = 0
        for page in range(1, s.arena.high):
            if slab_owns(sh, page):
                forget_page(sh, page)
        pthread_mutex_unlock(&sh.lock)
