# cython: language_level=3
"""The connections of a reactor as `stats conns` tells them.

Knows: connections and their addresses. Must not know: requests. Threads: the reactor's own.
"""
from libc.stdint cimport uint32_t

from cacheserver.net.conn cimport ReactorC

cdef list seat_list(ReactorC *r, uint32_t first, uint32_t most)
