# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Values in pieces: see receive.pxd."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from cacheserver.store.arena cimport (
    PAGE_SIZE,
    arena_wake,
    item_at,
    page_of,
)
from cacheserver.store.link cimport link_item, remove_item
from cacheserver.store.extend cimport extend_item
from cacheserver.store.item cimport REVOKED, Item, handle_t, item_bytes, item_fill, item_key, item_size, item_value
from cacheserver.store.lock cimport lock_lookup, lock_shard
from cacheserver.store.operations cimport (
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
    count_put,
    end_put,
    find_live,
    may_put,
    next_cas,
)
from cacheserver.store.platform cimport atomic_add, atomic_get, atomic_set, pthread_mutex_lock, pthread_mutex_unlock
from cacheserver.store.room cimport count_no_memory, drop_chunk, take_chunk
from cacheserver.store.shard cimport CHUNK_MAX, Shard, StoreC, shard_of
from cacheserver.store.slab cimport slab_free, slab_touch

cdef enum:
    SMALL = 131072           # bytes of item
    STALLED = 5              # seconds without a byte after which an upload may be asked to make room for another


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
    if all_bytes < atomic_get(&s.arena.ceiling):
        all_bytes = atomic_get(&s.arena.ceiling)
    if held == 0:
        return quota_of(need) <= all_bytes // 4 * 3
    return held + quota_of(need) <= (all_bytes // 8 if need <= SMALL else all_bytes // 4)


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
        lock_shard(sh)
        count_no_memory(sh, need)
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
    cdef Shard *sh = shard_of(s, r.hash)
    lock_shard(sh)
    r.item.atime = now
    slab_touch(sh, r.handle, item_bytes(r.item) - r.nbytes + r.received)
    pthread_mutex_unlock(&sh.lock)


cdef bint store_is_revoked(Reservation *r) noexcept nogil:
    return r.item != NULL and r.item.bits & REVOKED


cdef Outcome extend_by(StoreC *s, Reservation *r, Put *put, uint32_t now) noexcept nogil:
    """Append or prepend a received value, which is given up then; NOT_FOUND (it is kept) if there is nothing to extend
    and it is to be an item of its own."""
    cdef Item *it = r.item
    cdef bint creating = put.creating
    cdef Outcome outcome
    put.creating = False
    outcome = extend_item(s, put, r.hash, item_key(it), it.nkey, 0, 0, r.value, r.nbytes, now)
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
        lock_lookup(sh, r.hash)
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
    if old and outcome == NO_MEMORY and put.clearing:
        remove_item(sh, r.hash, old, item_at(&s.arena, old))
    if outcome == STORED and not link_item(sh, r.hash, h, it, old):
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
    lock_shard(sh)
    delist(sh, r.item)
    slab_touch(sh, r.handle, item_bytes(r.item) - r.nbytes + r.received)
    atomic_add(&s.reserved, -quota_of(item_bytes(r.item)))
    drop_chunk(s, sh, r.handle, r.item)
    pthread_mutex_unlock(&sh.lock)
    r.item = NULL
