# cython: language_level=3
"""Journals: bounded rings of what happened, written by whoever serves, read by the one who tells watchers.

A full ring drops the record and counts it: a writer never waits, never allocates, and calls nothing but a clock.
Knows: records. Must not know: who watches, how a record is told. Memory: a journal owns its ring from journal_open() to
journal_close(). Threads: one writer at a time (an engine's worker; for a shard, whoever holds its lock), one reader at a
time (it holds the watch log's lock, as do the callers of journal_open() and journal_close()). Neither waits for the
other; only journal_close() waits, for a writer that is in the middle of one record.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum Kind:              # bits: what a watcher wants to see
    SEE_GETS = 1
    SEE_STORES = 2
    SEE_DELETIONS = 4
    SEE_CONNECTIONS = 8
    SEE_EVICTIONS = 16

cdef enum What:
    ITEM_GET
    ITEM_STORE
    ITEM_DELETED
    ITEM_EVICTED
    CONN_NEW
    CONN_CLOSE

cdef enum Found:             # Record.status of ITEM_GET; of ITEM_STORE it is the Outcome, of CONN_CLOSE the reason
    FOUND_NOTHING
    FOUND_ITEM
    FOUND_EXPIRED

cdef struct Record:
    uint64_t gid             # rises by one with each record of the process
    int64_t when             # microseconds since 1970
    int64_t ttl              # seconds; ITEM_STORE: 0 never, negative: expired already; ITEM_EVICTED: -1 never
    uint32_t nbytes          # of value; CONN_*: the port
    uint32_t age             # ITEM_EVICTED: seconds since the last use
    int32_t cfd              # the client's file descriptor
    uint16_t clsid           # slab class as `stats slabs` numbers it, 0 = none
    uint8_t what
    uint8_t status
    uint8_t command          # which PutMode, or which way of deleting; CONN_*: the transport
    uint8_t fetched          # ITEM_EVICTED: it was read
    uint8_t nkey             # bytes behind the record: the key; CONN_*: the address

cdef struct Journal:
    char *ring               # NULL: closed
    int64_t size             # bytes, a multiple of 8
    int64_t head             # bytes ever written
    int64_t tail             # bytes ever read
    int64_t busy             # a writer is inside
    int64_t written          # records, atomic
    int64_t dropped

cdef bint journal_open(Journal *j, int64_t size) noexcept nogil
cdef void journal_close(Journal *j) noexcept nogil
cdef void journal_write(Journal *j, Record *r, const char *key) noexcept nogil
cdef bint journal_peek(Journal *j, int64_t end, uint64_t *gid) noexcept nogil
cdef int64_t journal_end(Journal *j) noexcept nogil
cdef void journal_read(Journal *j, Record *r, char *key) noexcept nogil
