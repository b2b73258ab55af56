# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Slab classes: see slab.pxd.

Chunk sizes go up in steps of 8 bytes to 512 (an item of the commonest sizes wastes nothing) and then by 3 to 6 %, so that
on average 2 % of a chunk is lost; the sizes divide the page, so that next to nothing is lost at its end.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from cacheserver.store.arena cimport (
    CHUNK_BITS,
    CHUNK_MASK,
    LARGE_CHUNKS,
    MIN_CHUNK,
    OS_PAGE,
    PAGE_DRAINING,
    PAGE_RUN,
    PAGE_SIZE,
    PAGE_SLAB,
    Page,
    arena_put_page,
    arena_put_run,
    arena_run_touched,
    arena_take_run,
    arena_touch,
    item_at,
)
from cacheserver.store.item cimport FREE, Item, handle_t, item_bytes
from cacheserver.store.platform cimport observe, prefetch_write, publish
from cacheserver.store.poison cimport poison_free
from cacheserver.store.shard cimport CHUNK_MAX, Shard, SlabClass

cdef SlabSizes sizes


cdef void make_sizes() noexcept nogil:
    cdef uint32_t size = MIN_CHUNK, step, n = 0, last = 0, exact, i
    while size <= CHUNK_MAX:
        exact = PAGE_SIZE // (PAGE_SIZE // size) // 8 * 8
        if exact > CHUNK_MAX:
            exact = CHUNK_MAX
        if exact != last:
            sizes.chunk_size[n] = last = exact
            n += 1
        step = 8
        while size >= 512 and step * 32 < size:
            step *= 2
        size = (exact if exact > size else size) // 8 * 8 + step
    sizes.count = n
    n = 0
    for i in range(CHUNK_MAX // 8 + 1):
        while sizes.chunk_size[n] < i * 8:
            n += 1
        sizes.lookup[i] = n

make_sizes()


cdef SlabSizes *slab_sizes() noexcept nogil:
    return &sizes


cdef uint32_t slab_class_of(uint64_t nbytes) noexcept nogil:
    """The class whose chunks are the smallest that hold `nbytes`; the run class where none does."""
    if nbytes > CHUNK_MAX:
        return sizes.count
    return sizes.lookup[(nbytes + 7) >> 3]


cdef void slab_open(Shard *sh) noexcept nogil:
    cdef uint32_t c
    for c in range(sizes.count):
        sh.classes[c].chunk_size = sizes.chunk_size[c]
        sh.classes[c].nchunks = PAGE_SIZE // sizes.chunk_size[c]
    sh.classes[sizes.count].nchunks = 1


cdef bint slab_owns(Shard *sh, uint32_t page) noexcept nogil:
    """Whether a page is the shard's; the state is read first, because whoever takes a page writes it last."""
    cdef Page *p = &sh.arena.pages[page]
    cdef uint8_t state = observe(&p.state)
    return (state == PAGE_SLAB or state == PAGE_DRAINING or state == PAGE_RUN) and p.shard == sh.number


cdef void link_open(Shard *sh, SlabClass *k, uint32_t page) noexcept nogil:
    cdef Page *p = &sh.arena.pages[page]
    p.prev = 0
    p.next = k.open
    if k.open:
        sh.arena.pages[k.open].prev = page
    k.open = page


cdef void unlink_open(Shard *sh, SlabClass *k, uint32_t page) noexcept nogil:
    cdef Page *p = &sh.arena.pages[page]
    if p.prev:
        sh.arena.pages[p.prev].next = p.next
    elif k.open == page:
        k.open = p.next
    if p.next:
        sh.arena.pages[p.next].prev = p.prev
    p.next = p.prev = 0


cdef void slab_adopt(Shard *sh, uint32_t page, uint32_t cls) noexcept nogil:
    """Cut a page that the shard has taken in chunks of class `cls`."""
    cdef Page *p = &sh.arena.pages[page]
    cdef SlabClass *k = &sh.classes[cls]
    p.chunk_size = k.chunk_size
    p.nchunks = k.nchunks
    p.used = p.bump = p.free_head = 0
    p.pins = p.run = p.deadlines = 0
    p.min_exp = 0xffffffff
    p.cls = cls
    p.shard = sh.number
    publish(&p.state, PAGE_SLAB)
    link_open(sh, k, page)
    k.pages += 1
    sh.pages += 1


cdef handle_t slab_alloc(Shard *sh, uint32_t cls) noexcept nogil:
    """A chunk from an open page of the class; 0 if it has none."""
    cdef SlabClass *k = &sh.classes[cls]
    cdef uint32_t page = k.open, chunk
    cdef Page *p
    if page == 0:
        return 0
    p = &sh.arena.pages[page]
    if p.free_head:
        chunk = p.free_head - 1
        p.free_head = item_at(sh.arena, page << CHUNK_BITS | chunk).next
        if p.free_head:      # the next one to be taken, which has not been looked at for long
            prefetch_write(item_at(sh.arena, page << CHUNK_BITS | (p.free_head - 1)))
    else:
        chunk = p.bump
        p.bump += 1
        if p.nchunks > LARGE_CHUNKS:     # touched as a whole; large ones: see slab_touch()
            arena_touch(sh.arena, page, chunk * p.chunk_size, p.bump * p.chunk_size)
    p.used += 1
    k.used += 1
    if k.used > k.peak:
        k.peak = k.used
    if p.free_head == 0 and p.bump == p.nchunks:
        unlink_open(sh, k, page)
    return page << CHUNK_BITS | chunk


cdef void slab_touch_large(Shard *sh, handle_t h, uint64_t nbytes) noexcept nogil:
    """slab_touch() of a large chunk, or of a run."""
    cdef uint32_t page = h >> CHUNK_BITS, begin
    cdef Page *p = &sh.arena.pages[page]
    if p.state == PAGE_RUN:
        arena_run_touched(sh.arena, page, nbytes)
    else:
        begin = (h & CHUNK_MASK) * p.chunk_size
        arena_touch(sh.arena, page, begin, begin + <uint32_t>nbytes)


cdef handle_t slab_alloc_run(Shard *sh, uint64_t nbytes, bint force) noexcept nogil:
    """A run of pages for one large item; 0 if there is no leave for it (`force`: see arena_take_run())."""
    cdef uint32_t page = arena_take_run(sh.arena, nbytes, force), cls = sizes.count
    cdef Page *p
    if page == 0:
        return 0
    p = &sh.arena.pages[page]
    p.nchunks = p.bump = p.used = 1
    p.free_head = p.pins = p.next = p.prev = 0
    p.min_exp = 0xffffffff
    p.cls = cls
    p.shard = sh.number
    publish(&p.state, PAGE_RUN)
    sh.run_bytes += (nbytes + OS_PAGE - 1) // OS_PAGE * OS_PAGE
    sh.classes[cls].pages += p.run
    sh.classes[cls].used += 1
    sh.pages += p.run
    return page << CHUNK_BITS


cdef void slab_free(Shard *sh, handle_t h) noexcept nogil:
    """Take a chunk back. A page that becomes empty goes to the arena's pool, a run at once."""
    cdef uint32_t page = h >> CHUNK_BITS
    cdef Page *p = &sh.arena.pages[page]
    cdef SlabClass *k = &sh.classes[p.cls]
    cdef Item *it = item_at(sh.arena, h)
    cdef uint64_t nbytes
    k.used -= 1
    p.used -= 1
    if p.state == PAGE_RUN:
        nbytes = item_bytes(it)
        sh.run_bytes -= (nbytes + OS_PAGE - 1) // OS_PAGE * OS_PAGE
        k.pages -= p.run
        sh.pages -= p.run
        it.bits = FREE
        arena_put_run(sh.arena, page, nbytes)
        return
    if p.free_head == 0 and p.bump == p.nchunks and p.state == PAGE_SLAB:
        link_open(sh, k, page)
    it.bits = FREE
    it.next = p.free_head
    p.free_head = (h & CHUNK_MASK) + 1
    poison_free(it, p.chunk_size)
    if p.used == 0 and p.state == PAGE_SLAB:
        slab_give_page(sh, page)


cdef void slab_close_page(Shard *sh, uint32_t page) noexcept nogil:
    """No more chunks from this page: it is being emptied."""
    cdef Page *p = &sh.arena.pages[page]
    if p.free_head or p.bump < p.nchunks:
        unlink_open(sh, &sh.classes[p.cls], page)
    publish(&p.state, PAGE_DRAINING)


cdef void slab_reopen_page(Shard *sh, uint32_t page) noexcept nogil:
    """Undo slab_close_page(): something on the page could not be moved or removed."""
    cdef Page *p = &sh.arena.pages[page]
    publish(&p.state, PAGE_SLAB)
    if p.used == 0:
        link_open(sh, &sh.classes[p.cls], page)
        slab_give_page(sh, page)
    elif p.free_head or p.bump < p.nchunks:
        link_open(sh, &sh.classes[p.cls], page)


cdef void slab_give_page(Shard *sh, uint32_t page) noexcept nogil:
    """An empty page that no list of chunks needs any more goes to the arena's pool."""
    cdef Page *p = &sh.arena.pages[page]
    if p.state == PAGE_SLAB:
        unlink_open(sh, &sh.classes[p.cls], page)
    sh.classes[p.cls].pages -= 1
    sh.pages -= 1
    arena_put_page(sh.arena, page)
