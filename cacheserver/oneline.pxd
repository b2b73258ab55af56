# cython: language_level=3
"""Commands that are one line and touch one key, or none: delete, touch, incr, decr, flush_all, version.

Knows: requests, the store's operations, replies. Must not know: sockets, the other commands. Memory: none of its own.
Threads: the worker's.
"""
from cacheserver.output cimport Writer
from cacheserver.session cimport EngineC
from protocol.request cimport Request

cdef void answer_oneline(EngineC *e, Writer *w, Request *r) noexcept nogil
