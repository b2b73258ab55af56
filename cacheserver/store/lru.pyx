# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The order of a class: see lru.pxd."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from cacheserver.store.arena cimport Arena, item_at, page_of
from cacheserver.store.item cimport READS_MAX, SEGMENT, SEGMENT_SHIFT, Item, handle_t
from cacheserver.store.manner cimport Manner, manner_short
from cacheserver.store.shard cimport HOT, WARM, Segment, Shard, SlabClass


cdef Manner manner_lru() noexcept nogil:
    """Plain LRU."""
    cdef Manner m
    m.probation = 0
    m.proof = 1
    m.rounds = 1
    m.bump = True
    m.ghosts = False
    m.fills = False
    return m


cdef Manner manner_s3fifo() noexcept nogil:
    """S3-FIFO with the sizes of its paper: HOT a tenth, more than one read as proof, up to three rounds."""
    cdef Manner m
    m.probation = 10
    m.proof = 2
    m.rounds = READS_MAX
    m.bump = False
    m.ghosts = True
    m.fills = False
    return m


cdef Manner manner_filling() noexcept nogil:
    """For as long as nothing is evicted: there is nothing to prove yet, and what comes first fills WARM. In a loop larger
    than the cache that is what stays."""
    cdef Manner m
    m.probation = 0
    m.proof = 1
    m.rounds = READS_MAX
    m.bump = False
    m.ghosts = False
    m.fills = False
    return m


cdef void lru_link(Arena *a, SlabClass *k, handle_t h, Item *it, uint32_t segment) noexcept nogil:
    """Put an item at the head of a segment."""
    cdef Segment *s = &k.segments[segment]
    it.bits = (it.bits & ~SEGMENT) | <uint8_t>(segment << SEGMENT_SHIFT)
    it.prev = 0
    it.next = s.head
    if s.head:
        item_at(a, s.head).prev = h
    else:
        s.tail = h
    s.head = h
    s.count += 1


cdef void lru_unlink(Arena *a, SlabClass *k, Item *it) noexcept nogil:
    cdef Segment *s = &k.segments[lru_segment(it)]
    if it.prev:
        item_at(a, it.prev).next = it.next
    else:
        s.head = it.next
    if it.next:
        item_at(a, it.next).prev = it.prev
    else:
        s.tail = it.prev
    it.next = it.prev = 0
    s.count -= 1


cdef void lru_join(Arena *a, SlabClass *k, uint32_t segment, handle_t before, handle_t after) noexcept nogil:
    """What lay between two items of a segment (0: its end) is gone; the caller takes `count` down for it."""
    cdef Segment *s = &k.segments[segment]
    if before:
        item_at(a, before).next = after
    else:
        s.head = after
    if after:
        item_at(a, after).prev = before
    else:
        s.tail = before


cdef void lru_replace(Arena *a, SlabClass *k, Item *it, handle_t moved) noexcept nogil:
    """The item has been copied to chunk `moved`: its neighbours must point there."""
    cdef Segment *s = &k.segments[lru_segment(it)]
    if it.prev:
        item_at(a, it.prev).next = moved
    else:
        s.head = moved
    if it.next:
        item_at(a, it.next).prev = moved
    else:
        s.tail = moved


cdef uint32_t lru_entry(Shard *sh, SlabClass *k, bint known) noexcept nogil:
    """The segment for a new item; `known`: its ghost was there."""
    cdef uint64_t warm = k.segments[WARM].count
    if sh.manner.probation == 0 or (known and sh.manner.ghosts):
        return WARM
    return WARM if manner_short(&sh.manner, warm, warm + k.segments[HOT].count) else HOT


cdef uint32_t lru_inherit(Shard *sh, Item *it, Item *before) noexcept nogil:
    """The segment for an item that takes the place of another with its key, whose reads it inherits: a value that has
    grown, say, is asked for as before. The write counts as a use."""
    cdef uint32_t segment = WARM if sh.manner.probation == 0 else lru_segment(before)
    it.reads = before.reads
    if sh.manner.bump and segment == WARM:
        it.reads = 0
    elif it.reads < READS_MAX:
        it.reads += 1
    return segment


cdef void move_to_warm(Arena *a, SlabClass *k, handle_t h, Item *it) noexcept nogil:
    if lru_segment(it) == WARM:
        k.moves_within_lru += 1
    else:
        k.moves_to_warm += 1
    lru_unlink(a, k, it)
    lru_link(a, k, h, it, WARM)


cdef void lru_bump(Shard *sh, handle_t h, Item *it) noexcept nogil:
    """Note a use where the manner says that uses move items. What lies in HOT still has to prove itself, if there is
    probation at all; its place in WARM says all about the rest, whose saved reads would count twice."""
    if lru_segment(it) == HOT and sh.manner.probation:
        if it.reads < READS_MAX:
            it.reads += 1
        return
    it.reads = 0
    if lru_segment(it) == HOT or it.prev:
        move_to_warm(sh.arena, &sh.classes[page_of(sh.arena, h).cls], h, it)


cdef handle_t lru_coldest(Arena *a, SlabClass *k) noexcept nogil:
    """The one of the two tails that was used longest ago; 0 if the class has no items."""
    cdef handle_t hot = k.segments[HOT].tail, warm = k.segments[WARM].tail
    if hot == 0 or warm == 0:
        return hot if hot else warm
    return hot if item_at(a, hot).atime <= item_at(a, warm).atime else warm


cdef uint32_t lru_victims(Shard *sh, SlabClass *k) noexcept nogil:
    """The segment that eviction takes from next. Without probation what is in HOT is left over from another manner, and
    goes when its time comes: the older tail first."""
    cdef uint64_t hot = k.segments[HOT].count, warm = k.segments[WARM].count
    if hot == 0 or warm == 0:
        return HOT if hot else WARM
    if sh.manner.probation == 0:
        return HOT if lru_coldest(sh.arena, k) == k.segments[HOT].tail else WARM
    return HOT if hot * 100 > (hot + warm) * sh.manner.probation else WARM


cdef bint lru_earned(const Manner *m, Item *it) noexcept nogil:
    """Whether an item at a tail has earned another round; the reads that it pays with are gone then."""
    if lru_segment(it) == HOT:
        if it.reads < m.proof:
            return False
        it.reads = 0
        return True
    if it.reads == 0:
        return False
    it.reads = (it.reads if it.reads < m.rounds else m.rounds) - 1
    return True


cdef uint32_t lru_walk(Arena *a, SlabClass *k, uint32_t segment, lru_isolate isolate, void *context,
                       uint32_t most) noexcept nogil:
    """Offer up to `most` items of a segment to `isolate`, from the tail up; returns how many were removed.

    The callback may remove the item it is given, and nothing else. Locking is the caller's.
    """
    cdef handle_t h = k.segments[segment].tail, before
    cdef uint32_t removed = 0, seen = 0
    cdef Item *it
    cdef LruStatus status
    while h and seen < most:
        it = item_at(a, h)
        before = it.prev
        seen += 1
        status = isolate(context, h, it)
        if status == LRU_STOP:
            break
        if status == LRU_REMOVED:
            removed += 1
        elif status == LRU_ROTATE:
            move_to_warm(a, k, h, it)
        h = before
    return removed
