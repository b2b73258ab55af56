# cython: language_level=3
"""The hash of a key, under a random key of the process. Knows: bytes. Must not know: what is done with a hash. Owns no memory.
Threads: any.
"""
from libc.stdint cimport uint32_t, uint64_t

cdef struct Hasher:
    uint64_t k0              # the random key of SipHash: clients choose the keys and must not choose the buckets
    uint64_t k1

cdef uint64_t key_hash(const Hasher *s, const char *key, uint32_t nkey) noexcept nogil
