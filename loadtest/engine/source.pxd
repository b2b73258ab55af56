# cython: language_level=3
"""Which request comes next: by shares and popularity, or from a trace."""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t

from loadtest.engine.desk cimport Dice, Key, Verb
from loadtest.engine.draw cimport Draw

cdef enum:
    MULTIGET_MAX = 1000

cdef struct Source:
    Draw draw
    double get_share
    int multiget
    bint traced
    const int64_t *numbers      # the block of the trace in hand; its owner keeps it until it is used up
    const int64_t *sizes        # NULL: by the law
    size_t count
    size_t at
    bint last                   # no block comes after it
    bint ended                  # no request comes any more

cdef int source_next(Source *s, Dice *dice, Key *keys, Verb *verb) noexcept nogil
