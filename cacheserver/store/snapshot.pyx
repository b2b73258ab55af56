# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The store's numbers: see snapshot.pxd."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from cacheserver.store.arena cimport (
    TOUCHED_WORDS,
    OS_PAGE,
    PAGE_DRAINING,
    PAGE_FREE,
    PAGE_RUN,
    PAGE_SHIFT,
    PAGE_SLAB,
    Arena,
    Page,
    item_at,
)
from cacheserver.store.classes cimport tail_age
from cacheserver.store.index cimport index_bytes
from cacheserver.store.item cimport handle_t
from cacheserver.store.learn cimport learn_bytes
from cacheserver.store.platform cimport atomic_get, observe, pthread_mutex_lock, pthread_mutex_unlock
from cacheserver.store.shard cimport HOT, SEGMENTS, WARM, Shard, SlabClass, StoreC
from cacheserver.store.slab cimport slab_sizes


cdef struct ClassSum:
    SlabClass k
    uint64_t pages
    uint64_t numbers[2]
    uint32_t ages[2]
    uint32_t age
    uint64_t run_bytes       # committed by runs
    # by the page table
    uint64_t free_end        # chunks never handed out
    uint64_t touched         # bytes
    uint64_t side_bytes


cdef struct Sum:
    uint64_t items, total_items, bytes, evictions, reclaimed, rescued, slabs_moved
    uint64_t no_memory, index_bytes, buckets, pages, draining
    uint64_t pool_touched    # bytes
    uint64_t table_bytes
    uint64_t learner_bytes


cdef uint32_t segment_age(Shard *sh, SlabClass *k, uint32_t segment) noexcept nogil:
    cdef handle_t h = k.segments[segment].tail
    cdef uint32_t atime
    if h == 0:
        return 0
    atime = item_at(sh.arena, h).atime
    return sh.now - atime if sh.now > atime else 0


cdef void add_counters(SlabClass *into, const SlabClass *k) noexcept nogil:
    """Add the counters that stand together at the end of the struct."""
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
    cdef uint32_t i, age
    if k.pages == 0 and k.cmd_set == 0 and k.outofmemory == 0:
        return               # never used: most of the hundreds of classes
    add_counters(&into.k, k)
    into.k.used += k.used
    into.k.bytes += k.bytes
    into.k.hits_to_hot += k.hits_to_hot
    into.k.hits_to_warm += k.hits_to_warm
    into.k.cmd_set += k.cmd_set
    into.pages += k.pages
    for i in range(SEGMENTS):
        into.numbers[i] += k.segments[i].count
        age = segment_age(sh, k, i)
        if age > into.ages[i]:
            into.ages[i] = age
    age = tail_age(sh, c)
    if age > into.age:
        into.age = age


cdef uint64_t os_pages(uint64_t nbytes) noexcept nogil:
    return (nbytes + OS_PAGE - 1) // OS_PAGE * OS_PAGE


