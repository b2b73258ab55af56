# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The audit: see audit.pxd.

That each live item is in the index exactly once needs no list of those seen: the index has as many entries as there are
live items, and each of these is found by its own key at its own place. That it is in one segment exactly once: the lists
together are as long as there are live items, and each is linked the same in both directions from its head on.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from cacheserver.store.arena cimport (
    CHUNK_BITS, OS_PAGE, PAGE_SHIFT, PAGE_SIZE, PAGE_SLAB, Arena, item_at, page_of, side_of,
)
from cacheserver.store.findings cimport Audit, Count, expect, findings_said, report
from cacheserver.store.index cimport SLOTS, Bucket, Index, index_bytes, index_slot, is_item
from cacheserver.store.item cimport LIVE, LOOSE, STATE, Item, handle_t, item_bytes
from cacheserver.store.link cimport hash_of
from cacheserver.store.learn cimport learn_bytes
from cacheserver.store.lru cimport lru_segment
from cacheserver.store.platform cimport atomic_get, low_bit, pthread_mutex_lock, pthread_mutex_unlock
from cacheserver.store.receive cimport quota_of
from cacheserver.store.recount cimport recount_pages, recount_pool
from cacheserver.store.shard cimport SEGMENTS, Segment, Shard, SlabClass, StoreC
from cacheserver.store.slab cimport slab_owns, slab_sizes

cdef extern from "<sys/mman.h>" nogil:
    int mincore(void *addr, size_t length, unsigned char *vec)


cdef void check_segment(Audit *t, Shard *sh, uint32_t cls, uint32_t segment) noexcept nogil:
    cdef Segment *s = &sh.classes[cls].segments[segment]
    cdef handle_t h = s.head, before = 0
    cdef uint32_t n = 0
    cdef Item *it
    while h and n <= s.count:
        it = item_at(&t.s.arena, h)
        if not slab_owns(sh, h >> CHUNK_BITS) or page_of(&t.s.arena, h).cls != cls or it.bits & STATE != LIVE or \
                lru_segment(it) != segment:
            report(t, "class {} segment {}: its list leads to {}, which is none of its items", cls + 1, segment, h)
            return
        if it.prev != before:
            report(t, "item {}: follows {} in its segment, and leads back to {}", h, before, it.prev)
            return
        before = h
        h = it.next
        n += 1
    expect(t, "class {2} segment {3}: {0} items in its list (at least), its count says {1}", n, s.count, cls + 1, segment)
    expect(t, "class {2} segment {3}: its list ends with {0}, its tail is {1}", before, s.tail, cls + 1, segment)


cdef void check_open(Audit *t, Shard *sh, uint32_t cls) noexcept nogil:
    """The pages of a class that have a chunk to give."""
    cdef Arena *a = &t.s.arena
    cdef uint64_t n = 0, open_pages = t.counts[sh.number].class_open[cls]
    cdef uint32_t page = sh.classes[cls].open, before = 0
    while page and n <= open_pages:
        if not slab_owns(sh, page) or a.pages[page].cls != cls or a.pages[page].state != PAGE_SLAB:
            report(t, "class {} of shard {}: page {} is none of its open pages", cls + 1, sh.number, page)
            return
        if a.pages[page].prev != before:
            report(t, "page {}: follows {} in its list, and leads back to {}", page, before, a.pages[page].prev)
            return
        before = page
        page = a.pages[page].next
        n += 1
    expect(t, "class {2} of shard {3}: {0} pages in its list (at least), {1} have chunks to give", n, open_pages, cls + 1,
           sh.number)


cdef void check_class(Audit *t, Shard *sh, uint32_t cls) noexcept nogil:
    cdef SlabClass *k = &sh.classes[cls]
    cdef Count *sum = &t.counts[sh.number]
    cdef uint64_t linked = 0
    cdef uint32_t i
    expect(t, "class {2} of shard {3}: {0} pages, its count says {1}", sum.class_pages[cls], k.pages, cls + 1, sh.number)
    expect(t, "class {2} of shard {3}: {0} chunks in use, its count says {1}", sum.used[cls], k.used, cls + 1, sh.number)
    expect(t, "class {2} of shard {3}: {0} bytes, its count says {1}", sum.class_bytes[cls], k.bytes, cls + 1, sh.number)
    for i in range(SEGMENTS):
        check_segment(t, sh, cls, i)
        linked += k.segments[i].count
    expect(t, "class {2} of shard {3}: {0} items, {1} in its segments", sum.live[cls], linked, cls + 1, sh.number)
    check_open(t, sh, cls)


