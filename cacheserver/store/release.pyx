# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Release: see release.pxd."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from cacheserver.store.arena cimport PAGE_SHIFT, PAGE_SIZE, arena_release_pool, item_at, map_space, unmap_space
from cacheserver.store.drain cimport evict_coldest
from cacheserver.store.index cimport Bucket, index_adjust, index_clear, index_sparse
from cacheserver.store.index_memory cimport index_overflow_idle, index_release, index_retire_overflow, index_spare
from cacheserver.store.rescue cimport rescue_step
from cacheserver.store.item cimport REVOKED, Item, handle_t, item_bytes
from cacheserver.store.platform cimport (
    atomic_add,
    atomic_get,
    atomic_set,
    atomic_take,
    avoid_processor,
    monotonic_ns,
    mutex_wanted,
    processors,
    pthread_join,
    pthread_mutex_lock,
    pthread_mutex_t,
    pthread_mutex_trylock,
    pthread_mutex_unlock,
    pthread_t,
    rest_us,
    sched_yield,
    start_thread,
    this_processor,
)
from cacheserver.store.shard cimport Shard, StoreC

cdef enum:
    HANDFUL = 4              # pages emptied before the host gets them back where several threads do it: they end together
    BATCH = 32               # pages emptied before the host gets them back: bounds what a hard shrink has in hand
    PATIENCE = 200           # tries for a shard's lock before waiting for it
    SLICE = 64               # steps of the index while its shard's lock is held
    LANES = 4                # pages that are being emptied at a time, by as many shards
    REST = 20                # microseconds that a lock is left to those who wait for it
    INDEX_PATIENCE = 20000000  # nanoseconds a hard shrink spends on one shard's index
    WIDTH = 4                # threads that carry out a hard shrink at most: it waits for memory, and they wait side by side
    PART_LEAST = 8388608     # bytes that are worth a thread: some 2 ms, where starting one takes 0.05


cdef struct Work:            # of a hard shrink, for several threads
    StoreC *s
    int64_t left             # bytes that nobody has taken upon him; atomic
    int64_t freed            # atomic
    int asker                # the processor of the one who has asked


cdef void unlock_kindly(pthread_mutex_t *lock) noexcept nogil:
    """Unlock, for a caller that wants the lock again: who waits for it is asleep, and gets it only if that takes a while."""
    cdef bint wanted = mutex_wanted(lock)
    pthread_mutex_unlock(lock)
    if wanted:
        rest_us(REST)


cdef Shard *lock_next(StoreC *s, uint64_t barren) noexcept nogil:
    """Lock the next shard in turn that is free, has pages and is not marked in `barren`; NULL if there is no such shard.

    It waits for a busy one only after long trying.
    """
    cdef uint32_t tries, i, held = 0
    cdef Shard *sh
    for tries in range(PATIENCE):
        held = 0
        for i in range(s.nshards):
            s.turn = (s.turn + 1) & (s.nshards - 1)
            sh = &s.shards[s.turn]
            if sh.pages == 0 or barren >> sh.number & 1:
                continue
            held += 1
            if pthread_mutex_trylock(&sh.lock) == 0:
                return sh
        if held == 0:
            return NULL
        if tries > 100:
            sched_yield()
    for i in range(s.nshards):
        sh = &s.shards[i]
        if sh.pages and not barren >> i & 1:
            pthread_mutex_lock(&sh.lock)
            return sh
    return NULL


cdef void revoke(StoreC *s, int64_t target) noexcept nogil:
    """Mark values being received as revoked, until `target` bytes of them are; their owners give them up."""
    cdef uint32_t i
    cdef Shard *sh
    cdef handle_t h
    cdef Item *it
    for i in range(s.nshards):
        sh = &s.shards[i]
        pthread_mutex_lock(&sh.lock)
        h = sh.loose
        while h and target > 0:
            it = item_at(&s.arena, h)
            it.bits |= REVOKED
            target -= item_bytes(it)
            h = it.next
        pthread_mutex_unlock(&sh.lock)
    atomic_set(&s.revoked, 1)


