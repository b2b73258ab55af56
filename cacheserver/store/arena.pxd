# cython: language_level=3
"""Address space cut in pages of 1 MiB, and the leave to use them.

Knows: mmap, pages, how many bytes the host has granted. Must not know: items, keys, who asks and why.
Memory: owns the mapping and the page table. A page belongs to whoever took it until it is put back. Memory goes back to
the host by MADV_DONTNEED only: unmapping every other page would run into the kernel's limit on the number of mappings,
and MADV_FREE returns nothing before the limit bites.
Threads: every function may be called from any thread. The arena's lock is a leaf: no other lock is taken under it, and
it is never held across a system call.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from cacheserver.store.item cimport Item, handle_t
from cacheserver.store.platform cimport pthread_mutex_t

cdef enum:
    PAGE_SHIFT = 20
    PAGE_SIZE = 1048576
    CHUNK_BITS = 14          # a page has at most 2**14 chunks of MIN_CHUNK bytes
    CHUNK_MASK = 16383
    MIN_CHUNK = 64
    OS_PAGE = 4096
    TOUCHED_WORDS = 4        # 64 OS pages each
    LARGE_CHUNKS = 256       # a page cut in at most so many chunks: what an item leaves of its chunk is worth counting
    SIDE_SIZE = 36864        # bytes of address space beside each page, for whoever has cut it up

cdef enum PageState:
    PAGE_ABSENT = 0          # holds no memory of the host
    PAGE_FREE                # in the pool: resident, holds nothing
    PAGE_SLAB                # cut in chunks
    PAGE_DRAINING            # PAGE_SLAB that gives no chunk any more because it is being emptied
    PAGE_RUN                 # first page of a run that holds one large item
    PAGE_TAIL                # the other pages of a run
    PAGE_LEAVING             # on its way back to the host

cdef struct Page:
    uint32_t chunk_size      # bytes; PAGE_RUN: PAGE_SIZE, so that chunk 0 is the item
    uint32_t nchunks
    uint32_t used            # chunks that hold an item, live or loose
    uint32_t bump            # chunks from here on have never been handed out
    uint32_t free_head       # first free chunk + 1
    uint32_t next            # neighbours in the class's list of open pages, or in the pool
    uint32_t prev
    uint32_t touched         # bytes that may be resident; PAGE_RUN: of the whole run, from its start on
    uint32_t min_exp         # store clock: no item here expires earlier
    uint32_t deadlines       # store clock, seconds: what the page's deadlines count from; 0 = it has none
    uint32_t side            # bytes beside the page that are counted as committed, from the start on
    uint32_t run             # PAGE_RUN: how many pages
    uint32_t pins            # items here that are pinned or being received
    uint16_t cls
    uint8_t shard
    uint8_t state

cdef struct Arena:
    char *base
    Page *pages
    uint64_t *taken          # one bit a page: not ABSENT
    uint64_t *touched        # TOUCHED_WORDS a page: one bit for each OS page that may be resident, but in runs
    char *sides              # SIDE_SIZE bytes a page
    uint32_t npages
    uint32_t high            # pages from here on have never been taken
    uint32_t hint            # no absent page lies below this word of `taken`
    uint32_t pool            # first page of the pool, 0 = none
    uint32_t npool
    pthread_mutex_t lock
    int64_t allowance        # bytes that may still be taken; atomic; can fall below 0 (forced takes)
    int64_t committed        # bytes granted and not given back: pages in use or in the pool, their sides, index; atomic
    int64_t untouched        # of those, bytes the host has not charged yet; atomic
    int64_t side_bytes       # of `committed`: what lies beside pages; atomic
    int64_t low_water        # the monitor is woken when the allowance falls below; atomic
    int64_t wanted           # the monitor should be woken; atomic flag
    int64_t ceiling          # bytes the host would let the store grow to, 0 = not known; atomic
    int64_t capacity         # tests and benchmarks only: bound on `committed`, 0 = none
    int wake_fd

cdef inline Item *item_at(Arena *a, handle_t h) noexcept nogil:
    cdef uint32_t page = h >> CHUNK_BITS
    return <Item *>(a.base + (<uint64_t>page << PAGE_SHIFT) + <uint64_t>(h & CHUNK_MASK) * a.pages[page].chunk_size)

cdef inline char *side_of(Arena *a, uint32_t page) noexcept nogil:
    return a.sides + <uint64_t>page * SIDE_SIZE

cdef inline Page *page_of(Arena *a, handle_t h) noexcept nogil:
    return &a.pages[h >> CHUNK_BITS]

cdef void *map_space(uint64_t nbytes) noexcept nogil
cdef void unmap_space(void *p, uint64_t nbytes) noexcept nogil
cdef void drop_space(void *p, uint64_t nbytes) noexcept nogil
cdef int arena_open(Arena *a, uint64_t address_space, int64_t capacity) noexcept nogil
cdef void arena_close(Arena *a) noexcept nogil
cdef bint arena_leave(Arena *a, int64_t n) noexcept nogil
cdef void arena_force(Arena *a, int64_t n) noexcept nogil
cdef void arena_give_back(Arena *a, int64_t n) noexcept nogil
cdef void arena_grant(Arena *a, int64_t n) noexcept nogil
cdef void arena_wake(Arena *a) noexcept nogil
cdef uint32_t arena_take_page(Arena *a, bint force) noexcept nogil
cdef uint32_t arena_take_run(Arena *a, uint64_t nbytes, bint force) noexcept nogil
cdef void arena_use_side(Arena *a, uint32_t page, uint32_t nbytes) noexcept nogil
cdef void arena_put_page(Arena *a, uint32_t page) noexcept nogil
cdef void arena_touch(Arena *a, uint32_t page, uint32_t begin, uint32_t end) noexcept nogil
cdef void arena_run_touched(Arena *a, uint32_t page, uint64_t nbytes) noexcept nogil
cdef void arena_put_run(Arena *a, uint32_t page, uint64_t nbytes) noexcept nogil
cdef int64_t arena_release_pool(Arena *a, int64_t target, uint32_t keep) noexcept nogil