cdef void check_loose(Audit *t, Shard *sh, int64_t *reserved) noexcept nogil:
    """The values that are being received."""
    cdef handle_t h = sh.loose, before = 0
    cdef uint64_t n = 0, most = 0
    cdef uint32_t c
    cdef Item *it
    for c in range(slab_sizes().count + 1):
        most += t.counts[sh.number].used[c] - t.counts[sh.number].live[c]
    while h and n <= most:
        it = item_at(&t.s.arena, h)
        if not slab_owns(sh, h >> CHUNK_BITS) or it.bits & STATE != LOOSE or it.refs != 1 or it.prev != before:
            report(t, "chunk {}: is in the list of values being received, and none of them", h)
            return
        reserved[0] += quota_of(item_bytes(it))
        before = h
        h = it.next
        n += 1
    if n > most:
        report(t, "shard {}: the list of values being received comes back to itself", sh.number)


cdef uint64_t check_chain(Audit *t, Shard *sh, uint64_t bucket, uint64_t *overflow) noexcept nogil:
    """The entries of a bucket and its overflow: their number; each must belong there."""
    cdef Index *ix = &sh.index
    cdef Bucket *b = &ix.buckets[bucket]
    cdef uint64_t n = 0, hash
    cdef uint32_t i
    cdef handle_t h
    while True:
        for i in range(SLOTS):
            h = b.slots[i]
            if not is_item(h):
                continue
            n += 1
            if not slab_owns(sh, h >> CHUNK_BITS) or item_at(&t.s.arena, h).bits & STATE != LIVE:
                report(t, "bucket {} of shard {}: leads to {}, which is no item of it", bucket, sh.number, h)
                continue
            hash = hash_of(sh, item_at(&t.s.arena, h))
            if index_slot(ix, hash) != bucket or hash >> 56 != b.tags[i]:
                report(t, "item {}: is in bucket {} under tag {}, its hash is {:x}", h, bucket, b.tags[i], hash)
        if b.more == 0:
            return n
        overflow[0] += 1
        if b.more >= ix.overflow_end or overflow[0] > ix.overflow_used:
            report(t, "bucket {} of shard {}: its overflow leads to {}, of {}", bucket, sh.number, b.more, ix.overflow_end)
            return n
        b = &ix.overflow[b.more]


cdef void check_index(Audit *t, Shard *sh) noexcept nogil:
    cdef Index *ix = &sh.index
    cdef uint64_t bucket, items = 0, live = 0, overflow = 0, empty = 0
    cdef uint32_t c, link = ix.overflow_free
    for c in range(slab_sizes().count + 1):
        live += t.counts[sh.number].live[c]
    expect(t, "shard {2}: {0} items, its index counts {1}", live, ix.items, sh.number)
    if ix.mask & (ix.mask + 1) or ix.count < ix.mask + 1 or ix.count > 2 * (ix.mask + 1) or ix.count > ix.space:
        report(t, "shard {}: an index of {} buckets with mask {:x}", sh.number, ix.count, ix.mask)
        return
    if (ix.ready or live) and ix.count * sizeof(Bucket) > ix.ready or \
            (ix.overflow_used and ix.overflow_end * sizeof(Bucket) > ix.overflow_ready):
        report(t, "shard {}: an index of {} buckets and {} more has {} bytes", sh.number, ix.count, ix.overflow_used,
               index_bytes(ix))
    if ix.ready == 0:
        return
    for bucket in range(ix.count):
        items += check_chain(t, sh, bucket, &overflow)
    expect(t, "shard {2}: {0} entries in its index, which counts {1}", items, ix.items, sh.number)
    expect(t, "shard {2}: {0} overflow buckets in use, its index counts {1}", overflow, ix.overflow_used, sh.number)
    while link and link < ix.overflow_end and empty < ix.overflow_end:
        link = ix.overflow[link].more
        empty += 1
    expect(t, "shard {2}: {0} overflow buckets are free (at least), by its index's counts {1}", empty,
           ix.overflow_end - 1 - ix.overflow_used, sh.number)


