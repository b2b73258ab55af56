# cython: language_level=3
"""What a program in Python may hold of a store from one call to the next: a value on its way in, a value that is pinned.
For tests and embedding programs; the server goes through the engine.

Knows: reservations and pins. Must not know: the protocol, who calls. Memory: each holds its store, and gives its chunk or
pin back when it is ended, or collected.
Threads: each belongs to one thread at a time; no lock is held between calls, nor waited for with the GIL.
"""
from libc.stdint cimport uint64_t

from cacheserver.store.receive cimport Reservation
from cacheserver.store.store cimport Store

cdef class Receiving:
    cdef Store store
    cdef Reservation r

cdef class Pinned:
    cdef Store store
    cdef uint64_t pin
    cdef const char *start
    cdef uint64_t nbytes
