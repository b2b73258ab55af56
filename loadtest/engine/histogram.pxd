# cython: language_level=3
"""Counts of durations; the layout is that of loadtest.results.Histogram."""
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    HIST_COUNTS = 17408         # 17 times 1024
    HIST_HIGHEST = 60000000     # microseconds; what took longer is counted there

cdef extern from *:
    int __builtin_clzll(unsigned long long x) nogil

cdef struct Hist:
    int64_t counts[HIST_COUNTS]


cdef inline void hist_add(Hist *h, int64_t ns) noexcept nogil:
    """Count a duration of `ns` nanoseconds; one below 0 counts as 0."""
    cdef uint64_t us = <uint64_t>ns // 1000 if ns > 0 else 0
    cdef int doubling
    if us > HIST_HIGHEST:
        us = HIST_HIGHEST
    doubling = 53 - __builtin_clzll(us | 2047)
    h.counts[(doubling << 10) + (us >> doubling)] += 1

cdef object hist_take(Hist *h)
