# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""A load from inside the process: operations in one long loop without the GIL, for the benchmark of the store's locks.
(drive.pyi has the docstrings.)

Knows: the store's operations. Must not know: the protocol, clocks, who measures. Memory: a key and a value on the stack.
Threads: any number at a time.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from cacheserver.store.operations cimport PUT_SET, STORED, Outcome, Put, store_get, store_hash, store_put
from cacheserver.store.shard cimport StoreC
from cacheserver.store.store cimport Store
from cacheserver.store.view cimport View, store_done

cdef extern from *:
    """
    #define SPREAD 0x9e3779b97f4a7c15ULL
    """
    const uint64_t SPREAD    # an odd number with mixed bits: neighbouring seeds begin far apart

cdef enum:
    KEY = 20                 # bytes
    MOST = 4096              # bytes of a value
    NOW = 1                  # on the store's clock

cdef struct Hand:            # what one thread holds
    char key[20]
    char value[4096]
    Put put


cdef void open_hand(Hand *hand) noexcept nogil:
    memset(hand, 0, sizeof(Hand))
    memcpy(hand.key, "drive:00000000000000", KEY)
    hand.put.mode = PUT_SET


cdef void name_key(Hand *hand, uint64_t number) noexcept nogil:
    """Write a key's number in hexadecimal digits: some nanoseconds, as a parser takes to find a key."""
    cdef uint32_t i
    for i in range(12):
        hand.key[KEY - 1 - i] = b"0123456789abcdef"[number >> 4 * i & 15]


cdef bint do_get(StoreC *s, Hand *hand) noexcept nogil:
    """Copy the value out under the lock, as a reply does."""
    cdef View v
    if not store_get(s, store_hash(s, hand.key, KEY), hand.key, KEY, NOW, False, &v):
        return False
    memcpy(hand.value, v.value, v.nbytes if v.nbytes <= MOST else MOST)
    store_done(&v)
    return True


cdef bint do_set(StoreC *s, Hand *hand, uint32_t nbytes) noexcept nogil:
    return store_put(s, &hand.put, store_hash(s, hand.key, KEY), hand.key, KEY, 0, 0, hand.value, nbytes, NOW) == STORED


cdef uint32_t checked(uint64_t keys, uint32_t nbytes) except 0:
    if keys < 1 or nbytes < 1 or nbytes > MOST:
        raise ValueError(f"a load of {keys} keys with values of {nbytes} bytes: 1 or more, and 1 to {MOST}")
    return nbytes


def fill(Store store not None, uint64_t keys, uint32_t nbytes):
    cdef Hand hand
    cdef uint64_t number, stored = 0
    checked(keys, nbytes)
    with nogil:
        open_hand(&hand)
        for number in range(keys):
            name_key(&hand, number)
            stored += do_set(&store.c, &hand, nbytes)
    return stored


def drive(Store store not None, uint64_t keys, uint32_t nbytes, uint64_t operations, uint64_t seed):
    cdef Hand hand
    cdef uint64_t i, hits = 0
    cdef uint64_t dice = (seed + 1) * SPREAD | 1
    checked(keys, nbytes)
    with nogil:
        open_hand(&hand)
        for i in range(operations):
            dice ^= dice << 13       # G. Marsaglia, "Xorshift RNGs", 2003
            dice ^= dice >> 7
            dice ^= dice << 17
            name_key(&hand, (dice >> 16) % keys)
            if i % 10:
                hits += do_get(&store.c, &hand)
            else:
                do_set(&store.c, &hand, nbytes)
    return hits
