# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Journals: see journal.pxd."""
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from cacheserver.store.platform cimport (
    atomic_add,
    atomic_look,
    atomic_mark,
    atomic_publish,
    atomic_read,
    pointer_look,
    pointer_mark,
    sched_yield,
    wall_us,
)

cdef int64_t last_gid = 0


cdef inline int64_t record_size(Record *r) noexcept nogil:
    """Bytes of a record in a ring: a multiple of 8, so that its head is never torn between end and beginning."""
    return <int64_t>((sizeof(Record) + r.nkey + 7) & ~<size_t>7)


cdef bint journal_open(Journal *j, int64_t size) noexcept nogil:
    """Let records of `size` bytes in all wait to be read; False if memory is out. Harmless where it is open."""
    cdef char *ring
    if j.ring != NULL:
        return True
    size = size // 8 * 8
    ring = <char *>malloc(size)
    if ring == NULL:
        return False
    j.size = size
    j.head = j.tail = 0
    pointer_mark(&j.ring, ring)
    return True


cdef void journal_close(Journal *j) noexcept nogil:
    """Drop what has not been read, and the ring.

    A writer marks itself busy before it looks for the ring, and this takes the ring away before it looks for a
    writer, all in one order: a writer that still saw the ring is seen here.
    """
    cdef char *ring = j.ring
    if ring == NULL:
        return
    pointer_mark(&j.ring, NULL)
    while atomic_look(&j.busy):
        sched_yield()
    free(ring)


cdef void put(Journal *j, char *ring, int64_t at, const void *data, size_t n) noexcept nogil:
    """Copy to a place counted in bytes ever written; it may go on at the ring's beginning."""
    cdef size_t offset = <size_t>(at % j.size), part = <size_t>j.size - offset
    if part >= n:
        memcpy(ring + offset, data, n)
    else:
        memcpy(ring + offset, data, part)
        memcpy(ring, <const char *>data + part, n - part)


cdef void take(Journal *j, int64_t at, void *data, size_t n) noexcept nogil:
    cdef size_t offset = <size_t>(at % j.size), part = <size_t>j.size - offset
    if part >= n:
        memcpy(data, j.ring + offset, n)
    else:
        memcpy(data, j.ring + offset, part)
        memcpy(<char *>data + part, j.ring, n - part)


cdef void journal_write(Journal *j, Record *r, const char *key) noexcept nogil:
    """Add a record; `gid` and `when` are filled in here. Dropped where the journal is closed, and counted where it is full."""
    cdef char *ring
    cdef int64_t n = record_size(r)
    atomic_mark(&j.busy, 1)
    ring = pointer_look(&j.ring)
    if ring != NULL:
        if j.size - (j.head - atomic_read(&j.tail)) < n:
            atomic_add(&j.dropped, 1)
        else:
            r.gid = <uint64_t>atomic_add(&last_gid, 1)
            r.when = wall_us()
            put(j, ring, j.head, r, sizeof(Record))
            put(j, ring, j.head + <int64_t>sizeof(Record), key, r.nkey)
            atomic_publish(&j.head, j.head + n)
            atomic_add(&j.written, 1)
    atomic_publish(&j.busy, 0)


cdef int64_t journal_end(Journal *j) noexcept nogil:
    """How far the journal may be read now; 0 where it is closed."""
    return atomic_read(&j.head) if j.ring != NULL else 0


cdef bint journal_peek(Journal *j, int64_t end, uint64_t *gid) noexcept nogil:
    """The number of the next record before `end`; False if there is none."""
    if j.ring == NULL or j.tail >= end:
        return False
    take(j, j.tail, gid, sizeof(uint64_t))
    return True


cdef void journal_read(Journal *j, Record *r, char *key) noexcept nogil:
    """Take the next record (there is one); `key` has room for 255 bytes."""
    take(j, j.tail, r, sizeof(Record))
    take(j, j.tail + <int64_t>sizeof(Record), key, r.nkey)
    atomic_publish(&j.tail, j.tail + record_size(r))
