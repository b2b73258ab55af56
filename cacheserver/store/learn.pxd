# cython: language_level=3
"""Which manner of evicting gets most hits, found out by trying: a *trial* simulates a cache of its own for each candidate,
over the same sample of the keys.

A key is sampled by bits of its hash, one in 2**rate, and a trial's cache is smaller than the real one by the same factor:
so it meets the same pattern at its own scale, and holds SIZE_MAX items at most. Rate 0, all keys, is for small caches.
Every sampled read goes to all trials; what they hit, decayed over reads of some ten times its size, is their score.
The choice changes to the one that leads clearly: by LEAD of the reads and more than chance would have it.

Knows: hashes, manners, how many items the real cache holds. Must not know: items, locks, shards, who follows the choice.
Memory: a Learner is one allocation of learn_bytes() bytes that its opener owns. Threads: the caller's lock.
Sources: the sampling is that of C. Waldspurger et al., "Efficient MRC construction with SHARDS", FAST 2015, and the scaled
simulations of the same, "Cache modeling and optimization using miniature simulations", ATC 2017.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from cacheserver.store.manner cimport Manner

cdef enum:
    CANDIDATES = 5
    KEYS_MAX = 4096          # keys known, in any trial; measured: some 2000 at a trial size of SIZE_MAX

cdef struct Key:
    uint64_t hash
    uint16_t chain           # next of its bucket, or of the spare ones; 0 = none
    uint16_t holders         # trials that have it somewhere
    uint16_t newer[5]        # by trial: neighbours in the row it lies in
    uint16_t older[5]
    uint8_t row[5]
    uint8_t reads[5]         # saved up

cdef struct Row:
    uint16_t newest
    uint16_t oldest
    uint32_t count

cdef struct Trial:
    Manner manner
    Row rows[4]
    uint32_t hits            # since the last judgement
    double score             # decayed hits

cdef struct Learner:
    uint64_t mask            # bits of a hash that are all 0 in a sampled one
    uint32_t rate
    uint32_t size            # items that a trial's cache holds
    uint64_t items           # that the real one does
    uint32_t choice
    uint32_t reads           # since the last judgement
    double all_reads         # decayed as scores are
    uint32_t known           # keys in use
    uint16_t spare           # first of those that are not
    Trial trials[5]
    uint16_t buckets[4096]
    Key keys[4097]           # [0] is never used

cdef Manner learn_manner(uint32_t candidate) noexcept nogil
cdef Learner *learn_open(uint64_t items) noexcept nogil
cdef void learn_close(Learner *l) noexcept nogil
cdef void learn_resize(Learner *l, uint64_t items) noexcept nogil
cdef bint learn_read(Learner *l, uint64_t hash, bint found) noexcept nogil
cdef void learn_store(Learner *l, uint64_t hash) noexcept nogil
cdef void learn_delete(Learner *l, uint64_t hash) noexcept nogil

cdef inline bint learn_samples(const Learner *l, uint64_t hash) noexcept nogil:
    """Whether the learner wants to hear of a key: the callers of learn_read() and so on ask first."""
    return hash & l.mask == 0

cdef inline uint32_t learn_choice(const Learner *l) noexcept nogil:
    """The candidate to follow, for learn_manner()."""
    return l.choice

cdef inline int64_t learn_bytes() noexcept nogil:
    """Bytes of memory that a learner takes."""
    return sizeof(Learner)

cdef class Lessons:
    cdef Learner *learner
