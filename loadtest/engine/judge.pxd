# cython: language_level=3
"""What the bytes of replies mean, as far as they have come."""
from libc.stdint cimport int64_t, uint8_t

from loadtest.engine.desk cimport Desk, Talk

cdef enum:
    LINE_MAX = 1024             # bytes; no reply has a longer line

cdef const uint8_t *judge(Desk *d, Talk *t, const uint8_t *p, const uint8_t *end, int64_t now) noexcept nogil
