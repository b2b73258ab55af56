# cython: language_level=3
"""What an engine tells those who watch it: one call after each store function that looked a key up.

While nobody watches, each call is one branch. What the lookup itself found need not be said: the store keeps it for
the thread (store_seen()). Statistics by prefix count the classic commands only, as memcached does; the others do not
call count_*().
Knows: journals, prefixes, the store's outcomes. Must not know: sockets, who watches. Threads: the worker's.
"""
from libc.stdint cimport int32_t, uint32_t

from cacheserver.prefixes cimport COUNT_DELETE, COUNT_GET, COUNT_SET, Counted
from cacheserver.session cimport EngineC
from cacheserver.store.operations cimport Outcome, PutMode
from cacheserver.store.platform cimport atomic_get

cdef enum:
    COUNT_PREFIXES = 256     # beside the Kinds in EngineC.watched: statistics by prefix are on

cdef enum DeletedBy:         # Record.command of ITEM_DELETED
    BY_DELETE = 1
    BY_MD = 2

cdef void saw_get(EngineC *e, const char *key, uint32_t nkey) noexcept nogil
cdef void saw_store(EngineC *e, const char *key, uint32_t nkey, PutMode mode, Outcome outcome, uint32_t flags,
                    uint32_t exptime, uint32_t nbytes) noexcept nogil
cdef void saw_delete(EngineC *e, const char *key, uint32_t nkey, DeletedBy command, Outcome outcome) noexcept nogil
cdef void saw_connection(EngineC *e, int32_t cfd, bint closed, int reason, int transport, const char *address,
                         uint32_t naddress, uint32_t port) noexcept nogil
cdef void count_prefix(EngineC *e, const char *key, uint32_t nkey, Counted what, bint hit) noexcept nogil

cdef inline void note_get(EngineC *e, const char *key, uint32_t nkey) noexcept nogil:
    """A key was looked up, to read it or to change it in place."""
    if atomic_get(&e.watched):
        saw_get(e, key, nkey)

cdef inline void note_store(EngineC *e, const char *key, uint32_t nkey, PutMode mode, Outcome outcome, uint32_t flags,
                            uint32_t exptime, uint32_t nbytes) noexcept nogil:
    """A storage command has ended, its lookup (if there was one) included. `exptime` in the store's clock; `nbytes` of the
    value that came: for append and prepend the part that was to be added."""
    if atomic_get(&e.watched):
        saw_store(e, key, nkey, mode, outcome, flags, exptime, nbytes)

cdef inline void note_delete(EngineC *e, const char *key, uint32_t nkey, DeletedBy command, Outcome outcome) noexcept nogil:
    """A command that deletes has ended, its lookup included; `outcome` STORED: it deleted."""
    if atomic_get(&e.watched):
        saw_delete(e, key, nkey, command, outcome)

cdef inline void count_get(EngineC *e, const char *key, uint32_t nkey, bint hit) noexcept nogil:
    if atomic_get(&e.watched) & COUNT_PREFIXES:
        count_prefix(e, key, nkey, COUNT_GET, hit)

cdef inline void count_set(EngineC *e, const char *key, uint32_t nkey) noexcept nogil:
    """A storage command was understood, whatever becomes of it."""
    if atomic_get(&e.watched) & COUNT_PREFIXES:
        count_prefix(e, key, nkey, COUNT_SET, False)

cdef inline void count_delete(EngineC *e, const char *key, uint32_t nkey) noexcept nogil:
    if atomic_get(&e.watched) & COUNT_PREFIXES:
        count_prefix(e, key, nkey, COUNT_DELETE, False)
