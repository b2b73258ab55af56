# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Operations by key: see operations.pxd."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from cacheserver.store.arena cimport arena_wake, item_at, page_of
from cacheserver.store.deadlines cimport note_deadline
from cacheserver.store.balance cimport balance_fits
from cacheserver.store.flush cimport flush_all
from cacheserver.store.hashing cimport key_hash
from cacheserver.store.index cimport index_find, index_glance, index_slot
from cacheserver.store.item cimport (
    FETCHED,
    FLAGS,
    HAS_FLAGS,
    HEADER,
    Item,
    handle_t,
    item_bytes,
    item_expired,
    item_fill,
    item_flags,
    item_size,
    item_value,
)
from cacheserver.store.journal cimport FOUND_EXPIRED, FOUND_ITEM
from cacheserver.store.link cimport link_item, remove_item
from cacheserver.store.lock cimport lock_lookup
from cacheserver.store.lru cimport lru_segment, lru_touch, lru_use
from cacheserver.store.platform cimport (
    atomic_get,
    atomic_set,
    atomic_swap,
    pthread_mutex_unlock,
)
from cacheserver.store.poison cimport poison_behind
from cacheserver.store.room cimport count_no_memory, room_for
from cacheserver.store.shard cimport CHUNK_MAX, HOT, Shard, SlabClass, StoreC, shard_of
from cacheserver.store.slab cimport slab_class_of, slab_free, slab_touch
from cacheserver.store.steer cimport steer_delete, steer_read, steer_store
from cacheserver.store.view cimport View, fill_view

cdef enum:
    CAS_REACH = 48           # a shard does not make 2**48 changes in the life of a process
    CAS_TOP = 63             # bits of the largest number that a client can drive a shard's own to


cdef extern from *:
    """
    static __thread long long seen_by_thread[4];
    static inline void *seen_here(void) { return seen_by_thread; }
    """
    void *seen_here() nogil      # room for a Seen


cdef Seen *store_seen() noexcept nogil:
    """What the last lookup of this thread found; good until the next one. Kept while the shards are traced only."""
    return <Seen *>seen_here()


cdef uint32_t store_clsid(uint32_t nkey, uint32_t flags, uint64_t nbytes) noexcept nogil:
    """The number that `stats slabs` gives to the class of such an item."""
    return slab_class_of(item_size(nkey, flags, nbytes)) + 1


cdef void remember(Shard *sh, handle_t h, uint32_t now) noexcept nogil:
    """Fill in store_seen() with what a lookup has found."""
    cdef Seen *seen = store_seen()
    cdef Item *it
    memset(seen, 0, sizeof(Seen))
    seen.fresh = True
    if h == 0:
        return
    it = item_at(sh.arena, h)
    if item_expired(it, now):
        seen.found = FOUND_EXPIRED
        return
    seen.found = FOUND_ITEM
    seen.clsid = page_of(sh.arena, h).cls + 1
    seen.nbytes = it.nbytes
    seen.flags = item_flags(it)
    seen.exptime = it.exptime


cdef handle_t find_live(Shard *sh, uint64_t hash, const char *key, uint32_t nkey, uint32_t now) noexcept nogil:
    """The item with this key, 0 if there is none; one that has expired is freed on the way."""
    cdef handle_t h
    cdef Item *it
    cdef SlabClass *k
    if now > sh.now:
        sh.now = now
    h = index_find(&sh.index, sh.arena, hash, key, nkey)
    if atomic_get(&sh.traced):
        remember(sh, h, now)
    if h == 0:
        return 0
    it = item_at(sh.arena, h)
    if item_expired(it, now):
        k = &sh.classes[page_of(sh.arena, h).cls]
        k.reclaimed += 1
        sh.reclaimed += 1
        k.expired_unfetched += not it.bits & FETCHED
        remove_item(sh, hash, h, it)
        return 0
    return h