cdef int64_t evict_and_release(StoreC *s, int64_t target) noexcept nogil:
    """Coldest pages first, a batch at a time, until `target` bytes are back at the host or no page may go."""
    cdef int64_t freed = 0
    cdef uint64_t barren = 0
    cdef uint32_t n, want
    cdef Shard *sh
    while freed < target:
        want = <uint32_t>((target - freed + PAGE_SIZE - 1) >> PAGE_SHIFT)
        n = 0
        while n < (want if want < BATCH else BATCH) and s.arena.npool <= want:
            sh = lock_next(s, barren)
            if sh == NULL:
                break
            if evict_coldest(sh):
                n += 1
            else:
                barren |= <uint64_t>1 << sh.number
            pthread_mutex_unlock(&sh.lock)
        n += s.arena.npool
        freed += arena_release_pool(&s.arena, target - freed, 0)
        if n == 0:
            break
    return freed


cdef void share_work(Work *work) noexcept nogil:
    """Take a page's bytes at a time off what is left and empty the coldest page for them, as long as there is any."""
    cdef StoreC *s = work.s
    cdef uint64_t barren = 0
    cdef uint32_t n = 1, pages
    cdef int64_t got
    cdef Shard *sh
    while n:
        n = 0
        while n < HANDFUL and atomic_take(&work.left, PAGE_SIZE):
            sh = lock_next(s, barren)
            if sh == NULL:
                return
            pages = sh.pages
            if evict_coldest(sh):
                pages -= sh.pages            # of an item that spans several all are gone
                n += pages
                atomic_add(&work.left, -((<int64_t>pages - 1) << PAGE_SHIFT))
            else:
                barren |= <uint64_t>1 << sh.number
                atomic_add(&work.left, PAGE_SIZE)
            pthread_mutex_unlock(&sh.lock)
        got = arena_release_pool(&s.arena, <int64_t>n << PAGE_SHIFT, 0)
        atomic_add(&work.freed, got)
        # More where something lay beside the pages, less where they were not all touched or another thread had them.
        atomic_add(&work.left, (<int64_t>n << PAGE_SHIFT) - got)


cdef void *share_work_aside(void *argument) noexcept nogil:
    cdef Work *work = <Work *>argument
    avoid_processor(work.asker)      # the scheduler may leave both on one for some milliseconds
    share_work(work)
    return NULL


