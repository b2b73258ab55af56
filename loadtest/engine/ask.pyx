# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The requests of the three protocols: see ask.pxd.

Knows: memcached's text protocol, its meta commands, RESP 2. Must not know: sockets, what is asked next. Memory: the
desk's output. Threads: the caller's.
"""
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from loadtest.engine.content cimport KEY_MAX, key_put, value_put, value_size
from loadtest.engine.desk cimport (
    ANY_SIZE, GET, MEMORY, META, RESP, TEXT, Asked, Desk, Key, Talk, Verb, ask, note, out_reserve, talk_reserve,
)
from loadtest.engine.draw cimport below

cdef enum:
    KEY_ROOM = KEY_MAX + 32     # of a key with what stands around it
    HEAD_ROOM = 128             # of the words of a request


cdef inline uint8_t *put(uint8_t *p, const char *text, size_t n) noexcept nogil:
    memcpy(p, text, n)
    return p + n


cdef inline uint8_t *put_number(uint8_t *p, uint64_t n) noexcept nogil:
    cdef uint8_t digits[20]
    cdef int i = 20
    while True:
        i -= 1
        digits[i] = <uint8_t>(c"0" + n % 10)
        n //= 10
        if n == 0:
            break
    memcpy(p, digits + i, 20 - i)
    return p + 20 - i


cdef inline uint8_t *put_bulk_key(Desk *d, uint8_t *p, uint64_t key) noexcept nogil:
    """RESP: the key as a bulk string."""
    cdef uint8_t name[KEY_ROOM]
    cdef int n = key_put(&d.content, name, key)
    p[0] = c"$"
    p = put_number(p + 1, n)
    p = put(p, b"\r\n", 2)
    p = put(p, <const char *>name, n)
    return put(p, b"\r\n", 2)


cdef bint ask_get(Desk *d, Talk *t, const Key *keys, int count, int64_t due, int64_t sent) noexcept nogil:
    """Ask for `count` keys at once; False, and trouble, where there is no memory."""
    cdef uint8_t *p
    cdef int i
    if not out_reserve(d, <size_t>count * KEY_ROOM + HEAD_ROOM) or not talk_reserve(t, count):
        d.trouble = MEMORY
        return False
    p = d.out + d.nout
    if d.protocol == TEXT:
        p = put(p, b"get", 3)
        for i in range(count):
            p[0] = c" "
            p += 1
            p += key_put(&d.content, p, keys[i].number)
        p = put(p, b"\r\n", 2)
    elif d.protocol == META:
        for i in range(count):
            p = put(p, b"mg ", 3)
            p += key_put(&d.content, p, keys[i].number)
            p = put(p, b" v\r\n", 4)
    else:
        if count == 1:
            p = put(p, b"*2\r\n$3\r\nGET\r\n", 13)
        else:
            p[0] = c"*"
            p = put_number(p + 1, count + 1)
            p = put(p, b"\r\n$4\r\nMGET\r\n", 12)
        for i in range(count):
            p = put_bulk_key(d, p, keys[i].number)
    d.nout = p - d.out
    ask(t, GET, count, due, sent)
    for i in range(count):
        note(t, keys[i].number, keys[i].size)
    return True


cdef bint ask_set(Desk *d, Talk *t, Verb verb, const Key *key, int64_t due, int64_t sent) noexcept nogil:
    """Store a key's value; False, and trouble, where there is no memory."""
    cdef uint8_t *p
    cdef int64_t size = key.size
    cdef uint64_t ttl = 0
    if size == ANY_SIZE:
        size = value_size(&d.content, key.number)
    if d.ttl_low:
        ttl = d.ttl_low + below(&d.dice, d.ttl_high - d.ttl_low + 1)
    if not out_reserve(d, <size_t>size + KEY_ROOM + HEAD_ROOM) or not talk_reserve(t, 0):
        d.trouble = MEMORY
        return False
    p = d.out + d.nout
    if d.protocol == TEXT:
        p = put(p, b"set ", 4)
        p += key_put(&d.content, p, key.number)
        p = put(p, b" 0 ", 3)
        p = put_number(p, ttl)
        p[0] = c" "
        p = put_number(p + 1, size)
    elif d.protocol == META:
        p = put(p, b"ms ", 3)
        p += key_put(&d.content, p, key.number)
        p[0] = c" "
        p = put_number(p + 1, size)
        if ttl:
            p = put(p, b" T", 2)
            p = put_number(p, ttl)
    else:
        p = put(p, b"*5\r\n" if ttl else b"*3\r\n", 4)
        p = put(p, b"$3\r\nSET\r\n", 9)
        p = put_bulk_key(d, p, key.number)
        p[0] = c"$"
        p = put_number(p + 1, size)
    p = put(p, b"\r\n", 2)
    value_put(&d.content, p, key.number, size)
    p = put(p + size, b"\r\n", 2)
    if d.protocol == RESP and ttl:
        p = put_expiry(p, ttl)
    d.nout = p - d.out
    ask(t, verb, 0, due, sent)
    return True


cdef inline uint8_t *put_expiry(uint8_t *p, uint64_t ttl) noexcept nogil:
    """RESP: EX and its seconds."""
    cdef uint8_t text[20]
    cdef int64_t n = put_number(text, ttl) - text
    p = put(p, b"$2\r\nEX\r\n$", 9)
    p = put_number(p, n)
    p = put(p, b"\r\n", 2)
    p = put(p, <const char *>text, n)
    return put(p, b"\r\n", 2)
