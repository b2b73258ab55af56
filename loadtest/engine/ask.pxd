# cython: language_level=3
"""Requests as bytes, appended to the desk's output and noted in the talk."""
from libc.stdint cimport int64_t

from loadtest.engine.desk cimport Desk, Key, Talk, Verb

cdef bint ask_get(Desk *d, Talk *t, const Key *keys, int count, int64_t due, int64_t sent) noexcept nogil
cdef bint ask_set(Desk *d, Talk *t, Verb verb, const Key *key, int64_t due, int64_t sent) noexcept nogil
