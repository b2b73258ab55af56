# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Slab classes compared: see classes.pxd."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from cacheserver.store.arena cimport PAGE_SHIFT, item_at
from cacheserver.store.item cimport handle_t
from cacheserver.store.lru cimport lru_coldest
from cacheserver.store.platform cimport atomic_get
from cacheserver.store.rebalance cimport (
    HIT,
    LOST_READ,
    LOST_UNREAD,
    NOBODY,
    UNIT,
    ClassView,
    rebalance_cost,
    rebalance_step,
)
from cacheserver.store.shard cimport CLASS_MAX, Shard, SlabClass
from cacheserver.store.slab cimport slab_sizes

cdef enum:
    WINDOW = 512             # hits and writes, times the pages of the shard, after which what was before counts half
    WINDOW_LEAST = 65536     # but in no fewer than these
    FORGET = 60              # seconds after which it does so anyhow
    MANY = 4                 # classes; the pages that fewer fill in part are no loss until something has to be evicted
    ROOMY = 4                # pages for each class there is


cdef handle_t coldest_item(Shard *sh, uint32_t cls) noexcept nogil:
    return lru_coldest(sh.arena, &sh.classes[cls])


cdef uint32_t tail_age(Shard *sh, uint32_t cls) noexcept nogil:
    """Seconds since the coldest item of a class was used."""
    cdef handle_t h = coldest_item(sh, cls)
    cdef uint32_t atime
    if h == 0:
        return 0
    atime = item_at(sh.arena, h).atime
    return sh.now - atime if sh.now > atime else 0


cdef uint32_t spare_pages(SlabClass *k) noexcept nogil:
    """Pages' worth of free chunks."""
    return k.pages - <uint32_t>((k.used + k.nchunks - 1) // k.nchunks)


cdef void catch_up(Shard *sh, SlabClass *k) noexcept nogil:
    """Add what has been hit and written since the last look."""
    cdef uint64_t hits = k.hits_to_hot + k.hits_to_warm
    k.worth += (hits - k.hits_seen) * HIT
    k.sets += k.cmd_set - k.sets_seen
    sh.operations += hits - k.hits_seen + k.cmd_set - k.sets_seen
    k.hits_seen = hits
    k.sets_seen = k.cmd_set


cdef void forget(Shard *sh) noexcept nogil:
    """What was before counts half as much from here on."""
    cdef uint32_t c
    for c in range(slab_sizes().count + 1):
        sh.classes[c].worth >>= 1
        sh.classes[c].sets >>= 1
    sh.operations >>= 1
    sh.halved = sh.now


cdef void classes_lost(Shard *sh, uint32_t cls, bint read) noexcept nogil:
    """An item was evicted for want of room, and for no other reason: what a move or a release takes is no sign of worth."""
    sh.classes[cls].worth += LOST_READ if read else LOST_UNREAD


cdef void classes_tick(Shard *sh) noexcept nogil:
    """Let a shard that evicts little forget, too."""
    cdef uint32_t c
    if sh.now < sh.halved + FORGET:
        return
    for c in range(slab_sizes().count + 1):
        catch_up(sh, &sh.classes[c])
    forget(sh)


cdef bint roomy(Shard *sh) noexcept nogil:
    """Whether the shard may have so many pages that those which classes fill in part do not count; they are not resident."""
    cdef int64_t bound = sh.arena.capacity if sh.arena.capacity else atomic_get(&sh.arena.ceiling)
    return bound == 0 or (bound >> PAGE_SHIFT) // sh.nshards > ROOMY * slab_sizes().count


cdef void classes_count(Shard *sh) noexcept nogil:
    """Look how many classes are asked for, and set which may have pages: see rebalance_step()."""
    cdef uint32_t c, seen = 0
    cdef SlabClass *k
    sh.step = 1
    if sh.evictions == 0 and roomy(sh):
        return
    for c in range(slab_sizes().count):
        k = &sh.classes[c]
        seen += k.pages > 0 or k.sets + k.cmd_set > k.sets_seen
    if sh.evictions or seen >= MANY:
        sh.step = rebalance_step(seen, sh.pages)


cdef void classes_view(Shard *sh, ClassView *views) noexcept nogil:
    """Fill in a view of every class, the run class last."""
    cdef uint32_t c, runs = slab_sizes().count
    cdef SlabClass *k
    for c in range(runs + 1):
        catch_up(sh, &sh.classes[c])
    while sh.operations > WINDOW_LEAST and sh.operations > sh.pages * WINDOW:
        forget(sh)
    classes_count(sh)
    for c in range(runs + 1):
        k = &sh.classes[c]
        views[c].worth = k.worth
        views[c].pages = k.pages
        views[c].spare = spare_pages(k) if c < runs else 0
        views[c].size = k.chunk_size
        views[c].used = k.used
        views[c].sets = k.sets


cdef uint32_t cheapest(Shard *sh, bint sparse, uint64_t *price) noexcept nogil:
    """coldest_class(), and the worth that it loses with a page (see rebalance_cost())."""
    cdef ClassView views[CLASS_MAX]
    cdef uint32_t c, best = NOBODY, runs = slab_sizes().count, age, oldest = 0
    cdef uint64_t cost, least = 0
    classes_view(sh, views)
    for c in range(runs + 1):
        if views[c].pages == 0:
            continue
        cost = 0 if sparse and views[c].spare else rebalance_cost(views, runs + 1, sh.step, c)
        age = tail_age(sh, c)
        if best == NOBODY or cost < least or (cost == least and age > oldest):
            least = cost
            oldest = age
            best = c
    price[0] = least // UNIT
    return best


cdef uint64_t classes_least(Shard *sh) noexcept nogil:
    """What the loss of a page would cost at least, in worth."""
    cdef uint64_t price
    cheapest(sh, False, &price)
    return price


cdef uint32_t coldest_class(Shard *sh, bint sparse) noexcept nogil:
    """The class (the run class included) to take memory from next: the one to which a page is worth least, of several such
    the one with the oldest tail; NOBODY if the shard holds none.

    `sparse`: first one with a page's worth of holes, for a caller that moves what it finds into them.
    """
    cdef uint64_t price
    return cheapest(sh, sparse, &price)
