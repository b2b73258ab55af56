# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The recount: see recount.pxd."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from cacheserver.store.arena cimport (
    CHUNK_BITS, OS_PAGE, PAGE_ABSENT, PAGE_DRAINING, PAGE_FREE, PAGE_LEAVING, PAGE_RUN, PAGE_SHIFT, PAGE_SIZE, PAGE_SLAB,
    PAGE_TAIL, TOUCHED_WORDS, Arena, Page, item_at, page_of,
)
from cacheserver.store.findings cimport Audit, Count, expect, report
from cacheserver.store.index cimport index_find
from cacheserver.store.item cimport (
    FREE, LIVE, LOOSE, STATE, Item, handle_t, item_bytes, item_key,
)
from cacheserver.store.link cimport hash_of
from cacheserver.store.lru cimport lru_segment
from cacheserver.store.platform cimport bit_count
from cacheserver.store.shard cimport SEGMENTS, Shard, SlabClass, shard_of
from cacheserver.store.slab cimport slab_class_of, slab_sizes


cdef void check_live(Audit *t, Shard *sh, Count *sum, handle_t h, Item *it) noexcept nogil:
    cdef Page *p = page_of(&t.s.arena, h)
    cdef uint64_t nbytes = item_bytes(it), hash = hash_of(sh, it)
    cdef uint64_t room = p.chunk_size if p.state != PAGE_RUN else <uint64_t>p.run << PAGE_SHIFT
    sum.live[p.cls] += 1
    sum.class_bytes[p.cls] += nbytes
    sum.bytes += nbytes
    if nbytes > room or slab_class_of(nbytes) > p.cls:
        report(t, "item {}: its {} bytes do not fit in its chunk of {}", h, nbytes, room)
    if it.nkey == 0 or it.nkey > 250 or lru_segment(it) >= SEGMENTS:
        report(t, "item {}: a key of {} bytes, state bits {}", h, it.nkey, it.bits)
    if it.exptime and it.exptime < p.min_exp and sh.now + 1 < p.min_exp:     # what comes late is due in the next second
        report(t, "item {}: expires at {}, before its page {} expects it, at {}", h, it.exptime, h >> CHUNK_BITS, p.min_exp)
    if shard_of(t.s, hash) != sh:
        report(t, "item {}: is in shard {}, its key belongs to shard {}", h, sh.number, shard_of(t.s, hash).number)
    elif index_find(&sh.index, sh.arena, hash, item_key(it), it.nkey) != h:
        report(t, "item {}: its key is found at {}", h, index_find(&sh.index, sh.arena, hash, item_key(it), it.nkey))


cdef void check_chunks(Audit *t, Shard *sh, Count *sum, uint32_t page) noexcept nogil:
    """Every chunk that has been handed out once, and the page's counts of them."""
    cdef Page *p = &t.s.arena.pages[page]
    cdef uint32_t chunk, state, used = 0, pins = 0
    cdef handle_t h
    cdef Item *it
    for chunk in range(p.bump):
        h = page << CHUNK_BITS | chunk
        it = item_at(&t.s.arena, h)
        state = it.bits & STATE
        if state == FREE:
            continue
        used += 1
        if it.refs:
            pins += 1
        if state == LIVE:
            check_live(t, sh, sum, h, it)
        elif state != LOOSE:
            report(t, "chunk {}: has no state", h)
        elif it.refs == 0:
            report(t, "chunk {}: is loose, and nobody holds it", h)
    expect(t, "page {2}: {0} chunks are in use, its count says {1}", used, p.used, page)
    expect(t, "page {2}: {0} items are held, its count says {1}", pins, p.pins, page)


cdef void check_free_list(Audit *t, uint32_t page) noexcept nogil:
    """No chunk twice on it, none that is in use, none too few."""
    cdef Page *p = &t.s.arena.pages[page]
    cdef uint64_t seen[256]      # a bit for each of a page's 2**14 chunks
    cdef uint32_t link = p.free_head, chunk, n = 0
    memset(seen, 0, sizeof(seen))
    while link:
        chunk = link - 1
        if chunk >= p.bump:
            report(t, "page {}: its free list holds chunk {}, which was never handed out", page, chunk)
            return
        if seen[chunk >> 6] >> (chunk & 63) & 1:
            report(t, "page {}: its free list comes back to chunk {}", page, chunk)
            return
        seen[chunk >> 6] |= <uint64_t>1 << (chunk & 63)
        if item_at(&t.s.arena, page << CHUNK_BITS | chunk).bits & STATE != FREE:
            report(t, "page {}: its free list holds chunk {}, which is in use", page, chunk)
            return
        n += 1
        link = item_at(&t.s.arena, page << CHUNK_BITS | chunk).next
    expect(t, "page {2}: {0} chunks on its free list, {1} free by its counts", n, p.bump - p.used, page)


cdef void check_touched(Audit *t, uint32_t page) noexcept nogil:
    cdef uint32_t i, n = 0
    for i in range(TOUCHED_WORDS):
        n += bit_count(t.s.arena.touched[<uint64_t>page * TOUCHED_WORDS + i])
    expect(t, "page {2}: {0} bytes of it are marked as touched, its count says {1}", n * OS_PAGE,
           t.s.arena.pages[page].touched, page)


