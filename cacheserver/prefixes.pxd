# cython: language_level=3
"""Statistics by prefix: how often keys that begin alike were read, found, stored and deleted.

Knows: bytes, a delimiter, four counts. Must not know: requests, the store, sockets. Memory: one table for the whole
server with at most PREFIXES_MAX prefixes and TEXT_MAX bytes of their text, about 8 MiB in all; what comes later is not
counted, only that it came. A Prefixes owns its table. Threads: every function may be called from any thread; the
table's lock is a leaf, and is taken only while the statistics are on or asked for.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *m, void *attr)
    int pthread_mutex_destroy(pthread_mutex_t *m)
    int pthread_mutex_lock(pthread_mutex_t *m)
    int pthread_mutex_unlock(pthread_mutex_t *m)

cdef enum:
    PREFIXES_MAX = 65536
    TEXT_MAX = 4194304       # bytes

cdef enum Counted:
    COUNT_GET, COUNT_HIT, COUNT_SET, COUNT_DELETE
    COUNTS

cdef struct Entry:
    uint64_t counts[4]
    uint64_t hash
    uint32_t text            # where its bytes begin
    uint32_t n               # how many
    uint32_t next            # of the same slot: entry + 1, 0 = none

cdef struct PrefixTable:
    pthread_mutex_t lock     # guards all that follows but the delimiter
    char delimiter
    uint32_t *slots          # entry + 1, 0 = none
    uint32_t nslots          # a power of two, or 0
    Entry *entries           # in the order of their coming
    uint32_t count
    uint32_t cap
    char *text
    uint32_t ntext
    uint32_t text_cap
    int64_t dropped          # counts that found no room, since the start

cdef uint32_t prefix_length(PrefixTable *t, const char *key, uint32_t nkey) noexcept nogil
cdef void prefix_count(PrefixTable *t, uint64_t hash, const char *text, uint32_t n, Counted what, bint hit) noexcept nogil

cdef class Prefixes:
    cdef PrefixTable c
