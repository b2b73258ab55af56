# cython: language_level=3
"""A growable byte buffer for replies: reserve() room once, then put bytes without further checks.

Knows: bytes. Must not know: what they mean. Memory: malloc'ed, owned by whoever holds the struct; free with buffer_free().
Not thread-safe: one owner at a time.
"""
from libc.stddef cimport size_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

cdef struct WriteBuffer:
    char *data
    size_t len               # bytes written
    size_t cap               # bytes allocated

cdef inline bint buffer_reserve(WriteBuffer *b, size_t n) noexcept nogil:
    """Make room for `n` more bytes; False if memory is out (the buffer is unchanged)."""
    cdef size_t cap
    cdef char *data
    if b.cap - b.len >= n:
        return True
    if n > <size_t>0x7fffffffffffffff - b.len:
        return False
    cap = b.cap * 2 if b.cap else 4096
    if cap < b.len + n:
        cap = b.len + n
    data = <char *>realloc(b.data, cap)
    if data == NULL:
        return False
    b.data = data
    b.cap = cap
    return True

cdef inline void buffer_put(WriteBuffer *b, const char *src, size_t n) noexcept nogil:
    """Append `n` bytes; the caller has reserved them."""
    memcpy(b.data + b.len, src, n)
    b.len += n

cdef inline void buffer_free(WriteBuffer *b) noexcept nogil:
    free(b.data)
    b.data = NULL
    b.len = b.cap = 0