cdef uint64_t next_cas(StoreC *s, Shard *sh) noexcept nogil:
    """A number no other item of the store has; 0 where cas is off."""
    sh.cas += sh.cas_step
    return sh.cas if s.use_cas else 0


cdef void choose_cas(StoreC *s, Shard *sh, Item *it, uint64_t cas) noexcept nogil:
    """Give an item the number that a client has chosen, where cas is on. The shard's own must not meet it on their way up.

    Numbers that are out of its reach are let be, so that a few large ones (clocks, say) do not use up all there are; and
    so is the upper half of all, which the shard keeps for its own: they never begin again at 0, whatever clients choose.
    """
    if not s.use_cas:
        return
    it.cas = cas
    if cas > sh.cas and cas - sh.cas < <uint64_t>1 << CAS_REACH and cas >> CAS_TOP == 0:
        sh.cas += (cas - sh.cas + sh.cas_step - 1) // sh.cas_step * sh.cas_step


cdef void count_hit(Shard *sh, SlabClass *k, Item *it) noexcept nogil:
    if lru_segment(it) == HOT:
        k.hits_to_hot += 1
    else:
        k.hits_to_warm += 1


cdef bint store_get(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, uint32_t now, bint touching,
                    View *v) noexcept nogil:
    """Look a key up and count a read, or a touch. True: `v` is filled and the shard's lock is held until store_done() or
    store_pin()."""
    cdef Shard *sh = shard_of(s, hash)
    cdef SlabClass *k
    cdef uint64_t before
    cdef handle_t h
    cdef Item *it
    lock_lookup(sh, hash)
    before = sh.reclaimed
    h = find_live(sh, hash, key, nkey, now)
    steer_read(sh, hash, h != 0)
    if h == 0:
        v.expired = sh.reclaimed != before
        pthread_mutex_unlock(&sh.lock)
        return False
    it = item_at(&s.arena, h)
    k = &sh.classes[page_of(&s.arena, h).cls]
    if touching:
        k.touch_hits += 1
    else:
        count_hit(sh, k, it)
    lru_touch(sh, h, it, now)
    fill_view(sh, h, v)
    return True


cdef void set_exptime(Shard *sh, handle_t h, Item *it, uint32_t exptime) noexcept nogil:
    """Give a LIVE item another expiry time. One that is later needs no note: the scan finds it at the time noted before."""
    cdef uint32_t before = it.exptime
    it.exptime = exptime
    if exptime and (before == 0 or exptime < before):
        note_deadline(sh.arena, h, exptime, sh.now)


cdef void store_view_expire(View *v, uint32_t exptime) noexcept nogil:
    """Give the item in view another expiry time (the lock is held)."""
    set_exptime(v.shard, v.handle, v.item, exptime)


cdef Outcome may_put(Shard *sh, const Put *put, handle_t old) noexcept nogil:
    """Whether a write happens, given what is there; STORED = go ahead."""
    cdef uint64_t cas
    if put.mode == PUT_SET:
        return STORED
    if put.mode == PUT_ADD:
        if old == 0:
            return STORED
        lru_use(sh, old, item_at(sh.arena, old), sh.now)
        return NOT_STORED
    if put.mode != PUT_CAS:
        return STORED if old else NOT_STORED
    if old == 0:
        return NOT_FOUND
    cas = item_at(sh.arena, old).cas
    if put.compare == 0:
        return EXISTS        # 0 is nobody's number, not even that of an item whose own is 0
    return STORED if cas == put.compare or (put.tolerant and put.compare < cas) else EXISTS


cdef void end_put(StoreC *s, Shard *sh, Put *put, Item *it) noexcept nogil:
    """The rest of a write that happened: what the new item `it` is to have beside its value. Lock held."""
    if put.encoded:
        it.encoded = True
    if put.numbered:
        choose_cas(s, sh, it, put.number)
    put.cas = it.cas
    put.nbytes = it.nbytes


