# cython: language_level=3
"""How eviction chooses: the few numbers that the order of a class is steered by.

Knows: the struct. Must not know: who reads it (lru, and the learner's trials), who sets it. Owns no memory.
"""
from libc.stdint cimport uint32_t, uint64_t

cdef struct Manner:          # how the segments of a shard's classes are used: see lru
    uint32_t probation       # percent of a class's items that HOT may hold before eviction takes from it; 0: no HOT
    uint32_t proof           # reads that take an item from HOT's tail to WARM instead of out: 1 or 2
    uint32_t rounds          # reads that an item in WARM can save up, each for one more round: 1 to 3
    bint bump                # a read moves an item of WARM to its head
    bint ghosts              # what is evicted from HOT is remembered: stored again soon it goes to WARM
    bint fills               # new items go to WARM as long as it is clearly short of its share

cdef inline bint manner_short(const Manner *m, uint64_t warm, uint64_t all_items) noexcept nogil:
    """Whether WARM holds clearly fewer of `all_items` than are its due, and new items are to be let in there.

    HOT, which is larger than its share then, gives what is evicted. Without this WARM would get back what it has lost to
    deletions, or to a manner with more probation, only as items prove themselves, and in a loop none does.
    """
    return m.fills and (warm + 2) * 100 < (99 - m.probation - m.probation // 4) * all_items