cdef void check_shard(Audit *t, Shard *sh) noexcept nogil:
    cdef Count *sum = &t.counts[sh.number]
    cdef uint32_t c
    expect(t, "shard {2}: {0} pages, its count says {1}", sum.pages, sh.pages, sh.number)
    expect(t, "shard {2}: {0} bytes of items, its count says {1}", sum.bytes, sh.bytes, sh.number)
    expect(t, "shard {2}: empties {0} pages, has {1} to empty", sum.draining, sh.draining != 0, sh.number)
    for c in range(slab_sizes().count + 1):
        check_class(t, sh, c)
    check_index(t, sh)
    t.committed += index_bytes(&sh.index)
    if sh.learner != NULL:
        t.committed += learn_bytes()


cdef void check_all(Audit *t) noexcept nogil:
    cdef StoreC *s = t.s
    cdef uint32_t i
    cdef int64_t reserved = 0
    for i in range(s.nshards):
        pthread_mutex_lock(&s.shards[i].lock)
    pthread_mutex_lock(&s.arena.lock)
    recount_pages(t)
    recount_pool(t)
    for i in range(s.nshards):
        check_shard(t, &s.shards[i])
        check_loose(t, &s.shards[i], &reserved)
    expect(t, "{} bytes of values being received, {} counted", reserved, atomic_get(&s.reserved))
    expect(t, "{} bytes of pages, what lies beside them, indexes and learner, {} committed", t.committed, atomic_get(&s.arena.committed))
    expect(t, "{} bytes of pages are not touched yet, {} counted", t.untouched, atomic_get(&s.arena.untouched))
    pthread_mutex_unlock(&s.arena.lock)
    for i in range(s.nshards):
        pthread_mutex_unlock(&s.shards[i].lock)


cdef list audit_store(StoreC *s):
    """A sentence for each thing that does not add up; none: the store is sound."""
    cdef Audit *t = <Audit *>calloc(1, sizeof(Audit))
    if t != NULL:
        t.s = s
        t.counts = <Count *>calloc(s.nshards, sizeof(Count))
    try:
        if t == NULL or t.counts == NULL:
            raise MemoryError("no memory for an audit of the store")
        with nogil:
            check_all(t)
        return findings_said(t)
    finally:
        if t != NULL:
            free(t.counts)
        free(t)


cdef int64_t resident(char *start, uint64_t nbytes) noexcept nogil:
    """Bytes from `start` on that the kernel holds in memory."""
    cdef unsigned char held[256]
    cdef int64_t n = 0
    cdef uint64_t i, part
    while nbytes:
        part = min(nbytes, PAGE_SIZE)
        if mincore(start, part, held) == 0:
            for i in range((part + OS_PAGE - 1) // OS_PAGE):
                n += (held[i] & 1) * OS_PAGE
        start += part
        nbytes -= part
    return n


cdef int64_t audit_resident(StoreC *s) noexcept nogil:
    """Bytes of pages and indexes that are in memory by the kernel's word: what Store.ledger() should say. No lock is held."""
    cdef Arena *a = &s.arena
    cdef int64_t n = 0
    cdef uint32_t word, page, i
    cdef uint64_t taken
    for word in range((a.high + 63) // 64):
        taken = a.taken[word]
        while taken:
            page = word * 64 + low_bit(taken)
            n += resident(a.base + (<uint64_t>page << PAGE_SHIFT), PAGE_SIZE) + resident(side_of(a, page), a.pages[page].side)
            taken &= taken - 1
    for i in range(s.nshards):
        n += resident(<char *>s.shards[i].index.buckets, s.shards[i].index.ready)
        n += resident(<char *>s.shards[i].index.overflow, s.shards[i].index.overflow_ready)
        n += resident(<char *>s.shards[i].index.retired, s.shards[i].index.retired_bytes)
        if s.shards[i].learner != NULL:
            n += learn_bytes()
    return n
