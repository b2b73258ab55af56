# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""Pages between classes: see balance.pxd."""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.arena cimport PAGE_DRAINING, PAGE_RUN, arena_take_page
from cacheserver.store.classes cimport classes_count, classes_lost, classes_view
from cacheserver.store.drain cimport drain_begin, drain_slice, evict_coldest, evict_page
from cacheserver.store.evict cimport evict_one
from cacheserver.store.item cimport handle_t
from cacheserver.store.rebalance cimport NOBODY, ClassView, rebalance_giver, rebalance_host, rebalance_lowest, rebalance_may_open, rebalance_opening, rebalance_sets
from cacheserver.store.shard cimport CLASS_MAX, DRAIN_FORCED, Shard, SlabClass
from cacheserver.store.slab cimport slab_adopt, slab_alloc, slab_sizes
from cacheserver.store.victim cimport victim_page

cdef enum:
    PATIENCE = 64            # evictions between two looks at the balance


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
    cdef uint32_t page
    sh.moving = 0
    page = arena_take_page(sh.arena, False)
    if page:
        slab_adopt(sh, page, sh.taker)
        sh.slabs_moved += 1


cdef void begin_move(Shard *sh, uint32_t giver, uint32_t taker) noexcept nogil:
    cdef uint32_t page = victim_page(sh, giver, True)
    if page == 0 or sh.arena.pages[page].state == PAGE_DRAINING:
        return
    sh.taker = taker
    if sh.arena.pages[page].state == PAGE_RUN:
        if evict_page(sh, page):
            end_move(sh)
        return
    drain_begin(sh, page, DRAIN_FORCED)
    sh.moving = page


cdef void go_on(Shard *sh) noexcept nogil:
    """Empty the next slice of the page that moves."""
    cdef uint32_t page = sh.moving
    cdef uint64_t before = sh.pages
    drain_slice(sh)
    if sh.draining == page:
        return
    if sh.pages < before:
        end_move(sh)
    sh.moving = 0


cdef uint64_t worth_of_guests(const ClassView *views, uint32_t count, uint32_t guest) noexcept nogil:
    """What the items that a class without pages would have have been worth, counted as their host's so far."""
    cdef uint32_t host = rebalance_host(views, count, guest)
    cdef uint64_t theirs = rebalance_sets(views, rebalance_lowest(views, guest), guest)
    return views[host].worth * theirs // (theirs + rebalance_sets(views, guest + 1, host))


cdef void look(Shard *sh, uint32_t cls) noexcept nogil:
    """Begin a move if one is worth it, for the class that has to evict or for one that should have pages."""
    cdef ClassView views[CLASS_MAX]
    cdef uint32_t giver, host = 0, count = slab_sizes().count, guest
    cdef uint64_t worth = 0
    classes_view(sh, views)
    guest = rebalance_opening(views, count, sh.step)
    if guest != NOBODY:
        worth = worth_of_guests(views, count, guest)
        host = rebalance_host(views, count, guest)
        views[host].worth -= worth
        views[guest].worth += worth
        giver = rebalance_giver(views, count + 1, sh.step, guest)
        if giver != NOBODY:
            sh.classes[host].worth -= worth
            sh.classes[guest].worth += worth
            begin_move(sh, giver, guest)
        return
    giver = rebalance_giver(views, count + 1, sh.step, cls)
    if giver != NOBODY:
        begin_move(sh, giver, cls)


cdef bint evict_for_room(Shard *sh, uint32_t cls) noexcept nogil:
    """Evict the item of a class whose turn it is, and count what that costs (nothing, if it had expired)."""
    cdef SlabClass *k = &sh.classes[cls]
    cdef uint64_t evicted = k.evicted, unread = k.evicted_unfetched
    if not evict_one(sh, cls, 0):
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
    elif sh.draining == 0 and sh.since_balance > PATIENCE:
        sh.since_balance = 0
        look(sh, cls)


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
