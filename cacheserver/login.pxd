# cython: language_level=3
"""What a client that has not logged in may say: memcached's text authentication, a `set` whose data block is the token.

Knows: the grammar of a login, the replies, the session. Must not know: users and passwords (Python checks the token),
the store, sockets. Memory: a login is looked at where it was received, until it is complete; nothing is kept but its token.
Threads: the worker's.
"""
from libc.stddef cimport size_t

from cacheserver.output cimport Writer
from cacheserver.session cimport EngineC, Feed, Session

cdef Feed login(EngineC *e, Session *s, Writer *w, const char *p, size_t n, size_t *used, bint *wait) noexcept nogil
