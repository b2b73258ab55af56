# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""Segmented LRU: see lru.pxd."""
from libc.stdint cimport uint32_t, uint8_t

from cacheserver.store.arena cimport Arena, item_at
from cacheserver.store.item cimport ACTIVE, SEGMENT, SEGMENT_SHIFT, Item, handle_t
from cacheserver.store.shard cimport COLD, HOT, WARM, Segment, SlabClass

cdef enum:
    HOT_PERCENT = 20
    WARM_PERCENT = 40


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


cdef void lru_unlink(Arena *a, SlabClass *k, handle_t h, Item *it) noexcept nogil:
    cdef Segment *s = &k.segments[(it.bits & SEGMENT) >> SEGMENT_SHIFT]
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
    cdef Segment *s = &k.segments[(it.bits & SEGMENT) >> SEGMENT_SHIFT]
    if it.prev:
        item_at(a, it.prev).next = moved
    else:
        s.head = moved
    if it.next:
        item_at(a, it.next).prev = moved
    else:
        s.tail = moved


cdef void move(Arena *a, SlabClass *k, handle_t h, Item *it, uint32_t segment) noexcept nogil:
    it.bits &= ~ACTIVE
    lru_unlink(a, k, h, it)
    lru_link(a, k, h, it, segment)
    if segment == COLD:
        k.moves_to_cold += 1
    else:
        k.moves_to_warm += 1


cdef void lru_balance(Arena *a, SlabClass *k, uint32_t steps) noexcept nogil:
    """Bring HOT and WARM back to their shares, moving at most `steps` items of each."""
    cdef uint32_t total = k.segments[HOT].count + k.segments[WARM].count + k.segments[COLD].count, i
    cdef handle_t h
    cdef Item *it
    for i in range(steps):
        if <unsigned long>k.segments[HOT].count * 100 <= <unsigned long>total * HOT_PERCENT:
            break
        h = k.segments[HOT].tail
        it = item_at(a, h)
        move(a, k, h, it, WARM if it.bits & ACTIVE else COLD)
    for i in range(steps):
        if <unsigned long>k.segments[WARM].count * 100 <= <unsigned long>total * WARM_PERCENT:
            break
        h = k.segments[WARM].tail
        it = item_at(a, h)
        if it.bits & ACTIVE:
            move(a, k, h, it, WARM)
            k.moves_within_lru += 1
            k.moves_to_warm -= 1
        else:
            move(a, k, h, it, COLD)


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
            move(a, k, h, it, WARM)
        h = before
    return removed
