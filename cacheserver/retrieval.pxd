# cython: language_level=3
"""get, gets, gat, gats: keys in, VALUEs out, as far as one reply may grow at a time. And how a value gets out.

Knows: protocol and store, as a part of the engine. Must not know: sockets. Threads: the worker's.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

from cacheserver.output cimport Writer
from cacheserver.session cimport EngineC, Feed, Session
from cacheserver.store.view cimport View

cdef enum:
    GETS_MAX = 16            # keys hashed, and their items asked for, before the first is looked up
    INLINE_MAX = 2048        # bytes of value that are copied to the reply; larger ones are sent from where they lie

cdef uint32_t answer_gets(EngineC *e, Session *s, Writer *w, const char *p, size_t n, size_t *used) noexcept nogil
cdef Feed answer_line(EngineC *e, Session *s, Writer *w, const char *p, const char *end, bint whole,
                      const char **stop) noexcept nogil
cdef bint answer_value(EngineC *e, Writer *w, View *v) noexcept nogil
