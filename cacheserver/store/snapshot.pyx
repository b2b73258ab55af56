# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""The store's numbers: see snapshot.pxd."""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from cacheserver.store.arena cimport PAGE_SHIFT, Page, item_at
from cacheserver.store.classes cimport tail_age
from cacheserver.store.index cimport index_bytes
from cacheserver.store.item cimport handle_t
from cacheserver.store.platform cimport atomic_get, pthread_mutex_lock, pthread_mutex_unlock
from cacheserver.store.shard cimport COLD, HOT, SEGMENTS, WARM, Shard, SlabClass, StoreC
from cacheserver.store.slab cimport slab_sizes


cdef struct ClassSum:
    SlabClass k
    uint64_t pages
    uint64_t numbers[3]
    uint32_t ages[3]
    uint32_t age
    uint64_t free_end        # chunks never handed out


cdef struct Sum:
    uint64_t items, total_items, bytes, evictions, reclaimed, rescued, slabs_moved
    uint64_t no_memory, index_bytes, buckets, pages, draining


cdef uint32_t segment_age(Shard *sh, SlabClass *k, uint32_t segment) noexcept nogil:
    cdef handle_t h = k.segments[segment].tail
    cdef uint32_t atime
    if h == 0:
        return 0
    atime = item_at(sh.arena, h).atime
    return sh.now - atime if sh.now > atime else 0


