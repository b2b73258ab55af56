# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Pages between classes: see balance.pxd."""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.arena cimport PAGE_DRAINING, PAGE_RUN, arena_take_page
from cacheserver.store.classes cimport classes_count, classes_lost, classes_view
from cacheserver.store.drain cimport drain_begin, drain_slice, evict_coldest, evict_page
from cacheserver.store.evict cimport evict_one
from cacheserver.store.item cimport handle_t
from cacheserver.store.rebalance cimport (
    NOBODY,
    ClassView,
    rebalance_giver,
    rebalance_guests,
    rebalance_host,
    rebalance_may_open,
    rebalance_opening,
)
from cacheserver.store.shard cimport CLASS_MAX, DRAIN_FORCED, Shard, SlabClass
from cacheserver.store.slab cimport slab_adopt, slab_alloc, slab_sizes
from cacheserver.store.victim cimport victim_page

cdef enum:
    PATIENCE = 64            # evictions from the end of a move to the next look at the balance; twice as many from each look
    PATIENCE_MOST = 1024     # that finds nothing to do, up to these


cdef bint has_pages(Shard *sh, uint32_t cls) noexcept nogil:
    """Whether a class has a page that gives chunks."""
    cdef uint32_t pages = sh.classes[cls].pages
    if sh.draining and sh.arena.pages[sh.draining].cls == cls:
        return pages > 1
    return pages > 0


cdef uint32_t balance_host(Shard *sh, uint32_t cls) noexcept nogil:
    """The class in whose chunks an item of class `cls` is to lie: it is the next larger one that has a page, if this class
    has none and cannot have one; it may have to be opened."""
    cdef uint32_t c, count = slab_sizes().count
    for c in range(cls, count):
        if has_pages(sh, c):
            return c
    while sh.step and not rebalance_may_open(count, sh.step, cls):
        cls += 1
    return cls


cdef handle_t balance_fresh(Shard *sh, uint32_t cls) noexcept nogil:
    """A chunk that costs nobody anything for an item of class `cls`, from a page that there is leave for; 0 if there is none.
    A class that is one too many for the shard's pages shares those of a larger one."""
    cdef uint32_t page, open = cls
    cdef handle_t h
    if sh.classes[cls].pages == 0 and sh.step > 1 and not rebalance_may_open(slab_sizes().count, sh.step, cls):
        open = balance_host(sh, cls)
        h = slab_alloc(sh, open)
        if h:
            return h
    page = arena_take_page(sh.arena, False)
    if page == 0:
        return 0
    slab_adopt(sh, page, open)
    classes_count(sh)
    return slab_alloc(sh, open)


cdef void end_move(Shard *sh) noexcept nogil:
    """The page has gone to the pool: let the class have it for which it was emptied."""
    cdef uint32_t page = arena_take_page(sh.arena, False)
    if page:
        slab_adopt(sh, page, sh.taker)
        sh.slabs_moved += 1


cdef bint begin_move(Shard *sh, uint32_t giver, uint32_t taker) noexcept nogil:
    """Begin to empty a page of a class for another; False if none may go."""
    cdef uint32_t page = victim_page(sh, giver, True)
    if page == 0 or sh.arena.pages[page].state == PAGE_DRAINING:
        return False
    sh.taker = taker
    if sh.arena.pages[page].state == PAGE_RUN:
        evict_page(sh, page)
        end_move(sh)
        return True
    drain_begin(sh, page, DRAIN_FORCED)
    sh.moving = page
    return True


cdef void go_on(Shard *sh) noexcept nogil:
    """Empty the next slice of the page that moves."""
    cdef uint64_t before = sh.pages
    drain_slice(sh)
    if sh.draining:
        return
    sh.moving = 0
    if sh.pages < before:
        end_move(sh)


cdef bint look(Shard *sh, uint32_t cls) noexcept nogil:
    """Begin a move if one is worth it: for a class that should have pages, else for the one that has to evict."""
    cdef ClassView views[CLASS_MAX]
    cdef uint32_t count = slab_sizes().count, host, giver, guest
    cdef uint64_t worth
    classes_view(sh, views)
    guest = rebalance_opening(views, count, sh.step)
    if guest == NOBODY:
        giver = rebalance_giver(views, count + 1, sh.step, cls)
        return giver != NOBODY and begin_move(sh, giver, cls)
    host = rebalance_host(views, count, guest)
    worth = rebalance_guests(views, count, guest)
    views[host].worth -= worth
    views[guest].worth += worth
    giver = rebalance_giver(views, count + 1, sh.step, guest)
    if giver == NOBODY or not begin_move(sh, giver, guest):
        return False
    sh.classes[host].worth -= worth
    sh.classes[guest].worth += worth
    return True


cdef bint evict_for_room(Shard *sh, uint32_t cls) noexcept nogil:
    """Evict the item of a class whose turn it is, and count what that costs (nothing, if it had expired)."""
    cdef SlabClass *k = &sh.classes[cls]
    cdef uint64_t evicted = k.evicted, unread = k.evicted_unfetched
    if not evict_one(sh, cls):
        return False
    if k.evicted != evicted:
        classes_lost(sh, cls, k.evicted_unfetched == unread)
    return True


cdef void balance_step(Shard *sh, uint32_t cls) noexcept nogil:
    """To be called before something is evicted from class `cls` for want of room: goes on with the move that is under way,
    or looks now and then whether there should be one."""
    if sh.moving:
        if sh.moving == sh.draining:
            go_on(sh)
        else:
            sh.moving = 0    # a release has taken the page
    elif sh.draining == 0 and sh.since_balance > sh.patience:
        sh.since_balance = 0
        sh.patience = PATIENCE if look(sh, cls) else min(max(2 * sh.patience, PATIENCE), PATIENCE_MOST)


cdef bint balance_run(Shard *sh) noexcept nogil:
    """Make room for an item that needs pages of its own: by one of its kind, unless more pages of theirs are worth more than
    some other class's; False if nothing of the shard may go."""
    cdef ClassView views[CLASS_MAX]
    cdef uint32_t runs = slab_sizes().count
    classes_view(sh, views)
    if views[runs].pages and rebalance_giver(views, runs + 1, sh.step, runs) == NOBODY:
        if evict_for_room(sh, runs):
            return True
    return evict_coldest(sh)
