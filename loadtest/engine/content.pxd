# cython: language_level=3
"""What a key is called, how large its value is, and every byte of it; all of it follows from the key's number."""
from libc.stdint cimport int64_t, uint8_t, uint64_t

from loadtest.engine.draw cimport mixed

cdef enum:
    KEY_MAX = 250               # bytes
    PREFIX_MAX = 200
    SIZES = 4096                # of a law's table
    PERIOD = 1048576            # bytes after which a value repeats itself
    WINDOW = 65536              # places at which it may begin

cdef struct Content:
    uint8_t *block              # PERIOD + WINDOW random bytes
    int key_size                # of all keys; 0: by the table
    int64_t one_size            # of all values; -1: by the table
    uint8_t key_sizes[SIZES]    # narrow, so that the table stays in the first cache
    int64_t value_sizes[SIZES]
    uint8_t prefix[PREFIX_MAX]
    int nprefix


cdef inline int64_t value_size(Content *c, uint64_t key) noexcept nogil:
    return c.one_size if c.one_size >= 0 else c.value_sizes[mixed(key) >> 52]

cdef int key_put(Content *c, uint8_t *to, uint64_t key) noexcept nogil
cdef void value_put(Content *c, uint8_t *to, uint64_t key, int64_t size) noexcept nogil
cdef bint value_is(Content *c, uint64_t key, int64_t at, const uint8_t *p, int64_t n) noexcept nogil
cdef int content_init(Content *c, bytes prefix, object key_sizes, object value_sizes) except -1
cdef void content_free(Content *c) noexcept
