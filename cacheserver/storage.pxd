# cython: language_level=3
"""set, add, replace, append, prepend, cas, and ms: a line and its data block, whole or in pieces, into the store.

Knows: protocol and store, as a part of the engine. Must not know: sockets. Threads: the worker's.
"""
from libc.stddef cimport size_t

from cacheserver.output cimport Writer
from cacheserver.session cimport EngineC, Session
from protocol.request cimport Request

cdef bint store_block(EngineC *e, Session *s, Writer *w, Request *r, const char *block, size_t n, size_t *used) noexcept nogil
cdef size_t take_value(EngineC *e, Session *s, Writer *w, const char *p, size_t n) noexcept nogil
cdef void give_up_value(EngineC *e, Session *s) noexcept nogil
