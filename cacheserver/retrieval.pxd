# cython: language_level=3
"""get, gets, gat, gats: keys in, VALUEs out, as far as one reply may grow at a time. And how a value gets out.

Knows: protocol and store, as a part of the engine. Must not know: sockets. Threads: the worker's.
"""
from cacheserver.output cimport Writer
from cacheserver.session cimport EngineC, Feed, Session
from cacheserver.store.view cimport View

cdef enum:
    INLINE_MAX = 2048        # bytes of value that are copied to the reply; larger ones are sent from where they lie

cdef Feed answer_line(EngineC *e, Session *s, Writer *w, const char *p, const char *end, bint whole,
                      const char **stop) noexcept nogil
cdef bint answer_value(EngineC *e, Writer *w, View *v) noexcept nogil