cdef void add_counters(SlabClass *into, const SlabClass *k) noexcept nogil:
    cdef uint64_t *to = &into.evicted
    cdef const uint64_t *of = &k.evicted
    cdef uint32_t i
    for i in range((<const char *>(k + 1) - <const char *>of) // sizeof(uint64_t)):
        if of + i != &k.evicted_time:
            to[i] += of[i]
    if k.evicted_time > into.evicted_time:
        into.evicted_time = k.evicted_time


cdef void add_class(ClassSum *into, Shard *sh, uint32_t c) noexcept nogil:
    """Add a shard's class to the sum over shards. Lock held."""
    cdef SlabClass *k = &sh.classes[c]
    cdef uint32_t i, age, page, seen = 0
    cdef Page *p
    add_counters(&into.k, k)
    into.k.used += k.used
    into.k.bytes += k.bytes
    into.pages += k.pages
    for i in range(SEGMENTS):
        into.numbers[i] += k.segments[i].count
        age = segment_age(sh, k, i)
        if age > into.ages[i]:
            into.ages[i] = age
    age = tail_age(sh, c)
    if age > into.age:
        into.age = age
    page = k.open
    while page and seen < 1024:
        p = &sh.arena.pages[page]
        into.free_end += p.nchunks - p.bump
        page = p.next
        seen += 1


cdef void add_shard(Sum *sum, Shard *sh) noexcept nogil:
    sum.items += sh.index.items
    sum.total_items += sh.total_items
    sum.bytes += sh.bytes
    sum.evictions += sh.evictions
    sum.reclaimed += sh.reclaimed
    sum.rescued += sh.rescued
    sum.slabs_moved += sh.slabs_moved
    sum.no_memory += sh.no_memory
    sum.index_bytes += index_bytes(&sh.index)
    sum.buckets += sh.index.count
    sum.pages += sh.pages
    sum.draining += sh.draining != 0


cdef dict class_dict(ClassSum *c, bint runs):
    chunks = c.k.used if runs else c.pages * c.k.nchunks
    return {
        "chunk_size": (1 << PAGE_SHIFT) if runs else c.k.chunk_size,
        "chunks_per_page": 1 if runs else c.k.nchunks,
        "total_pages": c.pages,
        "total_chunks": chunks,
        "used_chunks": c.k.used,
        "free_chunks": chunks - c.k.used - c.free_end if chunks > c.k.used + c.free_end else 0,
        "free_chunks_end": c.free_end,
        "mem_requested": c.k.bytes,
        "number": c.numbers[HOT] + c.numbers[WARM] + c.numbers[COLD],
        "number_hot": c.numbers[HOT],
        "number_warm": c.numbers[WARM],
        "number_cold": c.numbers[COLD],
        "number_temp": 0,
        "age_hot": c.ages[HOT],
        "age_warm": c.ages[WARM],
        "age": c.age,
        "evicted": c.k.evicted,
        "evicted_nonzero": c.k.evicted_nonzero,
        "evicted_time": c.k.evicted_time,
        "evicted_unfetched": c.k.evicted_unfetched,
        "evicted_active": c.k.evicted_active,
        "expired_unfetched": c.k.expired_unfetched,
        "outofmemory": c.k.outofmemory,
        "reclaimed": c.k.reclaimed,
        "crawler_reclaimed": c.k.crawler_reclaimed,
        "crawler_items_checked": c.k.crawler_items_checked,
        "lrutail_reflocked": c.k.lrutail_reflocked,
        "direct_reclaims": c.k.direct_reclaims,
        "moves_to_cold": c.k.moves_to_cold,
        "moves_to_warm": c.k.moves_to_warm,
        "moves_within_lru": c.k.moves_within_lru,
        "hits_to_hot": c.k.hits_to_hot,
        "hits_to_warm": c.k.hits_to_warm,
        "hits_to_cold": c.k.hits_to_cold,
        "hits_to_temp": 0,
        "get_hits": c.k.hits_to_hot + c.k.hits_to_warm + c.k.hits_to_cold,
        "cmd_set": c.k.cmd_set,
        "delete_hits": c.k.delete_hits,
        "incr_hits": c.k.incr_hits,
        "decr_hits": c.k.decr_hits,
        "cas_hits": c.k.cas_hits,
        "cas_badval": c.k.cas_badval,
        "touch_hits": c.k.touch_hits,
    }


cdef dict store_snapshot(StoreC *s):
    cdef ClassSum sums[320]
    cdef SlabClass all       # its counters: those of every class
    cdef Sum sum
    cdef uint32_t i, c, runs = slab_sizes().count
    cdef Shard *sh
    with nogil:
        memset(sums, 0, sizeof(sums))
        memset(&all, 0, sizeof(all))
        memset(&sum, 0, sizeof(sum))
        for i in range(s.nshards):
            sh = &s.shards[i]
            pthread_mutex_lock(&sh.lock)
            add_shard(&sum, sh)
            for c in range(runs + 1):
                add_class(&sums[c], sh, c)
            pthread_mutex_unlock(&sh.lock)
        for c in range(runs + 1):
            add_counters(&all, &sums[c].k)
    classes = {}
    for c in range(runs + 1):
        if sums[c].pages or sums[c].k.cmd_set:  # of the hundreds of classes most are never used
            sums[c].k.chunk_size = s.shards[0].classes[c].chunk_size
            sums[c].k.nchunks = s.shards[0].classes[c].nchunks
            classes[c + 1] = class_dict(&sums[c], c == runs)
    return {
        "classes": classes,
        "curr_items": sum.items,
        "total_items": sum.total_items,
        "bytes": sum.bytes,
        "evictions": sum.evictions,
        "reclaimed": sum.reclaimed,
        "slab_reassign_rescues": sum.rescued,
        "slabs_moved": sum.slabs_moved,
        "slab_reassign_running": 1 if sum.draining else 0,
        "lru_crawler_starts": s.crawls,
        "lru_maintainer_juggles": s.upkeeps,
        "store_no_memory": sum.no_memory,
        "hash_power_level": max(0, int(sum.buckets).bit_length() - 1),
        "hash_bytes": sum.index_bytes,
        "hash_is_expanding": 0,
        "active_slabs": len(classes),
        "total_malloced": atomic_get(&s.arena.committed),
        "slab_global_page_pool": s.arena.npool,
        "committed": atomic_get(&s.arena.committed),
        "untouched": atomic_get(&s.arena.untouched),
        "side_bytes": atomic_get(&s.arena.side_bytes),
        "reserved": atomic_get(&s.reserved),
        "debt": max(0, atomic_get(&s.debt)),
        "released_soft": atomic_get(&s.released_soft),
        "released_hard": atomic_get(&s.released_hard),
        "expired_unfetched": all.expired_unfetched,
        "evicted_unfetched": all.evicted_unfetched,
        "evicted_active": all.evicted_active,
        "crawler_reclaimed": all.crawler_reclaimed,
        "crawler_items_checked": all.crawler_items_checked,
        "lrutail_reflocked": all.lrutail_reflocked,
        "direct_reclaims": all.direct_reclaims,
        "moves_to_cold": all.moves_to_cold,
        "moves_to_warm": all.moves_to_warm,
        "moves_within_lru": all.moves_within_lru,
    }
