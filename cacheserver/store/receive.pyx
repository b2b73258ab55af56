# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""Values in pieces, append and prepend: see receive.pxd."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from cacheserver.store.arena cimport (
    CHUNK_BITS,
    OS_PAGE,
    PAGE_RUN,
    PAGE_SIZE,
    arena_release_pool,
    arena_run_touched,
    arena_wake,
    item_at,
    page_of,
)
from cacheserver.store.evict cimport evict_coldest, link_item, remove_item
from cacheserver.store.room cimport room_for
from cacheserver.store.index cimport index_find
from cacheserver.store.item cimport (
    REFS_MAX,
    REVOKED,
    Item,
    handle_t,
    item_bytes,
    item_fill,
    item_flags,
    item_key,
    item_size,
    item_value,
)
from cacheserver.store.operations cimport (
    EXISTS,
    NO_MEMORY,
    NOT_FOUND,
    NOT_STORED,
    PUT_APPEND,
    PUT_CAS,
    PUT_PREPEND,
    STORED,
    TOO_LARGE,
    Outcome,
    Put,
    PutMode,
    count_put,
    end_put,
    find_live,
    may_put,
    next_cas,
    pin_item,
    put_new,
    unpin_item,
)
from cacheserver.store.platform cimport atomic_add, atomic_get, atomic_set, pthread_mutex_lock, pthread_mutex_unlock
from cacheserver.store.shard cimport CHUNK_MAX, HOT, Shard, StoreC, shard_of
from cacheserver.store.slab cimport slab_alloc_run, slab_class_of, slab_free, slab_touch

cdef enum:
    RETRIES = 64             # times an append is begun anew because the item changed under it
    SMALL = 131072           # bytes of item
    STALLED = 5              # seconds without a byte after which an upload may be asked to make room for another
    COPY_FREELY = 3          # of them without the lock while copying
    COPY_LOCKED = 65536      # bytes of item that are copied under the lock at once: about 10 us


cdef int64_t quota_of(uint64_t need) noexcept nogil:
    """What a reservation counts for: in a slab page it keeps the whole page from being emptied."""
    return <int64_t>(need if need > CHUNK_MAX else PAGE_SIZE)


