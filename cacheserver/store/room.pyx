# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Room for an item: see room.pxd."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from cacheserver.store.arena cimport (
    CHUNK_BITS,
    OS_PAGE,
    PAGE_DRAINING,
    Page,
    arena_release_pool,
    arena_take_page,
    page_of,
)
from cacheserver.store.balance cimport balance_fresh, balance_host, balance_run, balance_step, evict_for_room
from cacheserver.store.classes cimport classes_least, coldest_item
from cacheserver.store.drain cimport evict_coldest
from cacheserver.store.expiry cimport expire_page
from cacheserver.store.item cimport Item, handle_t
from cacheserver.store.platform cimport (
    pthread_mutex_lock,
    pthread_mutex_trylock,
    pthread_mutex_unlock,
    sched_yield,
)
from cacheserver.store.shard cimport CHUNK_MAX, Shard, SlabClass, StoreC
from cacheserver.store.slab cimport slab_adopt, slab_alloc, slab_alloc_run, slab_class_of, slab_free, slab_sizes
from cacheserver.store.steer cimport steer_begin


cdef handle_t fresh_chunk(Shard *sh, uint32_t cls) noexcept nogil:
    """A chunk that costs nobody anything: from an open page, or from a page that there is leave for."""
    cdef handle_t h = slab_alloc(sh, cls)
    return h if h else balance_fresh(sh, cls)


cdef handle_t room_of_expired(Shard *sh, uint32_t cls) noexcept nogil:
    """A chunk on the page of the class's coldest item whose own item's time has come; 0 if there is none."""
    cdef uint32_t page = coldest_item(sh, cls) >> CHUNK_BITS
    cdef Page *p = &sh.arena.pages[page]
    if page == 0 or p.min_exp > sh.now or p.state == PAGE_DRAINING or expire_page(sh, page) == 0:
        return 0
    return fresh_chunk(sh, cls)


cdef handle_t room_in_class(Shard *sh, uint32_t cls) noexcept nogil:
    """A chunk of this class by evicting from it; 0 if it has nothing to evict."""
    cdef uint32_t tries, most = 4
    cdef handle_t h
    if sh.learning and sh.learner == NULL and sh.number == 0:
        steer_begin(sh)
    h = room_of_expired(sh, cls)
    if h:
        return h
    balance_step(sh, cls)
    h = fresh_chunk(sh, cls)
    if h:
        return h
    if sh.draining and sh.arena.pages[sh.draining].cls == cls:
        most = 64            # what is evicted from the page that is being emptied makes no room
    for tries in range(most):
        if not evict_for_room(sh, cls):
            return 0
        h = fresh_chunk(sh, cls)
        if h:
            return h
    return 0


cdef inline uint64_t all_of(Shard *sh) noexcept nogil:
    """One bit for each shard of the store."""
    return ~<uint64_t>0 >> (64 - sh.nshards)


cdef handle_t room_from_others(Shard *sh, uint32_t cls) noexcept nogil:
    """A page of another shard, for a shard that has none to give up itself."""
    cdef uint32_t i, tries
    cdef uint64_t barren = <uint64_t>1 << sh.number
    cdef Shard *other
    cdef handle_t h
    for tries in range(64):
        for i in range(1, sh.nshards):
            other = &sh.all[(sh.number + i) % sh.nshards]
            if barren >> other.number & 1 or pthread_mutex_trylock(&other.lock) != 0:
                continue
            if not evict_coldest(other):
                barren |= <uint64_t>1 << other.number
            pthread_mutex_unlock(&other.lock)
            h = fresh_chunk(sh, cls)
            if h:
                return h
        if barren == all_of(sh):
            return 0
        sched_yield()
    return 0


cdef handle_t room_by_force(Shard *sh, uint32_t cls) noexcept nogil:
    """A page for a class that has none, and whose items can lie nowhere else: it is worth what it has cost, at first."""
    cdef uint64_t worth = classes_least(sh)
    if not evict_coldest(sh):
        return 0
    if sh.classes[cls].worth < worth:
        sh.classes[cls].worth = worth
    return fresh_chunk(sh, cls)


cdef handle_t last_resort(Shard *sh, uint32_t cls) noexcept nogil:
    """A shard with no page, or with a single one on which something is pinned, takes one without leave, so that a write
    never fails because memory is tight."""
    cdef uint32_t page
    if sh.pages > 1:
        return 0
    page = arena_take_page(sh.arena, True)
    if page == 0:
        return 0
    slab_adopt(sh, page, cls)
    return slab_alloc(sh, cls)


cdef handle_t room_for(Shard *sh, uint64_t nbytes) noexcept nogil:
    """A chunk for an item of `nbytes`: free, new with leave, or made by eviction; 0 only if nothing may be evicted.

    An item that needs a run gets it only where there is leave: making room for one takes system calls (see take_chunk()).
    """
    cdef uint32_t cls = slab_class_of(nbytes)
    cdef SlabClass *k = &sh.classes[cls]
    cdef uint32_t host
    cdef handle_t h
    if cls == slab_sizes().count:
        return slab_alloc_run(sh, nbytes, False)
    h = fresh_chunk(sh, cls)
    if h or sh.no_evictions:
        return h
    k.direct_reclaims += 1
    host = balance_host(sh, cls)
    if host != cls:
        h = slab_alloc(sh, host)
    if h == 0 and sh.classes[host].pages:
        h = room_in_class(sh, host)
    if h == 0:
        h = room_by_force(sh, host)
    if h == 0:
        h = room_from_others(sh, cls)
    return h if h else last_resort(sh, cls)


cdef void count_no_memory(Shard *sh, uint64_t nbytes) noexcept nogil:
    """Count that there was no room for an item of `nbytes`. Lock held."""
    sh.classes[slab_class_of(nbytes)].outofmemory += 1
    sh.no_memory += 1


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
            barren = 0 if balance_run(victim) else barren + 1
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
        count_no_memory(sh, need)
    else:
        page_of(&s.arena, h).pins += 1
    return h


cdef void drop_chunk(StoreC *s, Shard *sh, handle_t h, Item *it) noexcept nogil:
    """Give a pinned LOOSE item's chunk back. Lock held."""
    it.refs = 0
    page_of(&s.arena, h).pins -= 1
    slab_free(sh, h)
