# cython: language_level=3
"""Numbers in items: incr, decr, and the same with conditions and a first value for a key that is not there.

Knows: decimal numbers as values. Must not know: the protocol, sockets, pressure. Memory: as in operations.
Threads: any thread. store_compute() == STORED leaves the shard's lock held, until store_done(): see marks.
"""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.marks cimport Sight
from cacheserver.store.operations cimport Outcome
from cacheserver.store.shard cimport StoreC

cdef struct Sum:             # what to do to a number, and what came of it
    bint decr                # stops at 0; without it: adds, and wraps at 2**64
    uint64_t delta
    uint64_t compare         # the cas the item must have; 0 = any
    bint creating            # a key that is not there gets the number `initial`
    uint64_t initial
    bint encoded             # see struct Item
    bint numbered            # the item gets the cas `number`
    uint64_t number
    uint64_t result

cdef Outcome store_compute(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, Sum *sum, uint32_t now,
                           Sight *g) noexcept nogil
cdef Outcome store_arith(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, bint incr, uint64_t delta,
                         uint32_t now, uint64_t *result) noexcept nogil