cdef void count_put(Shard *sh, uint32_t cls, PutMode mode, Outcome outcome) noexcept nogil:
    """Count a storage command that was decided, all in the class of the new item: collectors subtract one from another."""
    cdef SlabClass *k = &sh.classes[cls]
    if outcome == NO_MEMORY:
        return
    k.cmd_set += 1
    if mode == PUT_CAS:
        k.cas_hits += outcome == STORED
        k.cas_badval += outcome == EXISTS


cdef void overwrite(StoreC *s, Shard *sh, handle_t h, Item *it, uint32_t flags, uint32_t exptime, const char *value,
                    uint32_t nbytes) noexcept nogil:
    """Put new content in an unpinned item of the same class: no chunk, no index and mostly no neighbour is touched.

    It counts as a use. Whoever writes what is here already works with it (a session, a counter), and a client that
    stores after a miss another one has mended was a reader, too; yet as one use of a new item's two it does not take
    what two clients stored at once for what is asked for again. In plain LRU it goes to the head, as in memcached.
    """
    cdef SlabClass *k = &sh.classes[page_of(&s.arena, h).cls]
    cdef uint64_t before = item_bytes(it), size = item_size(it.nkey, flags, nbytes)
    poison_behind(it, size, k.chunk_size)
    it.bits &= ~(FETCHED | HAS_FLAGS)
    it.stale = it.won = it.encoded = False
    if flags:
        it.bits |= HAS_FLAGS
        memcpy(<char *>it + HEADER + it.nkey, &flags, FLAGS)
    it.nbytes = nbytes
    memcpy(<char *>it + size - nbytes, value, nbytes)
    it.cas = next_cas(s, sh)
    set_exptime(sh, h, it, exptime)
    slab_touch(sh, h, size)
    k.bytes += size - before
    sh.bytes += size - before
    lru_use(sh, h, it, sh.now)


cdef handle_t put_new(StoreC *s, Shard *sh, uint64_t hash, const char *key, uint32_t nkey, uint32_t flags,
                      uint32_t exptime, const char *value, uint32_t nbytes) noexcept nogil:
    """Store a value in a chunk of its own, replacing what has the key; 0 if there is no room. Lock held."""
    cdef handle_t h = room_for(sh, item_size(nkey, flags, nbytes)), old
    cdef Item *it
    if h == 0:
        return 0
    it = item_at(&s.arena, h)
    item_fill(it, key, nkey, flags, exptime, nbytes, sh.now)
    memcpy(item_value(it), value, nbytes)
    slab_touch(sh, h, item_bytes(it))
    it.cas = next_cas(s, sh)
    old = index_find(&sh.index, sh.arena, hash, key, nkey)   # after room_for(): it may have evicted this very item
    if not link_item(sh, hash, h, it, old):
        slab_free(sh, h)
        return 0
    return h


cdef Item *write_item(StoreC *s, Shard *sh, const Put *put, uint64_t hash, handle_t old, uint32_t cls, const char *key,
                      uint32_t nkey, uint32_t flags, uint32_t exptime, const char *value, uint32_t nbytes) noexcept nogil:
    """Put a value, an item of class `cls`, in the place of `old` (0: none), which may_put() has allowed; NULL if there is
    no room. Lock held."""
    cdef Item *before = item_at(&s.arena, old)
    cdef Item *it = before
    cdef bint stale = put.mode == PUT_CAS and before.cas != put.compare, won = False
    cdef handle_t h
    if stale:
        exptime = before.exptime
        won = before.won
    if old and before.refs == 0 and balance_fits(sh, page_of(&s.arena, old).cls, cls):
        overwrite(s, sh, old, it, flags, exptime, value, nbytes)
        steer_store(sh, hash)
    else:
        h = put_new(s, sh, hash, key, nkey, flags, exptime, value, nbytes)
        if h == 0:
            return NULL
        it = item_at(&s.arena, h)
    if stale:
        it.stale = True
        it.won = won
    return it


