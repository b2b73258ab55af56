# cython: language_level=3
"""What a connection is about to ask for, brought from memory while others are still being received from.

A guess: nothing depends on it but how soon the answer is there. Knows: the shape of a request line, how the store prefetches.
Must not know: what the request does, sockets. Owns no memory. Threads: the worker's.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from cacheserver.session cimport EngineC

cdef uint64_t engine_foresee(EngineC *e, const char *buf, size_t n) noexcept nogil
cdef void engine_fetch(EngineC *e, uint64_t hash) noexcept nogil
