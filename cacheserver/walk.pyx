# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""A walk over the store as dumps need it: items as lines of text, a histogram of sizes, expiry; at a pace that leaves the
store to its clients.

Knows: the store's crawl, the forms of a dumped item, how much work to do at a stretch. Must not know: sockets, who asks.
Memory: a Walk owns one buffer of BUFFER bytes and the records of one step. Threads: a Walk belongs to one thread at a
time; it works and rests without the GIL.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from collections.abc import Collection

from cacheserver.store.crawl cimport CRAWL_BATCH, Crawl, Met, crawl_expire, crawl_next, crawl_open
from cacheserver.store.platform cimport monotonic_ns
from cacheserver.store.slab cimport slab_sizes
from cacheserver.store.store cimport Store
from protocol.base64 cimport base64_encode
from protocol.reply cimport format_u64
from protocol.uri cimport format_uri

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int nanosleep(const timespec *want, timespec *left)

cdef enum:
    LINE = 1024              # more than any line: 3 bytes for each of a key's 250, and six numbers of 20 digits at most
    FULL = 65536             # bytes of text that are worth a send
    BUFFER = 65536 + 64 * 1024
    STRETCH_NS = 50000       # work at a stretch; then comes a rest at least RESTS times as long
    RESTS = 2                # so that a walk takes a third of a processor at most
    TURN_NS = 10000000       # longest time of one call, when there is little to show
    FINE = 32                # bytes a column of the histogram ...
    FINE_COLUMNS = 32768     # ... up to 1 MiB; above that a column is 1 MiB wide
    COARSE = 1048576
    COLUMNS = 32768 + 1025

cdef enum Form:
    METADUMP
    MGDUMP
    CACHEDUMP

FORMS = {"metadump": METADUMP, "mgdump": MGDUMP, "cachedump": CACHEDUMP}

cdef inline char *put_text(char *to, const char *text, size_t n) noexcept nogil:
    memcpy(to, text, n)
    return to + n


cdef inline char *put_number(char *to, uint64_t number) noexcept nogil:
    return to + format_u64(to, number)


cdef char *put_time(char *to, int64_t wall, uint32_t exptime) noexcept nogil:
    """Write the Unix time of an expiry, -1 for never."""
    return put_number(to, <uint64_t>(wall + exptime)) if exptime else put_text(to, "-1", 2)


cdef bint readable(const Met *it) noexcept nogil:
    """Whether a key can stand in a line of text as it is."""
    cdef uint32_t i
    cdef uint8_t c
    for i in range(it.nkey):
        c = <uint8_t>it.key[i]
        if c <= 0x20 or c == 0x7f:
            return False
    return True


cdef char *put_metadump(char *to, const Met *it, int64_t wall) noexcept nogil:
    to = put_text(to, "key=", 4)
    to += format_uri(to, it.key, it.nkey)
    to = put_text(to, " exp=", 5)
    to = put_time(to, wall, it.exptime)
    to = put_text(to, " la=", 4)
    to = put_number(to, <uint64_t>(wall + it.atime))
    to = put_text(to, " cas=", 5)
    to = put_number(to, it.cas)
    to = put_text(to, " fetch=yes cls=" if it.fetched else " fetch=no cls=", 15 if it.fetched else 14)
    to = put_number(to, it.cls)
    to = put_text(to, " size=", 6)
    to = put_number(to, it.size)
    to = put_text(to, " flags=", 7)
    to = put_number(to, it.flags)
    to[0] = c"\n"
    return to + 1


cdef char *put_mgdump(char *to, const Met *it) noexcept nogil:
    """A command that reads the item; a key that came in base64, or cannot stand in a line, goes as base64."""
    to = put_text(to, "mg ", 3)
    if it.encoded or not readable(it):
        to += base64_encode(it.key, it.nkey, to)
        return put_text(to, " b\r\n", 4)
    to = put_text(to, it.key, it.nkey)
    return put_text(to, "\r\n", 2)


cdef char *put_cachedump(char *to, const Met *it, int64_t wall) noexcept nogil:
    to = put_text(to, "ITEM ", 5)
    if readable(it):
        to = put_text(to, it.key, it.nkey)
    else:
        to += format_uri(to, it.key, it.nkey)
    to = put_text(to, " [", 2)
    to = put_number(to, it.nbytes)
    to = put_text(to, " b; ", 4)
    to = put_number(to, <uint64_t>(wall + it.exptime) if it.exptime else 0)
    return put_text(to, " s]\r\n", 5)


cdef char *put_line(char *to, const Met *it, Form form, int64_t wall) noexcept nogil:
    if form == METADUMP:
        return put_metadump(to, it, wall)
    if form == MGDUMP:
        return put_mgdump(to, it)
    return put_cachedump(to, it, wall)


cdef struct Pace:
    int64_t rest             # nanoseconds, at least, between two stretches
    int64_t until            # end of the turn
    int64_t begun            # of the stretch


