# cython: language_level=3
"""What an audit of the store finds: sentences with gaps for numbers, kept without an object of Python, and its sums.

Knows: what is counted. Must not know: how. Memory: an Audit is its maker's. Threads: it belongs to one.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from cacheserver.store.shard cimport CLASS_MAX, StoreC

cdef enum:
    MOST = 100               # findings kept; the others are counted
    CLASSES = CLASS_MAX + 1

cdef struct Finding:         # a sentence with gaps for up to four numbers
    const char *text
    uint64_t n[4]

cdef struct Count:           # one shard, counted from its chunks
    uint64_t pages, bytes, draining
    uint64_t class_pages[CLASSES]
    uint64_t class_open[CLASSES]
    uint64_t used[CLASSES]
    uint64_t live[CLASSES]
    uint64_t class_bytes[CLASSES]

cdef struct Audit:
    StoreC *s
    Count *counts
    int64_t committed
    int64_t untouched
    uint32_t pooled          # pages in the state of those in the pool
    uint64_t found
    Finding findings[MOST]

cdef void report(Audit *t, const char *text, uint64_t a=*, uint64_t b=*, uint64_t c=*, uint64_t d=*) noexcept nogil
cdef void expect(Audit *t, const char *text, uint64_t counted, uint64_t kept, uint64_t a=*, uint64_t b=*) noexcept nogil
cdef list findings_said(Audit *t)