cdef Outcome store_put(StoreC *s, Put *put, uint64_t hash, const char *key, uint32_t nkey, uint32_t flags,
                       uint32_t exptime, const char *value, uint32_t nbytes, uint32_t now) noexcept nogil:
    """Store a value that is in memory as a whole. Its item fits in a chunk (CHUNK_MAX bytes); append and prepend are
    store_extend()'s."""
    cdef Shard *sh = shard_of(s, hash)
    cdef uint64_t need = item_size(nkey, flags, nbytes)
    cdef uint32_t cls
    cdef handle_t old
    cdef Item *it
    cdef Outcome outcome
    put.cas = 0
    put.nbytes = nbytes
    if need > s.max_item or need > CHUNK_MAX:
        return TOO_LARGE
    cls = slab_class_of(need)
    lock_lookup(sh, hash)
    old = find_live(sh, hash, key, nkey, now)
    outcome = may_put(sh, put, old)
    count_put(sh, cls, put.mode, outcome)
    if outcome == STORED:
        sh.total_items += 1
        it = write_item(s, sh, put, hash, old, cls, key, nkey, flags, exptime, value, nbytes)
        if it != NULL:
            end_put(s, sh, put, it)
        else:
            outcome = NO_MEMORY
            count_no_memory(sh, need)
            old = index_find(&sh.index, sh.arena, hash, key, nkey)   # anew: making room may have evicted it
            if put.clearing and old:
                remove_item(sh, hash, old, item_at(&s.arena, old))   # a failed set leaves no stale value
    pthread_mutex_unlock(&sh.lock)
    arena_wake(&s.arena)
    return outcome


cdef Outcome store_delete(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, uint32_t now) noexcept nogil:
    cdef Shard *sh = shard_of(s, hash)
    cdef handle_t h
    lock_lookup(sh, hash)
    h = find_live(sh, hash, key, nkey, now)
    if h:
        sh.classes[page_of(&s.arena, h).cls].delete_hits += 1
        steer_delete(sh, hash)
        remove_item(sh, hash, h, item_at(&s.arena, h))
    pthread_mutex_unlock(&sh.lock)
    return STORED if h else NOT_FOUND


cdef void store_drop(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, uint32_t now) noexcept nogil:
    """Remove the value of a key whose new one could not be stored: a stale one must not survive. No command counts."""
    cdef Shard *sh = shard_of(s, hash)
    cdef handle_t h
    lock_lookup(sh, hash)
    h = find_live(sh, hash, key, nkey, now)
    if h:
        remove_item(sh, hash, h, item_at(&s.arena, h))
    pthread_mutex_unlock(&sh.lock)


cdef Outcome store_touch(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, uint32_t exptime,
                         uint32_t now) noexcept nogil:
    cdef Shard *sh = shard_of(s, hash)
    cdef handle_t h
    lock_lookup(sh, hash)
    h = find_live(sh, hash, key, nkey, now)
    if h:
        sh.classes[page_of(&s.arena, h).cls].touch_hits += 1
        lru_touch(sh, h, item_at(&s.arena, h), now)
        set_exptime(sh, h, item_at(&s.arena, h), exptime)
    pthread_mutex_unlock(&sh.lock)
    return STORED if h else NOT_FOUND


cdef void store_flush(StoreC *s) noexcept nogil:
    """Forget every item there is now."""
    atomic_set(&s.flush_at, 0)
    flush_all(s)


cdef void store_flush_later(StoreC *s, uint32_t when) noexcept nogil:
    """Forget every item there will be when the store's clock shows `when` (the last call counts)."""
    atomic_set(&s.flush_at, when)


cdef void store_tick(StoreC *s, uint32_t now) noexcept nogil:
    """To be called now and then, at least before operations of another second: does a delayed flush that is due."""
    cdef int64_t due = atomic_get(&s.flush_at)
    if due and due <= now and atomic_swap(&s.flush_at, 0):
        flush_all(s)
