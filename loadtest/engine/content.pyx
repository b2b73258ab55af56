# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Keys and values by number: see content.pxd.

Knows: hashes, tables of sizes. Must not know: who asks, in which protocol. Memory: a block of random bytes.
Threads: the caller's.

The first 8 bytes of a value are its key's hash, so that no two keys have the same one; the others are a window
of the block, which the hash chooses. So a value is made and compared at the speed of memcpy and memcmp, piece by
piece as it comes. The block is the same in every process and in every run.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from loadtest.engine.draw cimport Dice, dice_seed, mixed, roll

cdef extern from *:
    int __builtin_clzll(unsigned long long x) nogil

cdef enum:
    HEAD = 8                    # bytes of a value that are its key's hash

cdef uint64_t BLOCK_SEED = 20261121
cdef uint64_t ZEROS = 0x3030303030303030


cdef int content_init(Content *c, bytes prefix, object key_sizes, object value_sizes) except -1:
    """Take the tables of SIZES sizes. MemoryError where there is no memory."""
    cdef Dice dice
    cdef uint64_t *words
    cdef int i
    if len(prefix) > PREFIX_MAX or len(key_sizes) != SIZES or len(value_sizes) != SIZES:
        raise ValueError("a prefix that is too long, or tables of another length")
    for i in range(SIZES):
        c.key_sizes[i] = key_sizes[i]
        c.value_sizes[i] = value_sizes[i]
    c.key_size = c.key_sizes[0] if len(set(key_sizes)) == 1 else 0
    c.one_size = c.value_sizes[0] if len(set(value_sizes)) == 1 else -1
    c.nprefix = len(prefix)
    memcpy(c.prefix, <const char *>prefix, c.nprefix)
    c.block = <uint8_t *>malloc(PERIOD + WINDOW)
    if c.block == NULL:
        raise MemoryError
    dice_seed(&dice, BLOCK_SEED)
    words = <uint64_t *>c.block
    for i in range((PERIOD + WINDOW) // 8):
        words[i] = roll(&dice)
    return 0


cdef void content_free(Content *c) noexcept:
    free(c.block)
    c.block = NULL


cdef inline uint64_t hexed(uint64_t x) noexcept nogil:
    """The 8 hexadecimal digits of 32 bits, as the bytes of a word, the first digit in the lowest."""
    cdef uint64_t above
    x = ((x & 0xFFFF) << 32) | (x >> 16)                # halves: the first one low
    x = ((x & <uint64_t>0x000000FF000000FF) << 16) | ((x >> 8) & <uint64_t>0x000000FF000000FF)
    x = ((x & <uint64_t>0x000F000F000F000F) << 8) | ((x >> 4) & <uint64_t>0x000F000F000F000F)
    above = ((x + <uint64_t>0x0606060606060606) >> 4) & <uint64_t>0x0101010101010101  # where it is 10 or more
    return x + <uint64_t>0x3030303030303030 + above * 39


cdef inline int digits_of(uint64_t key) noexcept nogil:
    """Hexadecimal digits of a number; 0 has one."""
    return (67 - __builtin_clzll(key | 1)) >> 2


cdef int key_put(Content *c, uint8_t *to, uint64_t key) noexcept nogil:
    """Write the key's name, KEY_MAX bytes at most; returns its length.

    The prefix, then the number in hexadecimal, with as many zeros before it as its size asks for and with all
    of its digits even where they make it longer, so that no two keys have one name.
    """
    cdef uint64_t text[2]
    cdef int size = c.key_size if c.key_size else c.key_sizes[(mixed(key) >> 40) & (SIZES - 1)]
    cdef int least = c.nprefix + digits_of(key)
    if size < least:
        size = least
    text[0] = hexed(key >> 32) if key >> 32 else ZEROS
    text[1] = hexed(<uint32_t>key)
    if size >= 16:              # in whole words, and the prefix last, over the zeros that it does not leave
        memset(to, c"0", 16)
        if size > 32:
            memset(to + 16, c"0", size - 32)
        memcpy(to + size - 16, text, 16)
    else:
        memcpy(to, <uint8_t *>text + 16 - size, size)
    if c.nprefix == 1:
        to[0] = c.prefix[0]
    else:
        memcpy(to, c.prefix, c.nprefix)
    return size


cdef void value_put(Content *c, uint8_t *to, uint64_t key, int64_t size) noexcept nogil:
    """Write the value of a key, `size` bytes of it."""
    cdef uint64_t hash = mixed(key)
    cdef const uint8_t *window = c.block + (hash & (WINDOW - 1))
    cdef int64_t at = HEAD if size > HEAD else size
    cdef int64_t place, n
    memcpy(to, &hash, at)
    while at < size:
        place = at & (PERIOD - 1)
        n = PERIOD - place
        if n > size - at:
            n = size - at
        memcpy(to + at, window + place, n)
        at += n


cdef bint value_is(Content *c, uint64_t key, int64_t at, const uint8_t *p, int64_t n) noexcept nogil:
    """Whether these are the `n` bytes from `at` on of the key's value."""
    cdef uint64_t hash = mixed(key)
    cdef const uint8_t *window = c.block + (hash & (WINDOW - 1))
    cdef int64_t place, piece
    if at < HEAD:
        piece = HEAD - at if HEAD - at < n else n
        if memcmp(p, <uint8_t *>&hash + at, piece):
            return False
        p += piece
        at += piece
        n -= piece
    while n:
        place = at & (PERIOD - 1)
        piece = PERIOD - place if PERIOD - place < n else n
        if memcmp(p, window + place, piece):
            return False
        p += piece
        at += piece
        n -= piece
    return True


cdef class Names:
    """Keys and values for who looks at them from Python: the tests, and a server that stands in for one.

    prefix: bytes; key_sizes, value_sizes: tables of loadtest.sizes.
    """
    cdef Content c

    def __cinit__(self, prefix: bytes, key_sizes: object, value_sizes: object) -> None:
        content_init(&self.c, prefix, key_sizes, value_sizes)

    def __dealloc__(self) -> None:
        content_free(&self.c)

    def key(self, number: int) -> bytes:
        """The name of a key."""
        cdef uint8_t text[KEY_MAX + 16]
        cdef int n = key_put(&self.c, text, number)
        return (<char *>text)[:n]

    def size(self, number: int) -> int:
        """Bytes of its value."""
        return value_size(&self.c, number)

    def value(self, number: int, size: int) -> bytes:
        """Its value, where it has `size` bytes."""
        cdef bytearray text = bytearray(size)
        value_put(&self.c, text, number, size)
        return bytes(text)

    def holds(self, number: int, at: int, piece: bytes) -> bool:
        """Whether these are the bytes of its value from `at` on."""
        return bool(value_is(&self.c, number, at, piece, len(piece)))
