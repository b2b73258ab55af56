# cython: language_level=3
"""The inbox's C face. Whoever keeps a ReactorC pointer keeps a reference to its Reactor too."""
from cacheserver.net.conn cimport Arrival, ReactorC

cdef bint inbox_put(ReactorC *r, int fd) noexcept nogil
cdef bint inbox_put_secure(ReactorC *r, Arrival a) noexcept nogil
cdef void inbox_take(ReactorC *r) noexcept nogil
cdef void inbox_shut(ReactorC *r) noexcept nogil
