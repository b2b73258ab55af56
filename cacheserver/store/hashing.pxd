# cython: language_level=3
"""The hash of a key, under a random key of the process. Knows: bytes. Must not know: what is done with a hash. Owns no memory.
Threads: any.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef struct Hasher:
    uint64_t k0              # the random key of SipHash: clients choose the keys and must not choose the buckets
    uint64_t k1

cdef inline uint64_t rotate(uint64_t x, int n) noexcept nogil:
    return x << n | x >> (64 - n)

cdef inline uint64_t key_hash(const Hasher *s, const char *key, uint32_t nkey) noexcept nogil:
    """SipHash-1-3 (Aumasson, Bernstein 2012; the 1-3 rounds variant): keyed, so collisions cannot be chosen."""
    cdef uint64_t v0 = s.k0 ^ 0x736f6d6570736575u, v1 = s.k1 ^ 0x646f72616e646f6du
    cdef uint64_t v2 = s.k0 ^ 0x6c7967656e657261u, v3 = s.k1 ^ 0x7465646279746573u
    cdef uint64_t m = 0
    cdef uint32_t left = nkey
    cdef int last, i
    while True:
        last = left < 8
        if last:
            if left == 0:
                m = 0
            elif nkey >= 8:  # what is left is the end of eight bytes that may be read at once
                memcpy(&m, key + left - 8, 8)
                m >>= 64 - 8 * left
            else:
                m = 0
                for i in range(<int>left):
                    m |= <uint64_t><uint8_t>key[i] << (8 * i)
            m |= <uint64_t>nkey << 56
        else:
            memcpy(&m, key, 8)
        v3 ^= m
        v0 += v1; v1 = rotate(v1, 13); v1 ^= v0; v0 = rotate(v0, 32)
        v2 += v3; v3 = rotate(v3, 16); v3 ^= v2
        v0 += v3; v3 = rotate(v3, 21); v3 ^= v0
        v2 += v1; v1 = rotate(v1, 17); v1 ^= v2; v2 = rotate(v2, 32)
        v0 ^= m
        if last:
            break
        key += 8
        left -= 8
    v2 ^= 0xff
    for i in range(3):
        v0 += v1; v1 = rotate(v1, 13); v1 ^= v0; v0 = rotate(v0, 32)
        v2 += v3; v3 = rotate(v3, 16); v3 ^= v2
        v0 += v3; v3 = rotate(v3, 21); v3 ^= v0
        v2 += v1; v1 = rotate(v1, 17); v1 ^= v2; v2 = rotate(v2, 32)
    return v0 ^ v1 ^ v2 ^ v3