cdef int64_t evict_in_parallel(StoreC *s, int64_t target) noexcept nogil:
    """As evict_and_release(), with other threads where it is much, and shards and processors for them.

    Together they stop a page and an item for each of them short of the target, and what is missing then is done here, so that
    no more than one page or item is too much. They inherit the caller's priority, and have ended when this returns.
    """
    cdef pthread_t threads[WIDTH]
    cdef Work work
    cdef uint32_t i, n = 0
    cdef int64_t freed, each = PAGE_SIZE + <int64_t>s.max_item
    cdef int64_t width = min(WIDTH, s.nshards, target // (PART_LEAST + each))    # in one shard they would wait for each other
    if width > 1:
        width = min(width, processors())
    if width > 1:
        freed = evict_and_release(s, PAGE_SIZE)      # the threads' own memory must not be the last there is
        target -= freed
        work.s = s
        work.left = target - width * each
        work.freed = 0
        work.asker = this_processor()
        while n + 1 < width and start_thread(&threads[n], share_work_aside, &work) == 0:
            n += 1               # where there is none to be had the others do it all
        share_work(&work)
        for i in range(n):
            pthread_join(threads[i], NULL)
        return freed + work.freed + evict_and_release(s, target - work.freed)
    return evict_and_release(s, target)


cdef int64_t release_index(StoreC *s, Shard *sh, int64_t least, int64_t end) noexcept nogil:
    """Bring a shard's index to its size and give back what is left over, if that is `least` bytes or more.

    Works in slices until done or the clock shows `end`; the host takes the memory while no lock is held.
    """
    cdef uint32_t i
    cdef bint more = True, mine = False      # mine: this thread, and no other, gives memory back
    while more:
        pthread_mutex_lock(&sh.lock)
        if sh.index.items == 0:
            index_clear(&sh.index)
        for i in range(SLICE):
            index_adjust(&sh.index, &s.arena)
        more = index_sparse(&sh.index) and monotonic_ns() < end
        if not more and not sh.index.releasing and (
                index_spare(&sh.index) >= least or sh.index.retired != NULL or index_overflow_idle(&sh.index, least)):
            sh.index.releasing = mine = True
        unlock_kindly(&sh.lock)
    return give_back(s, sh, least, end) if mine else 0


cdef int64_t give_back(StoreC *s, Shard *sh, int64_t least, int64_t end) noexcept nogil:
    """Give what a shard's index does not need to the host, in pieces until done or the clock shows `end`, and end its
    `releasing`, which this thread has set. Lock not held."""
    cdef int64_t freed = 0, piece = 1
    cdef Bucket *fresh
    if index_overflow_idle(&sh.index, least):
        fresh = <Bucket *>map_space(sh.index.space * sizeof(Bucket))
        pthread_mutex_lock(&sh.lock)
        fresh = index_retire_overflow(&sh.index, fresh)
        pthread_mutex_unlock(&sh.lock)
        unmap_space(fresh, sh.index.space * sizeof(Bucket))
    while piece:
        piece = index_release(&sh.index, &s.arena)
        freed += piece
        if monotonic_ns() >= end:
            break
    pthread_mutex_lock(&sh.lock)
    sh.index.releasing = False
    pthread_mutex_unlock(&sh.lock)
    return freed


cdef void settle_debt(StoreC *s, int64_t freed) noexcept nogil:
    """Whatever has been given back need not be paid any more."""
    cdef int64_t owed = atomic_add(&s.debt, -freed)
    if owed < 0:
        atomic_add(&s.debt, -owed)


cdef int64_t release_hard(StoreC *s, int64_t target) noexcept nogil:
    """Give at least `target` bytes back to the host before returning, coldest pages first; returns the bytes given.

    More by at most one page, with what lies beside it (or one item that spans more). Less only when what is left is pinned
    or being received (the latter is then revoked, and counts when its owner has let go), or idle memory of an index that
    takes longer than INDEX_PATIENCE to give back.
    """
    cdef int64_t freed = arena_release_pool(&s.arena, target, 0)
    cdef uint32_t i
    freed += evict_in_parallel(s, target - freed)
    for i in range(s.nshards):
        if freed < target:
            freed += release_index(s, &s.shards[i], 1, monotonic_ns() + INDEX_PATIENCE)
    if freed < target:
        revoke(s, target - freed)
    atomic_add(&s.released_hard, freed)
    settle_debt(s, freed)
    return freed


cdef int64_t release_soft(StoreC *s, int64_t target) noexcept nogil:
    """Give back what costs nothing (empty pages) and note the rest as debt, to be paid in slices by release_pay()."""
    cdef int64_t freed = arena_release_pool(&s.arena, target, 0), owed = target - freed
    if owed > atomic_get(&s.debt):
        atomic_set(&s.debt, owed)
        atomic_add(&s.asks, 1)
    atomic_add(&s.released_soft, freed)
    return freed


cdef uint64_t others(StoreC *s) noexcept nogil:
    """Shards that must not begin with a page, as enough of them are at it: what each has given up counts when it is done.

    A racy look, one bit a shard. Only as many pages as are owed are begun with.
    """
    cdef uint64_t idle = 0
    cdef int64_t lanes = (atomic_get(&s.debt) + PAGE_SIZE - 1) >> PAGE_SHIFT
    cdef uint32_t i, busy = 0
    for i in range(s.nshards):
        if s.shards[i].draining:
            busy += 1
        else:
            idle |= <uint64_t>1 << i
    return idle if busy >= (lanes if lanes < LANES else LANES) else 0


cdef int64_t release_pay(StoreC *s, int64_t budget_ns) noexcept nogil:
    """Pay soft debt for at most about `budget_ns`; returns the bytes still owed."""
    cdef int64_t end = monotonic_ns() + budget_ns, freed
    cdef uint64_t barren = 0
    cdef Shard *sh
    while atomic_get(&s.debt) > 0:
        freed = arena_release_pool(&s.arena, PAGE_SIZE, 0)
        if freed:
            settle_debt(s, freed)
            atomic_add(&s.released_soft, freed)
        else:
            sh = lock_next(s, barren | others(s))
            if sh == NULL:
                sh = lock_next(s, barren)
            if sh == NULL:
                atomic_set(&s.debt, 0)     # nothing that may go: asking again will find what changes
                break
            if not rescue_step(s, sh):
                barren |= <uint64_t>1 << sh.number
            unlock_kindly(&sh.lock)
        if monotonic_ns() >= end:
            break
    freed = atomic_get(&s.debt)
    return freed if freed > 0 else 0
