# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Base64: see base64.pxd."""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc

cdef enum:
    PAD = 0x3d

cdef const char *LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


cdef size_t base64_encode(const char *src, size_t n, char *out) noexcept nogil:
    cdef const uint8_t *p = <const uint8_t *>src
    cdef size_t at = 0
    cdef uint32_t group
    while n:
        group = <uint32_t>p[0] << 16
        if n > 1:
            group |= <uint32_t>p[1] << 8
        if n > 2:
            group |= p[2]
        out[at] = LETTERS[group >> 18]
        out[at + 1] = LETTERS[group >> 12 & 63]
        out[at + 2] = LETTERS[group >> 6 & 63] if n > 1 else PAD
        out[at + 3] = LETTERS[group & 63] if n > 2 else PAD
        at += 4
        p += 3
        n = n - 3 if n > 3 else 0
    return at


cdef inline int value_of(char letter) noexcept nogil:
    """The six bits a letter stands for, -1 if it is not in the alphabet."""
    if 0x41 <= letter <= 0x5a:
        return letter - 0x41
    if 0x61 <= letter <= 0x7a:
        return letter - 0x61 + 26
    if 0x30 <= letter <= 0x39:
        return letter - 0x30 + 52
    if letter == 0x2b:
        return 62
    return 63 if letter == 0x2f else -1


cdef size_t base64_decode(const char *src, size_t n, char *out) noexcept nogil:
    cdef size_t i, at = 0, pad = 0
    cdef uint32_t group = 0
    cdef int six
    if n == 0 or n % 4:
        return 0
    while pad < 2 and src[n - 1 - pad] == PAD:
        pad += 1
    for i in range(n):
        six = value_of(src[i]) if i < n - pad else 0
        if six < 0:
            return 0
        group = group << 6 | <uint32_t>six
        if i % 4 == 3:
            out[at] = <char>(group >> 16 & 255)
            out[at + 1] = <char>(group >> 8 & 255)
            out[at + 2] = <char>(group & 255)
            at += 3
    return at - pad


def encode(bytes data not None) -> bytes:
    cdef size_t n = len(data)
    cdef char *room = <char *>malloc(n // 3 * 4 + 4)
    if room == NULL:
        raise MemoryError
    try:
        return room[:base64_encode(data, n, room)]
    finally:
        free(room)


def decode(bytes text not None) -> bytes | None:
    cdef size_t n = len(text)
    cdef char *room = <char *>malloc(n + 1)
    if room == NULL:
        raise MemoryError
    try:
        n = base64_decode(text, n, room)
        return room[:n] if n else None
    finally:
        free(room)