cdef void check_slab(Audit *t, uint32_t page) noexcept nogil:
    cdef Page *p = &t.s.arena.pages[page]
    cdef Shard *sh = &t.s.shards[p.shard]
    cdef Count *sum = &t.counts[p.shard]
    cdef SlabClass *k = &sh.classes[p.cls if p.cls < slab_sizes().count else 0]
    sum.pages += 1
    t.committed += PAGE_SIZE + p.side
    t.untouched += PAGE_SIZE - <int64_t>p.touched
    if p.cls >= slab_sizes().count or p.chunk_size != k.chunk_size or p.nchunks != k.nchunks or p.bump > p.nchunks:
        report(t, "page {}: {} chunks of {} bytes do not make a page of class {}", page, p.nchunks, p.chunk_size, p.cls + 1)
        return
    sum.class_pages[p.cls] += 1
    sum.used[p.cls] += p.used
    check_touched(t, page)
    if p.state == PAGE_DRAINING:
        sum.draining += 1
        if sh.draining != page:
            report(t, "page {}: is being emptied, and nobody does it", page)
    elif p.free_head or p.bump < p.nchunks:
        sum.class_open[p.cls] += 1
    if p.used == 0 and p.state == PAGE_SLAB and p.bump:
        report(t, "page {}: is empty, and class {} keeps it", page, p.cls + 1)
    check_chunks(t, sh, sum, page)
    check_free_list(t, page)


cdef uint32_t check_run(Audit *t, uint32_t page) noexcept nogil:
    """A run; returns how many pages it has."""
    cdef Page *p = &t.s.arena.pages[page]
    cdef Count *sum = &t.counts[p.shard]
    cdef uint64_t nbytes = item_bytes(item_at(&t.s.arena, page << CHUNK_BITS))
    cdef int64_t whole = <int64_t>((nbytes + OS_PAGE - 1) // OS_PAGE * OS_PAGE)
    cdef uint32_t i
    sum.pages += p.run
    t.committed += whole + p.side
    t.untouched += whole - <int64_t>p.touched
    if p.cls != slab_sizes().count or p.chunk_size != PAGE_SIZE or p.bump != 1 or p.used != 1:
        report(t, "page {}: begins a run, but is cut as one of class {}", page, p.cls + 1)
        return 1
    sum.class_pages[p.cls] += p.run
    sum.used[p.cls] += p.used
    expect(t, "page {2}: its item needs {0} pages, its run has {1}", (nbytes + PAGE_SIZE - 1) >> PAGE_SHIFT, p.run, page)
    if <int64_t>p.touched > whole:
        report(t, "page {}: {} bytes of its run are touched, its item has {}", page, p.touched, nbytes)
    for i in range(1, p.run):
        if page + i >= t.s.arena.npages or t.s.arena.pages[page + i].state != PAGE_TAIL:
            report(t, "page {}: belongs to the run of page {}, and does not know it", page + i, page)
            return i
    check_chunks(t, &t.s.shards[p.shard], sum, page)
    return p.run if p.run else 1


cdef void check_taken(Audit *t, uint32_t page, uint8_t state) noexcept nogil:
    cdef Arena *a = &t.s.arena
    cdef uint32_t marked = a.taken[page >> 6] >> (page & 63) & 1
    if marked != (state != PAGE_ABSENT):
        report(t, "page {}: is in state {}, the bitmap says {}", page, state, marked)
    if not marked and page >> 6 < a.hint:
        report(t, "page {}: is absent, and searches begin behind it", page)


cdef void recount_pages(Audit *t) noexcept nogil:
    """The page table, from its start to the last page that was ever taken."""
    cdef Arena *a = &t.s.arena
    cdef uint32_t page = 1, end
    cdef uint8_t state
    if not a.taken[0] & 1 or a.high > a.npages:
        report(t, "the page table has {} pages, {} of them in use before; page 0 is taken: {}", a.npages, a.high, a.taken[0] & 1)
        return
    while page < a.high:
        state = a.pages[page].state
        end = page + 1
        if (state == PAGE_SLAB or state == PAGE_DRAINING or state == PAGE_RUN) and a.pages[page].shard >= t.s.nshards:
            report(t, "page {}: belongs to shard {}, which there is not", page, a.pages[page].shard)
        elif state == PAGE_SLAB or state == PAGE_DRAINING:
            check_slab(t, page)
        elif state == PAGE_RUN:
            end = page + check_run(t, page)
        elif state == PAGE_TAIL:
            report(t, "page {}: belongs to a run that does not begin anywhere", page)
        elif state == PAGE_FREE:
            t.pooled += 1
            t.committed += PAGE_SIZE + a.pages[page].side
            t.untouched += PAGE_SIZE - <int64_t>a.pages[page].touched
            check_touched(t, page)
        elif state == PAGE_LEAVING:
            report(t, "page {}: is on its way back to the host", page)
        elif state != PAGE_ABSENT:
            report(t, "page {}: has no state", page)
        while page < end:
            check_taken(t, page, a.pages[page].state)
            page += 1


cdef void recount_pool(Audit *t) noexcept nogil:
    cdef Arena *a = &t.s.arena
    cdef uint32_t page = a.pool, n = 0
    while page and n <= t.pooled:
        if page >= a.high or a.pages[page].state != PAGE_FREE:
            report(t, "page {}: is in the pool, and not empty", page)
            return
        page = a.pages[page].next
        n += 1
    if n > t.pooled:
        report(t, "the pool's list comes back to itself")
        return
    expect(t, "{} pages in the pool, its count says {}", n, a.npool)
    expect(t, "{} pages are empty, {} of them in the pool", t.pooled, n)
