# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The arena: see arena.pxd for what it knows and who owns what."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from cacheserver.store.platform cimport (
    atomic_add,
    atomic_get,
    atomic_set,
    atomic_swap,
    atomic_take,
    bit_count,
    low_bit,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)
from cacheserver.store.poison cimport poison, unpoison

cdef extern from "<sys/mman.h>" nogil:
    enum:
        PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE, MADV_DONTNEED, MADV_NOHUGEPAGE
    void *MAP_FAILED
    void *mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)
    int munmap(void *addr, size_t length)
    int madvise(void *addr, size_t length, int advice)

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int fd, const void *buf, size_t n)

cdef enum:
    BATCH = 64               # pages released between two takings of the lock


cdef void *map_space(uint64_t nbytes) noexcept nogil:
    """Reserve address space that costs nothing until touched; NULL if refused.

    Huge pages are declined: on a huge-page mapping giving back single pages returns nothing to the host.
    """
    cdef void *p = mmap(NULL, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if p == MAP_FAILED:
        return NULL
    madvise(p, nbytes, MADV_NOHUGEPAGE)
    return p


cdef void unmap_space(void *p, uint64_t nbytes) noexcept nogil:
    if p != NULL:
        munmap(p, nbytes)


cdef void drop_space(void *p, uint64_t nbytes) noexcept nogil:
    """Give the memory of [p, p + nbytes) back to the host; the addresses stay and read as zeros."""
    madvise(p, nbytes, MADV_DONTNEED)


cdef int arena_open(Arena *a, uint64_t address_space, int64_t capacity) noexcept nogil:
    """Reserve `address_space` bytes, or the largest half, quarter ... of it that the system allows; -1 if none."""
    cdef uint64_t npages
    memset(a, 0, sizeof(Arena))
    while address_space >= 16 * PAGE_SIZE:
        a.base = <char *>map_space(address_space)
        if a.base != NULL:
            break
        address_space >>= 1
    if a.base == NULL:
        return -1
    npages = address_space >> PAGE_SHIFT
    a.pages = <Page *>map_space(npages * sizeof(Page))
    a.taken = <uint64_t *>map_space((npages + 63) // 64 * 8)
    a.touched = <uint64_t *>map_space(npages * TOUCHED_WORDS * 8)
    a.sides = <char *>map_space(npages * SIDE_SIZE)
    a.npages = <uint32_t>npages
    if a.pages == NULL or a.taken == NULL or a.touched == NULL or a.sides == NULL:
        arena_close(a)
        return -1
    a.taken[0] = 1           # page 0 is never used: handle 0 means "none"
    a.high = 1
    poison(a.base, PAGE_SIZE)
    a.capacity = capacity
    a.allowance = <int64_t>1 << 62
    a.wake_fd = -1
    pthread_mutex_init(&a.lock, NULL)
    return 0


cdef void arena_close(Arena *a) noexcept nogil:
    cdef uint64_t npages = a.npages
    unpoison(a.base, <uint64_t>a.high << PAGE_SHIFT)
    unmap_space(a.base, npages << PAGE_SHIFT)
    unmap_space(a.pages, npages * sizeof(Page))
    unmap_space(a.taken, (npages + 63) // 64 * 8)
    unmap_space(a.touched, npages * TOUCHED_WORDS * 8)
    unmap_space(a.sides, npages * SIDE_SIZE)
    memset(a, 0, sizeof(Arena))


cdef bint arena_leave(Arena *a, int64_t n) noexcept nogil:
    """Ask for leave to take `n` more bytes from the host; True = counted as committed and untouched."""
    cdef bint granted
    cdef int64_t low
    if a.capacity:
        granted = atomic_get(&a.committed) + n <= a.capacity
    else:
        granted = atomic_take(&a.allowance, n)
        low = atomic_get(&a.low_water)
        # Refused with more left than the mark: a whole grant would have done, so a new one will. Where it would not have,
        # or nothing was granted, asking again at each refusal would keep the monitor busy for nothing.
        if atomic_get(&a.allowance) < low or (not granted and n <= 2 * low):
            atomic_set(&a.wanted, 1)
    if granted:
        atomic_add(&a.committed, n)
        atomic_add(&a.untouched, n)
    return granted


cdef void arena_force(Arena *a, int64_t n) noexcept nogil:
    """Take `n` bytes without leave (for what cannot be refused); the debt is repaid from later grants."""
    if not a.capacity:
        atomic_add(&a.allowance, -n)
    atomic_add(&a.committed, n)
    atomic_add(&a.untouched, n)


cdef void arena_give_back(Arena *a, int64_t n) noexcept nogil:
    """`n` committed bytes have gone back to the host. Taking them again needs a new grant."""
    atomic_add(&a.committed, -n)


cdef void hand_in(Arena *a, int64_t n) noexcept nogil:
    """Undo arena_leave(): what was granted could not be used."""
    atomic_add(&a.untouched, -n)
    atomic_add(&a.committed, -n)
    if not a.capacity:
        atomic_add(&a.allowance, n)


cdef void arena_grant(Arena *a, int64_t n) noexcept nogil:
    """Set the allowance to `n` bytes (it replaces what was left of the last one)."""
    atomic_set(&a.allowance, n)
    atomic_set(&a.low_water, n // 2)


cdef void arena_wake(Arena *a) noexcept nogil:
    """Tell the monitor that growth was refused or will be soon. A system call: never under a lock."""
    cdef uint64_t one = 1
    if atomic_get(&a.wanted) and atomic_swap(&a.wanted, 0) and a.wake_fd >= 0:
        write(a.wake_fd, &one, 8)


cdef uint32_t find_absent(Arena *a, uint32_t count) noexcept nogil:
    """First of `count` neighbouring absent pages, 0 if there are none. Lock held."""
    cdef uint32_t page, found = 0, word
    cdef uint64_t holes
    if count == 1:
        for word in range(a.hint, (a.npages + 63) // 64):
            holes = ~a.taken[word]
            if holes:
                a.hint = word
                page = word * 64 + low_bit(holes)
                return page if page < a.npages else 0
        return 0
    page = a.hint * 64
    while page < a.npages:
        if found == 0 and (page & 63) == 0 and ~a.taken[page >> 6] == 0:
            page += 64
            continue
        if (a.taken[page >> 6] >> (page & 63)) & 1:
            found = 0
        else:
            found += 1
            if found == count:
                return page - count + 1
        page += 1
    return 0


cdef void mark(Arena *a, uint32_t page, bint taken) noexcept nogil:
    if taken:
        a.taken[page >> 6] |= <uint64_t>1 << (page & 63)
        if page >= a.high:
            a.high = page + 1
    else:
        a.taken[page >> 6] &= ~(<uint64_t>1 << (page & 63))
        if page >> 6 < a.hint:
            a.hint = page >> 6


cdef void forget_touched(Arena *a, uint32_t page) noexcept nogil:
    a.pages[page].touched = 0
    memset(a.touched + <uint64_t>page * TOUCHED_WORDS, 0, TOUCHED_WORDS * 8)


cdef uint32_t note_touched(Arena *a, uint32_t page, uint32_t begin, uint32_t end) noexcept nogil:
    """Mark the OS pages of the bytes from `begin` to before `end`; returns how many were not marked."""
    cdef uint64_t *bits = a.touched + <uint64_t>page * TOUCHED_WORDS
    cdef uint32_t first = begin // OS_PAGE, last = (end - 1) // OS_PAGE, word, n = 0
    cdef uint64_t fresh
    for word in range(first >> 6, (last >> 6) + 1):
        fresh = ~bits[word]
        if word == first >> 6:
            fresh &= ~<uint64_t>0 << (first & 63)
        if word == last >> 6:
            fresh &= ~<uint64_t>0 >> (63 - (last & 63))
        if fresh:
            bits[word] |= fresh
            n += bit_count(fresh)
    return n


cdef void arena_touch(Arena *a, uint32_t page, uint32_t begin, uint32_t end) noexcept nogil:
    """Bytes of a page that is cut in chunks have been written, or may be from now on: the host has charged their OS pages.

    begin < end, both from the page's start. The page is the caller's.
    """
    cdef uint32_t fresh = note_touched(a, page, begin, end)
    if fresh:
        a.pages[page].touched += fresh * OS_PAGE
        atomic_add(&a.untouched, -<int64_t>fresh * OS_PAGE)


cdef uint32_t arena_take_page(Arena *a, bint force) noexcept nogil:
    """One page for the caller to cut up: from the pool, else a new one if there is leave (or `force`); 0 if none."""
    cdef uint32_t page
    pthread_mutex_lock(&a.lock)
    page = a.pool
    if page:
        a.pool = a.pages[page].next
        a.npool -= 1
    pthread_mutex_unlock(&a.lock)
    if page:
        return page
    if not arena_leave(a, PAGE_SIZE):
        if not force:
            return 0
        arena_force(a, PAGE_SIZE)
    pthread_mutex_lock(&a.lock)
    page = find_absent(a, 1)
    if page:
        mark(a, page, True)
        forget_touched(a, page)
        poison(a.base + (<uint64_t>page << PAGE_SHIFT), PAGE_SIZE)
    pthread_mutex_unlock(&a.lock)
    if page == 0:
        hand_in(a, PAGE_SIZE)
    return page


cdef uint32_t arena_take_run(Arena *a, uint64_t nbytes, bint force) noexcept nogil:
    """Neighbouring pages for one item of `nbytes` (leave is asked for the whole OS pages it will touch); 0 if none.

    `force`: the caller has given as much back to the host to make room for it, and needs no leave.

    All are PAGE_TAIL: the caller makes the first one PAGE_RUN when it has filled it in.
    """
    cdef uint64_t whole = (nbytes + OS_PAGE - 1) // OS_PAGE * OS_PAGE
    cdef uint32_t count = <uint32_t>((nbytes + PAGE_SIZE - 1) >> PAGE_SHIFT)
    cdef uint32_t page, i
    if force:
        atomic_add(&a.committed, whole)
        atomic_add(&a.untouched, whole)
    elif not arena_leave(a, whole):
        return 0
    pthread_mutex_lock(&a.lock)
    page = find_absent(a, count)
    if page:
        for i in range(count):
            mark(a, page + i, True)
            a.pages[page + i].state = PAGE_TAIL
            forget_touched(a, page + i)
            poison(a.base + (<uint64_t>(page + i) << PAGE_SHIFT), PAGE_SIZE)
    pthread_mutex_unlock(&a.lock)
    if page == 0:
        hand_in(a, whole)
        return 0
    a.pages[page].run = count
    a.pages[page].chunk_size = PAGE_SIZE
    return page


cdef void arena_run_touched(Arena *a, uint32_t page, uint64_t nbytes) noexcept nogil:
    """The first `nbytes` of a run have been written: the host has charged them."""
    cdef uint64_t whole = (nbytes + OS_PAGE - 1) // OS_PAGE * OS_PAGE
    atomic_add(&a.untouched, <int64_t>a.pages[page].touched - <int64_t>whole)
    a.pages[page].touched = <uint32_t>whole


cdef void arena_use_side(Arena *a, uint32_t page, uint32_t nbytes) noexcept nogil:
    """The caller, whose page it is, is about to write to the first `nbytes` beside it. They go back with the page.

    Where there is no leave they are taken without: who has the page cannot do without them.
    """
    cdef uint32_t whole = (nbytes + OS_PAGE - 1) // OS_PAGE * OS_PAGE
    cdef uint32_t more = whole - a.pages[page].side
    if whole <= a.pages[page].side:
        return
    if not arena_leave(a, more):
        arena_force(a, more)
    atomic_add(&a.untouched, -<int64_t>more)
    atomic_add(&a.side_bytes, more)
    a.pages[page].side = whole


cdef void push_pool(Arena *a, uint32_t page) noexcept nogil:
    a.pages[page].state = PAGE_FREE
    poison(a.base + (<uint64_t>page << PAGE_SHIFT), PAGE_SIZE)
    a.pages[page].next = a.pool
    a.pool = page
    a.npool += 1


cdef void arena_put_page(Arena *a, uint32_t page) noexcept nogil:
    """A page that holds nothing any more goes to the pool; it stays resident until arena_release_pool()."""
    pthread_mutex_lock(&a.lock)
    push_pool(a, page)
    pthread_mutex_unlock(&a.lock)


cdef void arena_put_run(Arena *a, uint32_t page, uint64_t nbytes) noexcept nogil:
    """The pages of a run taken for `nbytes` go to the pool one by one.

    Each counts at its full size from here on: what the run did not need is taken now, without leave, as untouched.
    """
    cdef uint32_t i, count = a.pages[page].run
    cdef uint64_t whole = (nbytes + OS_PAGE - 1) // OS_PAGE * OS_PAGE
    cdef uint64_t left = a.pages[page].touched
    arena_force(a, (<int64_t>count << PAGE_SHIFT) - <int64_t>whole)
    pthread_mutex_lock(&a.lock)
    for i in range(count):
        a.pages[page + i].touched = <uint32_t>(left if left < PAGE_SIZE else PAGE_SIZE)
        left -= a.pages[page + i].touched
        if a.pages[page + i].touched:
            note_touched(a, page + i, 0, a.pages[page + i].touched)
        push_pool(a, page + i)
    pthread_mutex_unlock(&a.lock)


cdef void drop_pages(Arena *a, uint32_t *pages, uint32_t n) noexcept nogil:
    """Give pages back to the host, neighbours by one call."""
    cdef uint32_t i, j, page
    for i in range(1, n):
        page = pages[i]
        j = i
        while j and pages[j - 1] > page:
            pages[j] = pages[j - 1]
            j -= 1
        pages[j] = page
    i = 0
    while i < n:
        j = i + 1
        while j < n and pages[j] == pages[j - 1] + 1:
            j += 1
        drop_space(a.base + (<uint64_t>pages[i] << PAGE_SHIFT), <uint64_t>(j - i) << PAGE_SHIFT)
        i = j


cdef int64_t arena_release_pool(Arena *a, int64_t target, uint32_t keep) noexcept nogil:
    """Give pages of the pool back to the host until `target` bytes are resident no more or only `keep` pages are left.

    Returns the bytes that were resident, those beside the pages included. The pages are out of the pool, marked LEAVING, while the host takes them back.
    """
    cdef uint32_t batch[BATCH]
    cdef uint32_t n, i
    cdef int64_t freed = 0, touched, side
    while freed < target:
        n = 0
        touched = side = 0
        pthread_mutex_lock(&a.lock)
        while n < BATCH and a.npool > keep and freed + touched + side < target:
            i = a.pool
            a.pool = a.pages[i].next
            a.npool -= 1
            a.pages[i].state = PAGE_LEAVING
            touched += a.pages[i].touched
            side += a.pages[i].side
            batch[n] = i
            n += 1
        pthread_mutex_unlock(&a.lock)
        if n == 0:
            break
        drop_pages(a, batch, n)
        for i in range(n):
            if a.pages[batch[i]].side:
                drop_space(side_of(a, batch[i]), a.pages[batch[i]].side)
        pthread_mutex_lock(&a.lock)
        for i in range(n):
            a.pages[batch[i]].state = PAGE_ABSENT
            a.pages[batch[i]].touched = a.pages[batch[i]].side = 0
            mark(a, batch[i], False)
        pthread_mutex_unlock(&a.lock)
        atomic_add(&a.untouched, touched - (<int64_t>n << PAGE_SHIFT))
        atomic_add(&a.side_bytes, -side)
        arena_give_back(a, (<int64_t>n << PAGE_SHIFT) + side)
        freed += touched + side
    return freed
