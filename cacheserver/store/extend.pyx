# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""append, prepend: see extend.pxd."""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from cacheserver.store.arena cimport arena_wake, item_at, page_of
from cacheserver.store.link cimport link_item
from cacheserver.store.index cimport index_find
from cacheserver.store.item cimport (
    REFS_MAX,
    Item,
    handle_t,
    item_bytes,
    item_fill,
    item_flags,
    item_size,
    item_value,
)
from cacheserver.store.lock cimport lock_lookup, lock_shard
from cacheserver.store.operations cimport (
    EXISTS,
    NO_MEMORY,
    NOT_FOUND,
    NOT_STORED,
    PUT_APPEND,
    STORED,
    Outcome,
    Put,
    PutMode,
    end_put,
    find_live,
    next_cas,
    put_new,
)
from cacheserver.store.platform cimport pthread_mutex_unlock
from cacheserver.store.room cimport drop_chunk, take_chunk
from cacheserver.store.shard cimport Shard, StoreC, shard_of
from cacheserver.store.slab cimport slab_touch
from cacheserver.store.view cimport pin_item, unpin_item

cdef enum:
    RETRIES = 64             # times it is begun anew because the item changed meanwhile
    COPY_FREELY = 3          # of them without the lock while copying
    COPY_LOCKED = 65536      # bytes of item that are copied under the lock at once: about 10 us


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


cdef void replace_item(StoreC *s, Shard *sh, Put *put, uint64_t hash, handle_t old, Item *before, handle_t h,
                       Item *it) noexcept nogil:
    """Put the pinned LOOSE item `h` in the place of `old`, which is in the index: that cannot fail. Lock held."""
    slab_touch(sh, h, item_bytes(it))
    it.exptime = before.exptime
    it.encoded = before.encoded
    it.cas = next_cas(s, sh)
    it.refs = 0
    page_of(&s.arena, h).pins -= 1
    sh.total_items += 1
    sh.classes[page_of(&s.arena, h).cls].cmd_set += 1
    end_put(s, sh, put, it)
    link_item(sh, hash, h, it, old)


cdef Outcome extend_item(StoreC *s, Put *put, uint64_t hash, const char *key, uint32_t nkey, uint32_t flags, uint32_t exptime,
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
        lock_lookup(sh, hash)
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
            lock_shard(sh)
        elif index_find(&sh.index, &s.arena, hash, key, nkey) == old:
            join(put.mode, it, before, value, nbytes)
        stored = index_find(&sh.index, &s.arena, hash, key, nkey) == old and \
            not has_other_cas(s, put, before)
        if stored:
            replace_item(s, sh, put, hash, old, before, h, it)
        else:
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
    cdef Outcome outcome = extend_item(s, put, hash, key, nkey, flags, exptime, value, nbytes, now)
    return NOT_STORED if outcome == NOT_FOUND else outcome
