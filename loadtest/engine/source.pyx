# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The order of the requests: see source.pxd.

Knows: shares, draws, blocks of a trace. Must not know: protocols, sockets, time. Memory: the caller's. Threads: the
caller's.
"""
from libc.stdint cimport uint64_t

from loadtest.engine.desk cimport ANY_SIZE, GET, SET
from loadtest.engine.draw cimport draw_next, unit


cdef int source_next(Source *s, Dice *dice, Key *keys, Verb *verb) noexcept nogil:
    """Put the next request's keys, up to MULTIGET_MAX, and its verb; returns how many, 0: none for now or for ever."""
    cdef int wanted = 1
    cdef int i = 0
    if s.ended:
        return 0
    if s.traced and s.at == s.count:
        s.ended = s.last
        return 0
    verb[0] = SET
    if s.get_share >= 1.0 or (s.get_share > 0.0 and unit(dice) < s.get_share):
        verb[0] = GET
        wanted = s.multiget
    if s.traced:
        while i < wanted and s.at < s.count:
            keys[i].number = <uint64_t>s.numbers[s.at]
            keys[i].size = s.sizes[s.at] if s.sizes != NULL else ANY_SIZE
            s.at += 1
            i += 1
        return i
    while i < wanted and not s.draw.ended:
        keys[i].number = draw_next(&s.draw, dice)
        keys[i].size = ANY_SIZE
        i += 1
    s.ended = s.draw.ended
    return i
