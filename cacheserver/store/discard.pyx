# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Discarding a page: see discard.pxd.

The time goes into memory that is not in the cache: an item's bucket, and its neighbours in the segment. So the items pass
through a ring: their lines are asked for when they enter it, what those lead to half way, and used when they leave it.
"""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.arena cimport CHUNK_BITS, CHUNK_MASK, PAGE_SHIFT, Page
from cacheserver.store.evict cimport note_eviction
from cacheserver.store.hashing cimport key_hash
from cacheserver.store.index cimport Bucket, index_drop, index_slot
from cacheserver.store.item cimport (
    FETCHED,
    LIVE,
    STATE,
    Item,
    handle_t,
    item_bytes,
    item_expired,
    item_key,
)
from cacheserver.store.lru cimport lru_join, lru_segment, lru_spared
from cacheserver.store.platform cimport match_slots, pointer_look, prefetch, prefetch_write
from cacheserver.store.shard cimport SEGMENTS, Shard, SlabClass
from cacheserver.store.slab cimport slab_close_page, slab_reopen_page

cdef enum:
    RING = 32                # items whose lines are under way; a power of two
    READ_AHEAD = 16          # chunks whose headers are under way


cdef struct Leaving:
    Bucket *bucket
    Item *item
    uint32_t chunk


cdef struct Discard:         # a page's items on their way out, and what is counted of them
    Shard *sh
    SlabClass *k
    char *base               # of the page
    uint32_t page
    uint32_t size            # bytes a chunk; all neighbours in a segment are of the same class
    bint watched
    Leaving ring[32]
    uint32_t entered
    uint32_t left
    uint32_t counts[2]       # items by segment
    uint64_t bytes
    uint32_t expired, expired_unfetched, unfetched, active, nonzero
    uint32_t last_use        # store clock


cdef inline void expect(Discard *d, handle_t h) noexcept nogil:
    """An item of another page will be written to soon."""
    if h and h >> CHUNK_BITS != d.page:
        prefetch_write(d.sh.arena.base + (<uint64_t>(h >> CHUNK_BITS) << PAGE_SHIFT) + <uint64_t>(h & CHUNK_MASK) * d.size)


cdef inline void enter(Discard *d, Item *it, uint32_t chunk) noexcept nogil:
    cdef Leaving *slot = &d.ring[d.entered & (RING - 1)]
    slot.bucket = &d.sh.index.buckets[index_slot(&d.sh.index, key_hash(&d.sh.index.hasher, item_key(it), it.nkey))]
    slot.item = it
    slot.chunk = chunk
    prefetch_write(slot.bucket)
    expect(d, it.prev)
    expect(d, it.next)
    d.entered += 1


cdef inline void foresee(Discard *d) noexcept nogil:
    """The bucket of the item that is half way through the ring has come: where the item is not in it, the next one is needed."""
    cdef Leaving *slot = &d.ring[(d.entered - RING // 2) & (RING - 1)]
    cdef Bucket *b = slot.bucket
    if b.more and match_slots(b.slots, d.page << CHUNK_BITS | slot.chunk) == 0:
        prefetch_write(&d.sh.index.overflow[b.more])


cdef inline void tally(Discard *d, Item *it) noexcept nogil:
    cdef uint32_t fetched = (it.bits & FETCHED) != 0, expired = item_expired(it, d.sh.now)
    d.bytes += item_bytes(it)
    d.counts[lru_segment(it)] += 1
    d.expired += expired
    d.expired_unfetched += expired & ~fetched
    d.unfetched += (1 - expired) & ~fetched
    d.active += (1 - expired) & <uint32_t>(lru_spared(d.sh, it))
    d.nonzero += (1 - expired) & <uint32_t>(it.exptime != 0)
    d.last_use = it.atime
    if d.watched and not expired:
        note_eviction(d.sh, <uint32_t>(d.k - d.sh.classes), it)


cdef inline void leave(Discard *d) noexcept nogil:
    """The item that has been longest in the ring: out of its bucket, and its neighbours on other pages next to each other.

    Of neighbours that lie on this page the first one speaks for all.
    """
    cdef Leaving *slot = &d.ring[d.left & (RING - 1)]
    cdef Item *it = slot.item
    cdef handle_t before = it.prev, after
    d.left += 1
    index_drop(&d.sh.index, slot.bucket, d.page << CHUNK_BITS | slot.chunk)
    tally(d, it)
    if before and before >> CHUNK_BITS == d.page:
        return
    after = it.next
    while after and after >> CHUNK_BITS == d.page:
        after = (<Item *>(d.base + <uint64_t>(after & CHUNK_MASK) * d.size)).next
    lru_join(d.sh.arena, d.k, lru_segment(it), before, after)


cdef void settle(Discard *d) noexcept nogil:
    """Tell shard and class what has gone."""
    cdef Shard *sh = d.sh
    cdef SlabClass *k = d.k
    cdef uint32_t n = d.left, i
    for i in range(SEGMENTS):
        k.segments[i].count -= d.counts[i]
    sh.index.items -= n
    sh.bytes -= d.bytes
    k.bytes -= d.bytes
    k.reclaimed += d.expired
    sh.reclaimed += d.expired
    k.expired_unfetched += d.expired_unfetched
    k.evicted += n - d.expired
    sh.evictions += n - d.expired
    sh.since_balance += n - d.expired
    k.evicted_nonzero += d.nonzero
    k.evicted_unfetched += d.unfetched
    k.evicted_active += d.active
    if n > d.expired:
        k.evicted_time = sh.now - d.last_use if sh.now > d.last_use else 0


cdef void discard_page(Shard *sh, uint32_t page) noexcept nogil:
    """Drop every item of a page cut in chunks. Nothing on it is pinned, so all that is not free is LIVE."""
    cdef Page *p = &sh.arena.pages[page]
    cdef Discard d
    cdef uint32_t chunk, i
    cdef Item *it
    d.sh = sh
    d.k = &sh.classes[p.cls]
    d.base = sh.arena.base + (<uint64_t>page << PAGE_SHIFT)
    d.page = page
    d.size = p.chunk_size
    d.watched = pointer_look(&sh.journal.ring) != NULL
    d.entered = d.left = 0
    d.bytes = 0
    d.expired = d.expired_unfetched = d.unfetched = d.active = d.nonzero = d.last_use = 0
    for i in range(SEGMENTS):
        d.counts[i] = 0
    slab_close_page(sh, page)
    for chunk in range(p.bump):
        it = <Item *>(d.base + <uint64_t>chunk * d.size)
        prefetch(<char *>it + <uint64_t>READ_AHEAD * d.size)
        prefetch(<char *>it + <uint64_t>READ_AHEAD * d.size + 63)
        if it.bits & STATE == LIVE:
            if d.entered - d.left == RING:
                leave(&d)
            enter(&d, it, chunk)
            if d.entered - d.left >= RING // 2:
                foresee(&d)
    while d.left != d.entered:
        leave(&d)
    settle(&d)
    d.k.used -= p.used
    p.used = 0
    slab_reopen_page(sh, page)       # there is nothing on it: it goes to the pool