cdef void pace_begin(Pace *p, int64_t *worked, int64_t rest) noexcept nogil:
    """Begin a turn: rest from the work that the last one ended with."""
    p.rest = rest
    pace_rest(p, worked)
    p.until = p.begun + TURN_NS


cdef void pace_rest(Pace *p, int64_t *worked) noexcept nogil:
    cdef timespec want
    cdef int64_t n = worked[0] * RESTS
    if n:
        if n < p.rest:
            n = p.rest
        want.tv_sec = n // 1000000000
        want.tv_nsec = n % 1000000000
        nanosleep(&want, NULL)
    worked[0] = 0
    p.begun = monotonic_ns()


cdef bint pace_on(Pace *p, int64_t *worked) noexcept nogil:
    """After a step: rest if it is time to. False: the turn is over."""
    cdef int64_t now = monotonic_ns()
    worked[0] = now - p.begun
    if now >= p.until:
        return False
    if worked[0] >= STRETCH_NS:
        pace_rest(p, worked)
    return True


cdef class Walk:
    cdef Store store
    cdef Crawl c
    cdef Met *records
    cdef char *buffer
    cdef uint64_t *columns
    cdef int64_t worked      # nanoseconds since the last rest

    def __cinit__(self, Store store not None, classes: Collection[int] = (), *, uint32_t batch=CRAWL_BATCH):
        cdef uint32_t cls, count = slab_sizes().count + 1
        if not 1 <= batch <= CRAWL_BATCH:
            raise ValueError(f"batch is a number from 1 to {CRAWL_BATCH}, not {batch}")
        self.store = store
        crawl_open(&self.c, &store.c, batch)
        for number in classes:
            if not 1 <= number <= count:
                raise ValueError(f"a slab class is a number from 1 to {count}, not {number}")
            cls = number - 1
            self.c.wanted[cls] = True
        if not classes:
            memset(self.c.wanted, True, count)
        self.records = <Met *>malloc(CRAWL_BATCH * sizeof(Met))
        self.buffer = <char *>malloc(BUFFER)
        if self.records == NULL or self.buffer == NULL:
            raise MemoryError("no memory for a walk over the store")

    def __dealloc__(self):
        free(self.records)
        free(self.buffer)
        free(self.columns)

    @property
    def done(self):
        return self.c.done

    @property
    def checked(self):
        return self.c.checked

    def lines(self, str form, uint32_t now, int64_t wall, int64_t rest_us=0, uint32_t most=0):
        cdef Form kind = FORMS[form]
        cdef char *to = self.buffer
        cdef uint32_t i, n, shown = 0
        cdef Pace pace
        with nogil:
            pace_begin(&pace, &self.worked, rest_us * 1000)
            while not self.c.done and to - self.buffer < FULL:
                n = crawl_next(&self.c, now, self.records)
                for i in range(n):
                    if most and shown == most:
                        self.c.done = True
                        break
                    to = put_line(to, &self.records[i], kind, wall)
                    shown += 1
                if not pace_on(&pace, &self.worked):
                    break
        return PyBytes_FromStringAndSize(self.buffer, to - self.buffer), shown

    def measure(self, uint32_t now, int64_t rest_us=0):
        cdef uint32_t i, n
        cdef Pace pace
        if self.columns == NULL:
            self.columns = <uint64_t *>calloc(COLUMNS, sizeof(uint64_t))
            if self.columns == NULL:
                raise MemoryError("no memory for a histogram")
        with nogil:
            pace_begin(&pace, &self.worked, rest_us * 1000)
            while not self.c.done:
                n = crawl_next(&self.c, now, self.records)
                for i in range(n):
                    self.columns[column(self.records[i].size)] += 1
                if not pace_on(&pace, &self.worked):
                    break

    def sizes(self):
        cdef uint32_t i
        if self.columns == NULL:
            return
        for i in range(COLUMNS):
            if self.columns[i]:
                yield i * FINE if i <= FINE_COLUMNS else (i - FINE_COLUMNS + 1) * COARSE, self.columns[i]

    def expire(self, uint32_t now, uint32_t most=0, int64_t rest_us=0):
        cdef uint32_t removed = 0
        cdef Pace pace
        with nogil:
            pace_begin(&pace, &self.worked, rest_us * 1000)
            while not self.c.done:
                removed += crawl_expire(&self.c, now, most)
                if not pace_on(&pace, &self.worked):
                    break
        return removed


cdef uint32_t column(uint64_t size) noexcept nogil:
    """The column of the histogram that an item of `size` bytes counts in: the size rounded up."""
    cdef uint64_t i
    if size <= COARSE:
        return <uint32_t>((size + FINE - 1) // FINE)
    i = FINE_COLUMNS - 1 + (size + COARSE - 1) // COARSE
    return <uint32_t>(i if i < COLUMNS else COLUMNS - 1)