cdef void add_pages(ClassSum *sums, Sum *sum, Arena *a) noexcept nogil:
    """Add what the page table tells. No lock is held: a page that changes meanwhile is counted as before or as after."""
    cdef uint32_t page
    cdef uint8_t state
    cdef Page *p
    cdef ClassSum *into
    for page in range(1, a.high):
        p = &a.pages[page]
        state = observe(&p.state)
        if state == PAGE_FREE:
            sum.pool_touched += p.touched
        if (state != PAGE_SLAB and state != PAGE_DRAINING and state != PAGE_RUN) or p.cls > slab_sizes().count:
            continue
        into = &sums[p.cls]
        into.touched += p.touched
        into.side_bytes += p.side
        into.free_end += p.nchunks - p.bump
    sum.table_bytes += os_pages(a.high * sizeof(Page)) + os_pages(a.high // 8 + 1) + os_pages(a.high * TOUCHED_WORDS * 8)


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
    sum.table_bytes += sizeof(Shard)
    sum.learner_bytes += learn_bytes() if sh.learner != NULL else 0


cdef dict class_bytes(ClassSum *c, bint runs):
    """What the pages of a class are used for. The parts of a run that is not in the index cannot be told apart."""
    number = sum([c.numbers[i] for i in range(SEGMENTS)])
    committed = c.run_bytes if runs else c.pages << PAGE_SHIFT
    if runs:
        loose = committed - c.k.bytes if c.k.used > number else 0
    else:
        loose = (c.k.used - number) * c.k.chunk_size
    return {
        "bytes_committed": committed + c.side_bytes,
        "bytes_untouched": max(0, committed - c.touched),
        "bytes_live": c.k.bytes,
        "bytes_loose": loose,
        "bytes_free": committed - c.k.bytes - loose,
        "bytes_meta": c.side_bytes,
    }


cdef dict class_dict(ClassSum *c, bint runs):
    chunks = c.k.used if runs else c.pages * c.k.nchunks
    return {
        **class_bytes(c, runs),
        "chunk_size": (1 << PAGE_SHIFT) if runs else c.k.chunk_size,
        "chunks_per_page": 1 if runs else c.k.nchunks,
        "total_pages": c.pages,
        "total_chunks": chunks,
        "used_chunks": c.k.used,
        "free_chunks": chunks - c.k.used - c.free_end if chunks > c.k.used + c.free_end else 0,
        "free_chunks_end": c.free_end,
        "mem_requested": c.k.bytes,
        "number": c.numbers[HOT] + c.numbers[WARM],
        "number_hot": c.numbers[HOT],
        "number_warm": c.numbers[WARM],
        "number_cold": 0,
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
        "moves_to_cold": 0,
        "moves_to_warm": c.k.moves_to_warm,
        "moves_within_lru": c.k.moves_within_lru,
        "hits_to_hot": c.k.hits_to_hot,
        "hits_to_warm": c.k.hits_to_warm,
        "hits_to_cold": 0,
        "hits_to_temp": 0,
        "get_hits": c.k.hits_to_hot + c.k.hits_to_warm,
        "cmd_set": c.k.cmd_set,
        "delete_hits": c.k.delete_hits,
        "incr_hits": c.k.incr_hits,
        "decr_hits": c.k.decr_hits,
        "cas_hits": c.k.cas_hits,
        "cas_badval": c.k.cas_badval,
        "touch_hits": c.k.touch_hits,
    }


cdef dict store_bytes(StoreC *s, Sum *of, classes):
    """The classes' bytes and those that are no class's."""
    pool = <int64_t>s.arena.npool << PAGE_SHIFT
    side = atomic_get(&s.arena.side_bytes)
    return {
        "bytes_committed": of.index_bytes + pool + side + of.learner_bytes + of.table_bytes
        + sum(c["bytes_committed"] - c["bytes_meta"] for c in classes),
        "bytes_untouched": max(0, pool - <int64_t>of.pool_touched) + sum(c["bytes_untouched"] for c in classes),
        "bytes_live": sum(c["bytes_live"] for c in classes),
        "bytes_loose": sum(c["bytes_loose"] for c in classes),
        "bytes_free": pool + sum(c["bytes_free"] for c in classes),
        "bytes_pool": pool,
        "bytes_meta": of.index_bytes + side + of.learner_bytes + of.table_bytes,
        "bytes_side": side,
        "bytes_table": of.table_bytes,
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
            sums[runs].run_bytes += sh.run_bytes
            pthread_mutex_unlock(&sh.lock)
        add_pages(sums, &sum, &s.arena)
        for c in range(runs + 1):
            add_counters(&all, &sums[c].k)
    classes = {}
    for c in range(runs + 1):
        if sums[c].pages or sums[c].k.cmd_set or sums[c].k.outofmemory:  # of the hundreds of classes most are never used
            sums[c].k.chunk_size = s.shards[0].classes[c].chunk_size
            sums[c].k.nchunks = s.shards[0].classes[c].nchunks
            classes[c + 1] = class_dict(&sums[c], c == runs)
    return {
        "classes": classes,
        **store_bytes(s, &sum, classes.values()),
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
        "active_slabs": len([each for each in classes.values() if each["total_pages"]]),
        "total_malloced": atomic_get(&s.arena.committed),
        "slab_global_page_pool": s.arena.npool,
        "committed": atomic_get(&s.arena.committed),
        "untouched": atomic_get(&s.arena.untouched),
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
        "moves_to_cold": 0,
        "moves_to_warm": all.moves_to_warm,
        "moves_within_lru": all.moves_within_lru,
    }
