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


cdef bint talk_grow(Talk *t, uint32_t keys) noexcept nogil:
    """What talk_reserve() does where there is no room."""
    cdef uint32_t room, i
    cdef Asked *asked
    cdef Key *larger
    if t.asked_count == t.asked_room:
        room = t.asked_room * 2 if t.asked_room else 16
        asked = <Asked *>malloc(room * sizeof(Asked))
        if asked == NULL:
            return False
        for i in range(t.asked_count):
            asked[i] = t.asked[(t.asked_head + i) & (t.asked_room - 1)]
        free(t.asked)
        t.asked = asked
        t.asked_room = room
        t.asked_head = 0
    if t.keys_room - t.keys_count < keys:
        room = t.keys_room if t.keys_room else 16
        while room - t.keys_count < keys:
            room *= 2
        larger = <Key *>malloc(room * sizeof(Key))
        if larger == NULL:
            return False
        for i in range(t.keys_count):
            larger[i] = t.keys[(t.keys_head + i) & (t.keys_room - 1)]
        free(t.keys)
        t.keys = larger
        t.keys_room = room
        t.keys_head = 0
    return True


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
