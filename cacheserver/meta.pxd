# cython: language_level=3
"""The meta commands: mg, md, ma, me, mn whole, and the reply of ms (whose data block is storage's business).

Knows: protocol and store, as a part of the engine. Must not know: sockets. Memory: a large value's bytes are pinned, as
in retrieval. Threads: the worker's.
"""
from libc.stdint cimport uint32_t

from cacheserver.output cimport Writer
from cacheserver.session cimport EngineC
from cacheserver.store.operations cimport Outcome, Put
from protocol.request cimport Echo, Request

cdef void answer_meta(EngineC *e, Writer *w, Request *r) noexcept nogil
cdef void read_terms(Request *r, Put *put) noexcept nogil
cdef void put_stored(Writer *w, const Echo *echo, const char *key, uint32_t nkey, const Put *put, Outcome outcome,
                     bint quiet) noexcept nogil