cdef bint store_may_reserve(StoreC *s, uint64_t need) noexcept nogil:
    """Whether a reservation of that size is within what half-received values may hold together.

    That is a quarter of all the memory there is for items, of which small values, which a connection could keep in its
    own buffer instead, take a half at most; a single one may take three quarters.
    """
    cdef int64_t all_bytes = atomic_get(&s.arena.committed), spare = atomic_get(&s.arena.allowance)
    cdef int64_t held = atomic_get(&s.reserved)
    if s.arena.capacity:
        all_bytes = s.arena.capacity
    elif spare > 0:
        all_bytes += spare
    if all_bytes < atomic_get(&s.ceiling):
        all_bytes = atomic_get(&s.ceiling)
    if held == 0:
        return quota_of(need) <= all_bytes // 4 * 3
    return held + quota_of(need) <= (all_bytes // 8 if need <= SMALL else all_bytes // 4)


cdef handle_t make_run(StoreC *s, Shard *sh, uint64_t need) noexcept nogil:
    """A run of pages where there is no leave for one: as much is evicted and given back first. Returns with the lock held.

    The bytes given back go to this run and to nobody else. The lock is let go while the host takes pages back.
    """
    cdef int64_t freed = 0
    cdef uint32_t i = sh.number, barren = 0
    cdef Shard *victim
    while freed < <int64_t>need + OS_PAGE and barren < s.nshards:
        if s.arena.npool == 0:
            if sh.no_evictions:
                break
            victim = &s.shards[i & (s.nshards - 1)]
            i += 1
            pthread_mutex_lock(&victim.lock)
            barren = 0 if evict_coldest(victim) else barren + 1
            pthread_mutex_unlock(&victim.lock)
        freed += arena_release_pool(&s.arena, <int64_t>need + OS_PAGE - freed, 0)
    pthread_mutex_lock(&sh.lock)
    return slab_alloc_run(sh, need, True) if freed >= <int64_t>need else 0


cdef handle_t take_chunk(StoreC *s, Shard *sh, uint64_t need) noexcept nogil:
    """Room for an item that is not in the index yet, pinned; 0 if there is none. Returns with the lock held either way."""
    cdef handle_t h
    pthread_mutex_lock(&sh.lock)
    h = room_for(sh, need)
    if h == 0 and need > CHUNK_MAX:
        pthread_mutex_unlock(&sh.lock)
        h = make_run(s, sh, need)
    if h == 0:
        sh.classes[slab_class_of(need)].outofmemory += 1
        sh.no_memory += 1
    else:
        page_of(&s.arena, h).pins += 1
    return h


cdef void drop_chunk(StoreC *s, Shard *sh, handle_t h, Item *it) noexcept nogil:
    """Give a pinned LOOSE item's chunk back. Lock held."""
    it.refs = 0
    page_of(&s.arena, h).pins -= 1
    slab_free(sh, h)


cdef void enlist(Shard *sh, handle_t h, Item *it) noexcept nogil:
    it.prev = 0
    it.next = sh.loose
    if sh.loose:
        item_at(sh.arena, sh.loose).prev = h
    sh.loose = h


cdef void delist(Shard *sh, Item *it) noexcept nogil:
    if it.prev:
        item_at(sh.arena, it.prev).next = it.next
    else:
        sh.loose = it.next
    if it.next:
        item_at(sh.arena, it.next).prev = it.prev
    it.next = it.prev = 0


cdef void revoke_idlest(StoreC *s, uint32_t now) noexcept nogil:
    """Half-received values hold all they may: mark the one whose client has been silent longest, if it has been so
    for STALLED seconds; its owner lets go of it soon."""
    cdef uint32_t i, idlest = 0, shard = 0
    cdef handle_t h, found = 0
    cdef Item *it
    for i in range(s.nshards):
        pthread_mutex_lock(&s.shards[i].lock)
        h = s.shards[i].loose
        while h:
            it = item_at(&s.arena, h)
            if not it.bits & REVOKED and it.atime + STALLED <= now and (found == 0 or it.atime < idlest):
                found = h
                idlest = it.atime
                shard = i
            h = it.next
        pthread_mutex_unlock(&s.shards[i].lock)
    if found == 0:
        return
    pthread_mutex_lock(&s.shards[shard].lock)
    h = s.shards[shard].loose
    while h and h != found:
        h = item_at(&s.arena, h).next
    if h:
        item_at(&s.arena, h).bits |= REVOKED
        atomic_set(&s.revoked, 1)
    pthread_mutex_unlock(&s.shards[shard].lock)


cdef Outcome store_reserve(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, uint32_t flags, uint32_t exptime,
                           uint32_t nbytes, uint32_t now, Reservation *r) noexcept nogil:
    """Room for a value of `nbytes` that the caller will write to `r.value`; STORED, or TOO_LARGE or NO_MEMORY."""
    cdef Shard *sh = shard_of(s, hash)
    cdef uint64_t need = item_size(nkey, flags, nbytes)
    cdef handle_t h
    cdef Item *it
    r.item = NULL
    if need > s.max_item:
        return TOO_LARGE
    if not store_may_reserve(s, need):
        pthread_mutex_lock(&sh.lock)
        sh.classes[slab_class_of(need)].outofmemory += 1
        sh.no_memory += 1
        pthread_mutex_unlock(&sh.lock)
        revoke_idlest(s, now)
        return NO_MEMORY
    h = take_chunk(s, sh, need)
    if h:
        if now > sh.now:
            sh.now = now
        it = item_at(&s.arena, h)
        item_fill(it, key, nkey, flags, exptime, nbytes, now)
        it.refs = 1
        enlist(sh, h, it)
        atomic_add(&s.reserved, quota_of(need))
    pthread_mutex_unlock(&sh.lock)
    arena_wake(&s.arena)
    if h == 0:
        return NO_MEMORY
    r.item = it
    r.handle = h
    r.hash = hash
    r.value = item_value(it)
    r.nbytes = nbytes
    r.received = 0
    return STORED


cdef void store_progress(StoreC *s, Reservation *r, uint32_t now) noexcept nogil:
    """More of the value has arrived (`r.received` says how much): the host has charged it, and the client is alive."""
    r.item.atime = now
    if page_of(&s.arena, r.handle).state == PAGE_RUN:
        arena_run_touched(&s.arena, r.handle >> CHUNK_BITS, item_bytes(r.item) - r.nbytes + r.received)


cdef bint store_is_revoked(Reservation *r) noexcept nogil:
    return r.item != NULL and r.item.bits & REVOKED


cdef Outcome extend_by(StoreC *s, Reservation *r, Put *put, uint32_t now) noexcept nogil:
    """Append or prepend a received value, which is given up then; NOT_FOUND (it is kept) if there is nothing to extend
    and it is to be an item of its own."""
    cdef Item *it = r.item
    cdef bint creating = put.creating
    cdef Outcome outcome
    put.creating = False
    outcome = extend(s, put, r.hash, item_key(it), it.nkey, 0, 0, r.value, r.nbytes, now)
    put.creating = creating
    if outcome == NOT_FOUND and creating:
        return NOT_FOUND
    store_abandon(s, r)
    return NOT_STORED if outcome == NOT_FOUND else outcome


cdef void link_received(StoreC *s, Shard *sh, Reservation *r, Put *put, handle_t old, uint32_t now) noexcept nogil:
    """Make a received value's chunk an ordinary LOOSE item, and let it inherit what a stale one does. Lock held."""
    cdef Item *it = r.item
    cdef Item *before = item_at(&s.arena, old)
    sh.total_items += 1
    it.cas = next_cas(s, sh)
    it.atime = now
    it.refs = 0
    page_of(&s.arena, r.handle).pins -= 1
    if put.mode == PUT_CAS and before.cas != put.compare:
        it.exptime = before.exptime
        it.stale = True
        it.won = before.won
    end_put(s, sh, put, it)


cdef Outcome store_commit(StoreC *s, Reservation *r, Put *put, uint32_t now) noexcept nogil:
    """Make a received value visible; the reservation ends whatever the outcome."""
    cdef Shard *sh = shard_of(s, r.hash)
    cdef Item *it = r.item
    cdef handle_t h = r.handle, old
    cdef bint extending = put.mode == PUT_APPEND or put.mode == PUT_PREPEND
    cdef Outcome outcome
    put.cas = 0
    put.nbytes = r.nbytes
    while True:
        if extending:
            outcome = extend_by(s, r, put, now)
            if outcome != NOT_FOUND:
                return outcome
        pthread_mutex_lock(&sh.lock)
        old = find_live(sh, r.hash, item_key(it), it.nkey, now)
        if not extending or old == 0:
            break
        pthread_mutex_unlock(&sh.lock)     # it has come into being just now
    outcome = NO_MEMORY if it.bits & REVOKED else STORED if extending else may_put(sh, put, old)
    count_put(sh, page_of(&s.arena, h).cls, put.mode, outcome)
    delist(sh, it)
    slab_touch(sh, h, item_bytes(it))
    atomic_add(&s.reserved, -quota_of(item_bytes(it)))
    if outcome == STORED:
        link_received(s, sh, r, put, old, now)
    else:
        drop_chunk(s, sh, h, it)
    if old and (outcome == STORED or (outcome == NO_MEMORY and put.clearing)):
        remove_item(sh, r.hash, old, item_at(&s.arena, old))
    if outcome == STORED and not link_item(sh, r.hash, h, it, HOT):
        slab_free(sh, h)
        put.cas = 0
        outcome = NO_MEMORY
    pthread_mutex_unlock(&sh.lock)
    r.item = NULL
    return outcome


cdef void store_abandon(StoreC *s, Reservation *r) noexcept nogil:
    """Give a reservation up: nothing is stored."""
    cdef Shard *sh = shard_of(s, r.hash)
    if r.item == NULL:
        return
    pthread_mutex_lock(&sh.lock)
    delist(sh, r.item)
    slab_touch(sh, r.handle, item_bytes(r.item) - r.nbytes + r.received)
    atomic_add(&s.reserved, -quota_of(item_bytes(r.item)))
    drop_chunk(s, sh, r.handle, r.item)
    pthread_mutex_unlock(&sh.lock)
    r.item = NULL


cdef bint has_other_cas(StoreC *s, const Put *put, Item *before) noexcept nogil:
    """Whether append or prepend is refused for the item's cas. Where items have none there is nothing to compare."""
    return put.comparing and put.compare and s.use_cas and before.cas != put.compare


cdef Outcome may_extend(StoreC *s, const Put *put, handle_t old, Item *before, uint64_t need) noexcept nogil:
    """Whether an append or prepend to `before` (`old` 0: there is none) happens; STORED = go ahead. Lock held."""
    if old == 0:
        return NOT_FOUND
    if has_other_cas(s, put, before):
        return EXISTS
    return NOT_STORED if need > s.max_item or before.refs == REFS_MAX else STORED


cdef Outcome create(StoreC *s, Shard *sh, Put *put, uint64_t hash, const char *key, uint32_t nkey, uint32_t flags,
                    uint32_t exptime, const char *value, uint32_t nbytes) noexcept nogil:
    """Store what was to be appended to nothing. Lock held."""
    cdef handle_t h = put_new(s, sh, hash, key, nkey, flags, exptime, value, nbytes)
    if h == 0:
        return NO_MEMORY
    sh.total_items += 1
    sh.classes[page_of(&s.arena, h).cls].cmd_set += 1
    end_put(s, sh, put, item_at(&s.arena, h))
    return STORED


cdef void join(PutMode mode, Item *it, Item *before, const char *value, uint32_t nbytes) noexcept nogil:
    """Write old value and new one behind each other."""
    cdef char *out = item_value(it)
    memcpy(out if mode == PUT_APPEND else out + nbytes, item_value(before), before.nbytes)
    memcpy(out + before.nbytes if mode == PUT_APPEND else out, value, nbytes)


cdef bint replace_item(StoreC *s, Shard *sh, Put *put, uint64_t hash, handle_t old, Item *before, handle_t h,
                       Item *it) noexcept nogil:
    """Put the pinned LOOSE item `h` in the place of `old`. Lock held."""
    slab_touch(sh, h, item_bytes(it))
    it.exptime = before.exptime
    it.encoded = before.encoded
    it.cas = next_cas(s, sh)
    it.refs = 0
    page_of(&s.arena, h).pins -= 1
    sh.total_items += 1
    sh.classes[page_of(&s.arena, h).cls].cmd_set += 1
    end_put(s, sh, put, it)
    remove_item(sh, hash, old, before)
    if link_item(sh, hash, h, it, HOT):
        return True
    slab_free(sh, h)
    return False


cdef Outcome extend(StoreC *s, Put *put, uint64_t hash, const char *key, uint32_t nkey, uint32_t flags, uint32_t exptime,
                    const char *value, uint32_t nbytes, uint32_t now) noexcept nogil:
    """store_extend(), but NOT_FOUND if there is nothing to extend."""
    cdef Shard *sh = shard_of(s, hash)
    cdef uint32_t tries
    cdef uint64_t need
    cdef handle_t old, h
    cdef Item *before
    cdef Item *it
    cdef bint stored
    cdef Outcome outcome
    put.cas = 0
    put.nbytes = nbytes
    for tries in range(RETRIES):
        pthread_mutex_lock(&sh.lock)
        old = find_live(sh, hash, key, nkey, now)
        before = item_at(&s.arena, old)
        need = item_size(nkey, item_flags(before), <uint64_t>before.nbytes + nbytes) if old else 0
        outcome = may_extend(s, put, old, before, need)
        if outcome == NOT_FOUND and put.creating:
            outcome = create(s, sh, put, hash, key, nkey, flags, exptime, value, nbytes)
            pthread_mutex_unlock(&sh.lock)
            arena_wake(&s.arena)
            return outcome
        if outcome != STORED:
            pthread_mutex_unlock(&sh.lock)
            return outcome
        pin_item(sh, old, before)
        pthread_mutex_unlock(&sh.lock)
        h = take_chunk(s, sh, need)
        if h == 0:
            unpin_item(sh, old, before)
            pthread_mutex_unlock(&sh.lock)
            arena_wake(&s.arena)
            return NO_MEMORY
        it = item_at(&s.arena, h)
        item_fill(it, key, nkey, item_flags(before), before.exptime, before.nbytes + nbytes, now)
        it.refs = 1
        if need > COPY_LOCKED and tries < COPY_FREELY:
            pthread_mutex_unlock(&sh.lock)
            join(put.mode, it, before, value, nbytes)
            pthread_mutex_lock(&sh.lock)
        elif index_find(&sh.index, &s.arena, hash, key, nkey) == old:
            join(put.mode, it, before, value, nbytes)
        stored = index_find(&sh.index, &s.arena, hash, key, nkey) == old and \
            not has_other_cas(s, put, before) and replace_item(s, sh, put, hash, old, before, h, it)
        if not stored and it.refs:
            drop_chunk(s, sh, h, it)
        unpin_item(sh, old, before)
        pthread_mutex_unlock(&sh.lock)
        arena_wake(&s.arena)
        if stored:
            return STORED
    return NO_MEMORY


cdef Outcome store_extend(StoreC *s, Put *put, uint64_t hash, const char *key, uint32_t nkey, uint32_t flags,
                          uint32_t exptime, const char *value, uint32_t nbytes, uint32_t now) noexcept nogil:
    """append, prepend: a new item of old value and new. A large value is copied without the lock, the old item pinned,
    and anew if another client changed it meanwhile; after a few such turns, and always if it is small, under the lock.

    `flags` and `exptime` count with `put.creating` only, where a value that fits in a chunk is stored as a new item.
    """
    cdef Outcome outcome = extend(s, put, hash, key, nkey, flags, exptime, value, nbytes, now)
    return NOT_STORED if outcome == NOT_FOUND else outcome
