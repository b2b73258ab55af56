# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Memory of conversations and of the desk: see desk.pxd.

Knows: rings, buffers. Must not know: protocols, sockets. Memory: all of it belongs to the desk or to a talk, and
grows as far as the load's depth, its multigets and its largest value ask for. Threads: the caller's.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

cdef enum:
    OUT_FIRST = 1 << 20
    RING_FIRST = 16


cdef int desk_init(Desk *d) except -1:
    """Make what a zeroed desk owns beside its content. MemoryError where there is no memory."""
    d.latency = <Hist *>calloc(1, sizeof(Hist))
    d.service = <Hist *>calloc(1, sizeof(Hist))
    d.sets = <Hist *>calloc(1, sizeof(Hist))
    d.out = <uint8_t *>malloc(OUT_FIRST)
    d.out_room = OUT_FIRST
    if d.latency == NULL or d.service == NULL or d.sets == NULL or d.out == NULL:
        raise MemoryError
    return 0


cdef void desk_free(Desk *d) noexcept:
    free(d.latency)
    free(d.service)
    free(d.sets)
    free(d.out)
    free(d.missed)
    d.latency = d.service = d.sets = NULL
    d.out = NULL
    d.missed = NULL


cdef bint out_grow(Desk *d, size_t more) noexcept nogil:
    """What out_reserve() does where there is no room."""
    cdef size_t room = d.out_room
    cdef uint8_t *larger
    while room - d.nout < more:
        room *= 2
    larger = <uint8_t *>realloc(d.out, room)
    if larger == NULL:
        d.trouble = MEMORY
        return False
    d.out = larger
    d.out_room = room
    return True


cdef bint ring_grow(void **ring, size_t each, uint32_t *head, uint32_t count, uint32_t *room, uint32_t wanted,
                    uint32_t first) noexcept nogil:
    """Make room for `wanted` items of `each` bytes in a ring that holds `count`, `first` of them at least; the rooms are
    powers of two. False where there is no memory."""
    cdef uint32_t larger = room[0] if room[0] else first, i
    cdef char *old = <char *>ring[0]
    cdef char *new
    while larger < wanted:
        larger *= 2
    new = <char *>malloc(larger * each)
    if new == NULL:
        return False
    for i in range(count):
        memcpy(new + i * each, old + ((head[0] + i) & (room[0] - 1)) * each, each)
    free(old)
    ring[0] = new
    room[0] = larger
    head[0] = 0
    return True


cdef bint talk_grow(Talk *t, uint32_t keys) noexcept nogil:
    """What talk_reserve() does where there is no room."""
    cdef uint32_t asked = t.asked_count + 1
    keys += t.keys_count
    if asked > t.asked_room and not ring_grow(<void **>&t.asked, sizeof(Asked), &t.asked_head, t.asked_count,
                                              &t.asked_room, asked, RING_FIRST):
        return False
    return keys <= t.keys_room or ring_grow(<void **>&t.keys, sizeof(Key), &t.keys_head, t.keys_count, &t.keys_room,
                                            keys, RING_FIRST)


cdef void talk_clear(Talk *t) noexcept nogil:
    """Forget what was asked, for a new connection."""
    t.asked_head = t.asked_count = 0
    t.keys_head = t.keys_count = 0
    t.passed = 0
    t.listed = False
    t.value = t.left = 0
    t.spoiled = False


cdef void talk_free(Talk *t) noexcept nogil:
    free(t.asked)
    free(t.keys)
    memset(t, 0, sizeof(Talk))


cdef bint miss(Desk *d, Key *key) noexcept nogil:
    """Note a key to be filled; False, and trouble, where there is no memory."""
    cdef uint32_t room
    cdef Key *larger
    if d.nmissed == d.missed_room:
        room = d.missed_room * 2 if d.missed_room else 256
        larger = <Key *>realloc(d.missed, room * sizeof(Key))
        if larger == NULL:
            d.trouble = MEMORY
            return False
        d.missed = larger
        d.missed_room = room
    d.missed[d.nmissed] = key[0]
    d.nmissed += 1
    return True


cdef void say(char *to, const uint8_t *line, size_t n) noexcept nogil:
    """Keep the first SAID - 1 bytes of a line."""
    if n >= SAID:
        n = SAID - 1
    memcpy(to, line, n)
    to[n] = 0
