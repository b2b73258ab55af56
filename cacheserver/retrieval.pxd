# cython: language_level=3
"""get, gets, gat, gats: keys in, VALUEs out, as far as one reply may grow at a time.

Knows: protocol and store, as a part of the engine. Must not know: sockets. Threads: the worker's.
"""
from cacheserver.output cimport Writer
from cacheserver.session cimport EngineC, Feed, Session

cdef Feed answer_line(EngineC *e, Session *s, Writer *w, const char *p, const char *end, bint whole,
                      const char **stop) noexcept nogil
