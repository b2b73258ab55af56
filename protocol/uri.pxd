# cython: language_level=3
"""URI encoding of keys, as memcached writes them in lines whose fields are separated by spaces.

Knows: which bytes stand for themselves (RFC 3986, unreserved). Must not know: what the line says. No memory, no state.
"""
from libc.stdint cimport uint32_t

cdef enum:
    URI_KEY_MAX = 750        # bytes: the longest key, every byte of it encoded


cdef inline uint32_t format_uri(char *out, const char *key, uint32_t nkey) noexcept nogil:
    """Write a key at `out` (room for 3 * nkey bytes, no NUL); returns the bytes written."""
    cdef const char *digits = b"0123456789ABCDEF"
    cdef uint32_t i, n = 0
    cdef unsigned char c
    for i in range(nkey):
        c = <unsigned char>key[i]
        if 0x61 <= c <= 0x7a or 0x41 <= c <= 0x5a or 0x30 <= c <= 0x39 or \
                c == 0x2d or c == 0x2e or c == 0x5f or c == 0x7e:
            out[n] = <char>c
            n += 1
        else:
            out[n] = 0x25
            out[n + 1] = digits[c >> 4]
            out[n + 2] = digits[c & 15]
            n += 3
    return n
