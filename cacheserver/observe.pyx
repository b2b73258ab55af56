# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""What an engine tells those who watch it: see observe.pxd."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from cacheserver.prefixes cimport prefix_count, prefix_length
from cacheserver.store.journal cimport (
    CONN_CLOSE,
    CONN_NEW,
    FOUND_ITEM,
    ITEM_DELETED,
    ITEM_GET,
    ITEM_STORE,
    SEE_CONNECTIONS,
    SEE_DELETIONS,
    SEE_GETS,
    SEE_STORES,
    Record,
    What,
    journal_write,
)
from cacheserver.store.operations cimport (
    NO_MEMORY,
    PUT_APPEND,
    PUT_PREPEND,
    STORED,
    TOO_LARGE,
    Seen,
    store_clsid,
    store_hash,
    store_seen,
)


cdef inline void begin(EngineC *e, Record *r, What what, uint32_t nkey) noexcept nogil:
    memset(r, 0, sizeof(Record))
    r.what = what
    r.cfd = e.cfd
    r.nkey = <uint8_t>nkey


cdef void saw_get(EngineC *e, const char *key, uint32_t nkey) noexcept nogil:
    cdef Seen *seen = store_seen()
    cdef Record r
    if seen.fresh and atomic_get(&e.watched) & SEE_GETS:
        begin(e, &r, ITEM_GET, nkey)
        r.status = <uint8_t>seen.found
        r.clsid = <uint16_t>seen.clsid
        r.nbytes = seen.nbytes
        journal_write(&e.journal, &r, key)
    seen.fresh = False


cdef int64_t time_left(EngineC *e, uint32_t exptime) noexcept nogil:
    """Seconds until an expiry time of the store's clock: 0 never, -1 it has passed."""
    if exptime == 0:
        return 0
    return <int64_t>exptime - e.now if exptime > e.now else -1


cdef void saw_store(EngineC *e, const char *key, uint32_t nkey, PutMode mode, Outcome outcome, uint32_t flags,
                    uint32_t exptime, uint32_t nbytes) noexcept nogil:
    cdef Seen *seen = store_seen()
    cdef bint refused = outcome == TOO_LARGE or outcome == NO_MEMORY
    cdef Record r
    if not refused:
        saw_get(e, key, nkey)
    if atomic_get(&e.watched) & SEE_STORES:
        begin(e, &r, ITEM_STORE, nkey)
        r.status = <uint8_t>outcome
        r.command = <uint8_t>mode
        if not refused:
            if outcome == STORED and (mode == PUT_APPEND or mode == PUT_PREPEND):
                nbytes += seen.nbytes
                flags = seen.flags
                exptime = seen.exptime
            r.nbytes = nbytes
            r.clsid = <uint16_t>store_clsid(nkey, flags, nbytes)
            r.ttl = time_left(e, exptime)
        journal_write(&e.journal, &r, key)
    if refused:
        saw_get(e, key, nkey)        # the stale value was looked for after it


cdef void saw_delete(EngineC *e, const char *key, uint32_t nkey, DeletedBy command, Outcome outcome) noexcept nogil:
    cdef Seen *seen = store_seen()
    cdef bint fresh = seen.fresh
    cdef Record r
    saw_get(e, key, nkey)
    if fresh and outcome == STORED and seen.found == FOUND_ITEM and atomic_get(&e.watched) & SEE_DELETIONS:
        begin(e, &r, ITEM_DELETED, nkey)
        r.command = <uint8_t>command
        r.clsid = <uint16_t>seen.clsid
        r.nbytes = seen.nbytes
        journal_write(&e.journal, &r, key)


cdef void saw_connection(EngineC *e, int32_t cfd, bint closed, int reason, int transport, const char *address,
                         uint32_t naddress, uint32_t port) noexcept nogil:
    """A client came or went; `address` is at most 64 bytes of text."""
    cdef Record r
    if atomic_get(&e.watched) & SEE_CONNECTIONS:
        begin(e, &r, CONN_CLOSE if closed else CONN_NEW, naddress)
        r.cfd = cfd
        r.status = <uint8_t>reason
        r.command = <uint8_t>transport
        r.nbytes = port
        journal_write(&e.journal, &r, address)


cdef void count_prefix(EngineC *e, const char *key, uint32_t nkey, Counted what, bint hit) noexcept nogil:
    """Count an operation by the key's prefix; a key without a delimiter has none."""
    cdef uint32_t n
    if e.prefixes == NULL:
        return
    n = prefix_length(e.prefixes, key, nkey)
    if n < nkey:
        prefix_count(e.prefixes, store_hash(e.store, key, n), key, n, what, hit)
