# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Histograms on their way to Python: see histogram.pxd.

Knows: how counts are packed. Must not know: what was measured. Memory: the caller's. Threads: the caller's.
"""
from libc.stdint cimport int64_t, uint16_t
from libc.stdlib cimport calloc, free


cdef object hist_take(Hist *h):
    """Return what was counted as (16-bit indexes, 64-bit counts), two bytes objects, and forget it."""
    cdef uint16_t places[HIST_COUNTS]
    cdef int64_t numbers[HIST_COUNTS]
    cdef int i, n = 0
    for i in range(HIST_COUNTS):
        if h.counts[i]:
            places[n] = <uint16_t>i
            numbers[n] = h.counts[i]
            h.counts[i] = 0
            n += 1
    return (<char *>places)[:n * sizeof(uint16_t)], (<char *>numbers)[:n * sizeof(int64_t)]


cdef class Recorder:
    """A histogram of its own, for the tests. MemoryError where there is no memory."""
    cdef Hist *hist

    def __cinit__(self) -> None:
        self.hist = <Hist *>calloc(1, sizeof(Hist))
        if self.hist == NULL:
            raise MemoryError

    def __dealloc__(self) -> None:
        free(self.hist)

    def record(self, ns: int) -> None:
        """Count a duration of `ns` nanoseconds."""
        hist_add(self.hist, ns)

    def take(self) -> tuple[bytes, bytes]:
        """See loadtest.results.Histogram.packed()."""
        return hist_take(self.hist)
