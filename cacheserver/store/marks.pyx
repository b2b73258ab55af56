# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Looks, claims, invalidation: see marks.pxd."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from cacheserver.store.arena cimport arena_wake, item_at, page_of
from cacheserver.store.link cimport remove_item
from cacheserver.store.item cimport FETCHED, Item, handle_t, item_bytes
from cacheserver.store.lock cimport lock_lookup
from cacheserver.store.lru cimport lru_touch
from cacheserver.store.operations cimport (
    EXISTS,
    NO_MEMORY,
    NOT_FOUND,
    STORED,
    Outcome,
    Put,
    choose_cas,
    count_hit,
    end_put,
    find_live,
    next_cas,
    put_new,
    set_exptime,
)
from cacheserver.store.platform cimport pthread_mutex_unlock
from cacheserver.store.shard cimport Shard, StoreC, shard_of
from cacheserver.store.steer cimport steer_read
from cacheserver.store.view cimport fill_view


cdef void fill_sight(Shard *sh, handle_t h, bint created, uint32_t now, Sight *g) noexcept nogil:
    cdef Item *it = item_at(sh.arena, h)
    fill_view(sh, h, &g.view)
    g.now = now
    g.idle = now - it.atime if now > it.atime else 0
    g.fetched = (it.bits & FETCHED) != 0
    g.encoded = it.encoded
    g.created = created


cdef bint store_look(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, Put *creating, uint32_t now,
                     Sight *g) noexcept nogil:
    """Look a key up; nothing is counted or bumped, though learnt from. True: `g` is filled and the shard's lock is held.

    `creating`, where it is not NULL: a key that is not there gets an empty item with these terms. Where `g.created` tells
    of one, who lets go of the lock calls arena_wake() then.
    """
    cdef Shard *sh = shard_of(s, hash)
    cdef uint64_t before
    cdef bint created = False
    cdef handle_t h
    lock_lookup(sh, hash)
    before = sh.reclaimed
    h = find_live(sh, hash, key, nkey, now)
    steer_read(sh, hash, h != 0)
    g.view.expired = h == 0 and sh.reclaimed != before
    if h == 0 and creating != NULL:
        h = put_new(s, sh, hash, key, nkey, 0, 0, key, 0)
        if h:
            created = True
            sh.total_items += 1
            end_put(s, sh, creating, item_at(&s.arena, h))
    if h == 0:
        pthread_mutex_unlock(&sh.lock)
        if creating != NULL:
            arena_wake(&s.arena)
        return False
    fill_sight(sh, h, created, now, g)
    return True


cdef int64_t sight_ttl(Sight *g) noexcept nogil:
    """Seconds the item has to live, -1 for ever."""
    cdef uint32_t exptime = g.view.item.exptime
    if exptime == 0:
        return -1
    return exptime - g.now if exptime > g.now else 0


cdef void sight_expire(Sight *g, uint32_t exptime) noexcept nogil:
    """Give the item another expiry time."""
    set_exptime(g.view.shard, g.view.handle, g.view.item, exptime)


cdef bint sight_expires_before(Sight *g, uint32_t when) noexcept nogil:
    return 0 < g.view.item.exptime < when


cdef uint32_t sight_claim(Sight *g, bint winning) noexcept nogil:
    """Tell a reader about the item's marks, as Claim bits. A stale item that nobody has won is won by whoever looks;
    `winning`: so is this one, whatever its state. Who has won once stays the only one until the item is written."""
    cdef Item *it = g.view.item
    cdef uint32_t found = (CLAIM_TAKEN if it.won else 0) | (CLAIM_STALE if it.stale else 0)
    if not it.won and (winning or it.stale):
        it.won = True
        found |= CLAIM_WON
    return found


cdef void sight_count(Sight *g, bint touched) noexcept nogil:
    """Count the look as a read, or (`touched`) as a touch."""
    cdef Shard *sh = g.view.shard
    if touched:
        sh.classes[page_of(sh.arena, g.view.handle).cls].touch_hits += 1
    else:
        count_hit(sh, &sh.classes[page_of(sh.arena, g.view.handle).cls], g.view.item)


cdef void sight_bump(Sight *g) noexcept nogil:
    """Note the look as a use of the item: it is evicted later."""
    lru_touch(g.view.shard, g.view.handle, g.view.item, g.now)


cdef uint32_t sight_class(Sight *g) noexcept nogil:
    """The number of the item's slab class, from 1."""
    return page_of(g.view.shard.arena, g.view.handle).cls + 1


cdef uint64_t sight_size(Sight *g) noexcept nogil:
    """Bytes of the item: header, key, flags, value."""
    return item_bytes(g.view.item)


cdef handle_t empty_item(StoreC *s, Shard *sh, uint64_t hash, const char *key, uint32_t nkey, handle_t h,
                         uint32_t flags) noexcept nogil:
    """Take an item's value away; it keeps its expiry and gets a new cas. 0 if there is no room for what is left."""
    cdef Item *it = item_at(&s.arena, h)
    cdef bint encoded = it.encoded
    h = put_new(s, sh, hash, key, nkey, flags, it.exptime, key, 0)
    if h:
        item_at(&s.arena, h).encoded = encoded
    return h


cdef Outcome remove_or_mark(StoreC *s, Shard *sh, uint64_t hash, const char *key, uint32_t nkey, const Removal *terms,
                            handle_t h) noexcept nogil:
    cdef Item *it = item_at(&s.arena, h)
    if terms.comparing and it.cas != terms.compare:
        return EXISTS
    if not terms.stale:
        sh.classes[page_of(&s.arena, h).cls].delete_hits += 1
    if not terms.stale and not terms.emptied:
        remove_item(sh, hash, h, it)
        return STORED
    if terms.emptied:
        h = empty_item(s, sh, hash, key, nkey, h, terms.flags)
        if h == 0:
            return NO_MEMORY
        it = item_at(&s.arena, h)
    else:
        it.cas = next_cas(s, sh)
    if terms.expiring:
        set_exptime(sh, h, it, terms.exptime)
    if terms.stale:
        it.stale = True
        it.won = False
    if terms.numbered:
        choose_cas(s, sh, it, terms.number)
    return STORED


cdef Outcome store_remove(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, const Removal *terms,
                          uint32_t now) noexcept nogil:
    """Remove the item of a key, or mark it, or empty it: STORED, NOT_FOUND, EXISTS (another cas), NO_MEMORY."""
    cdef Shard *sh = shard_of(s, hash)
    cdef Outcome outcome = NOT_FOUND
    cdef handle_t h
    lock_lookup(sh, hash)
    h = find_live(sh, hash, key, nkey, now)
    if h:
        outcome = remove_or_mark(s, sh, hash, key, nkey, terms, h)
    pthread_mutex_unlock(&sh.lock)
    if terms.emptied:
        arena_wake(&s.arena)
    return outcome
