# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The watch log: see watchlog.pxd (and watchlog.pyi for the docstrings of its face)."""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from cacheserver.engine cimport Engine
from cacheserver.eventline cimport LINE_ROOM, SKIPPED_ROOM, format_line, format_skipped
from cacheserver.store.journal cimport (
    SEE_CONNECTIONS,
    SEE_DELETIONS,
    SEE_EVICTIONS,
    SEE_GETS,
    SEE_STORES,
    Record,
    journal_close,
    journal_end,
    journal_open,
    journal_peek,
    journal_read,
)
from cacheserver.store.platform cimport (
    atomic_add,
    atomic_get,
    atomic_set,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)

cdef enum:
    RING_MIN = 1024
    OF_ENGINES = SEE_GETS | SEE_STORES | SEE_DELETIONS | SEE_CONNECTIONS
    OF_LOOKUPS = SEE_GETS | SEE_STORES | SEE_DELETIONS

FETCHERS = SEE_GETS
MUTATIONS = SEE_STORES
DELETIONS = SEE_DELETIONS
CONNEVENTS = SEE_CONNECTIONS
EVICTIONS = SEE_EVICTIONS

# In the order of What.
cdef uint32_t[6] KIND_OF = [SEE_GETS, SEE_STORES, SEE_DELETIONS, SEE_EVICTIONS, SEE_CONNECTIONS, SEE_CONNECTIONS]


# Queues -----------------------------------------------------------------------------------------------------------

cdef void push(QueueC *q, const char *data, uint32_t n) noexcept nogil:
    """Add bytes; there is room."""
    cdef uint32_t at = (q.head + q.count) % q.size, part = q.size - at
    if part >= n:
        memcpy(q.ring + at, data, n)
    else:
        memcpy(q.ring + at, data, part)
        memcpy(q.ring, data + part, n - part)
    q.count += n


cdef void say_skipped(QueueC *q) noexcept nogil:
    cdef char line[SKIPPED_ROOM]
    push(q, line, format_skipped(line, q.skipped))
    q.skipped = 0


cdef bint put_line(QueueC *q, const char *line, uint32_t n) noexcept nogil:
    """Add a line, behind word of those that were skipped; False: it is skipped, too."""
    cdef bint room
    pthread_mutex_lock(&q.lock)
    room = q.size - q.count >= n + (SKIPPED_ROOM if q.skipped else 0)
    if room:
        if q.skipped:
            say_skipped(q)
        push(q, line, n)
    else:
        q.skipped += 1
    pthread_mutex_unlock(&q.lock)
    return room


cdef void end_silence(QueueC *q) noexcept nogil:
    """A queue that was read empty tells at once what was skipped: there may be no next line for long."""
    pthread_mutex_lock(&q.lock)
    if q.skipped and q.count == 0:
        say_skipped(q)
    pthread_mutex_unlock(&q.lock)


cdef class Queue:
    def __cinit__(self, uint32_t kinds, uint32_t nbytes):
        if nbytes < RING_MIN:
            raise ValueError(f"a queue has {RING_MIN} bytes or more, not {nbytes}")
        pthread_mutex_init(&self.c.lock, NULL)
        self.c.kinds = kinds
        self.c.size = nbytes
        self.c.ring = <char *>malloc(nbytes)
        if self.c.ring == NULL:
            raise MemoryError("no memory for a watcher")

    def __dealloc__(self):
        free(self.c.ring)

    @property
    def pending(self):
        cdef uint32_t n
        with nogil:
            pthread_mutex_lock(&self.c.lock)
            n = self.c.count
            pthread_mutex_unlock(&self.c.lock)
        return n

    def take(self, uint32_t most):
        cdef uint32_t n = self.pending, part
        cdef bytes data
        cdef char *out
        if n > most:
            n = most
        if n == 0:
            return b""
        data = PyBytes_FromStringAndSize(NULL, n)
        out = data
        with nogil:
            pthread_mutex_lock(&self.c.lock)
            part = self.c.size - self.c.head
            if part > n:
                part = n
            memcpy(out, self.c.ring + self.c.head, part)
            memcpy(out + part, self.c.ring, n - part)
            self.c.head = (self.c.head + n) % self.c.size
            self.c.count -= n
            pthread_mutex_unlock(&self.c.lock)
        return data


# The log ----------------------------------------------------------------------------------------------------------

cdef bint open_journals(LogC *g, uint32_t kinds) noexcept nogil:
    cdef uint32_t i
    for i in range(g.njournals):
        if kinds & (OF_ENGINES if i < g.nengines else SEE_EVICTIONS):
            if not journal_open(g.journals[i], g.ring_bytes):
                return False
    return True


cdef void close_journals(LogC *g, uint32_t kinds) noexcept nogil:
    """Close the journals that nobody needs who wants `kinds`."""
    cdef uint32_t i
    for i in range(g.njournals):
        if not kinds & (OF_ENGINES if i < g.nengines else SEE_EVICTIONS):
            journal_close(g.journals[i])


cdef bint want(LogC *g) noexcept nogil:
    """Let what the queues want be written, and nothing else; False (nothing changed) if memory is out. Lock held."""
    cdef uint32_t kinds = 0, i
    for i in range(g.nqueues):
        kinds |= g.queues[i].kinds
    if not open_journals(g, kinds):
        close_journals(g, g.kinds)
        return False
    for i in range(g.store.nshards):
        atomic_set(&g.store.shards[i].traced, kinds & OF_LOOKUPS != 0)
    for i in range(g.nengines):
        atomic_add(&g.engines[i].watched, <int64_t>(kinds & OF_ENGINES) - <int64_t>(g.kinds & OF_ENGINES))
    close_journals(g, kinds)
    g.kinds = kinds
    return True


cdef bint add_queue(LogC *g, QueueC *q) noexcept nogil:
    cdef bint done = False
    pthread_mutex_lock(&g.lock)
    if g.nqueues < QUEUES_MAX:
        g.queues[g.nqueues] = q
        g.nqueues += 1
        done = want(g)
        if not done:
            g.nqueues -= 1
    pthread_mutex_unlock(&g.lock)
    return done


cdef void remove_queue(LogC *g, QueueC *q) noexcept nogil:
    cdef uint32_t i
    pthread_mutex_lock(&g.lock)
    for i in range(g.nqueues):
        if g.queues[i] == q:
            g.nqueues -= 1
            g.queues[i] = g.queues[g.nqueues]
            break
    want(g)
    pthread_mutex_unlock(&g.lock)


cdef void tell(LogC *g, Record *r, const char *key) noexcept nogil:
    """Give a record's line to every queue that wants it."""
    cdef char line[LINE_ROOM]
    cdef uint32_t n = 0, i
    for i in range(g.nqueues):
        if g.queues[i].kinds & KIND_OF[r.what]:
            if n == 0:
                n = format_line(line, r, key)
            if put_line(g.queues[i], line, n):
                atomic_add(&g.sent, 1)
            else:
                atomic_add(&g.skipped, 1)


cdef int64_t drain(LogC *g) noexcept nogil:
    """Tell what the journals hold now, all of them in the order of the records' numbers."""
    cdef Record r
    cdef char key[256]
    cdef uint32_t i, first
    cdef uint64_t gid, least = 0
    cdef int64_t told = 0
    pthread_mutex_lock(&g.lock)
    for i in range(g.njournals):
        g.ends[i] = journal_end(g.journals[i])
    while True:
        first = g.njournals
        for i in range(g.njournals):
            if journal_peek(g.journals[i], g.ends[i], &gid) and (first == g.njournals or gid < least):
                first = i
                least = gid
        if first == g.njournals:
            break
        journal_read(g.journals[first], &r, key)
        tell(g, &r, key)
        told += 1
    for i in range(g.nqueues):
        end_silence(g.queues[i])
    pthread_mutex_unlock(&g.lock)
    return told


@cython.no_gc_clear  # the arrays point into the engines and the store
cdef class WatchLog:
    def __init__(self, engines, Store store not None, *, int64_t ring_bytes=65536):
        cdef Engine engine
        cdef uint32_t i
        if self.c.journals != NULL:
            raise RuntimeError("a watch log is set up once")
        if ring_bytes < RING_MIN:
            raise ValueError(f"a journal has {RING_MIN} bytes or more, not {ring_bytes}")
        self.engines = tuple(engines)
        self.store = store
        self.queues = []
        pthread_mutex_init(&self.c.lock, NULL)
        self.c.ring_bytes = ring_bytes
        self.c.store = &store.c
        self.c.nengines = len(self.engines)
        self.c.njournals = self.c.nengines + store.c.nshards
        self.c.engines = <EngineC **>calloc(self.c.nengines + 1, sizeof(EngineC *))
        self.c.journals = <Journal **>calloc(self.c.njournals, sizeof(Journal *))
        self.c.ends = <int64_t *>calloc(self.c.njournals, sizeof(int64_t))
        if self.c.engines == NULL or self.c.journals == NULL or self.c.ends == NULL:
            raise MemoryError("no memory for a watch log")
        for i in range(self.c.nengines):
            engine = self.engines[i]
            self.c.engines[i] = &engine.c
            self.c.journals[i] = &engine.c.journal
        for i in range(store.c.nshards):
            self.c.journals[self.c.nengines + i] = &store.c.shards[i].journal

    def __dealloc__(self):
        if self.c.engines != NULL and self.c.journals != NULL and self.c.ends != NULL:
            self.c.nqueues = 0
            want(&self.c)
        free(self.c.engines)
        free(self.c.journals)
        free(self.c.ends)

    def add(self, uint32_t kinds, uint32_t nbytes):
        cdef Queue queue = Queue(kinds, nbytes)
        cdef bint added
        self.queues.append(queue)
        with nogil:
            added = add_queue(&self.c, &queue.c)
        if not added:
            self.queues.remove(queue)
            raise MemoryError("no memory for a watcher")
        return queue

    def remove(self, Queue queue not None):
        with nogil:
            remove_queue(&self.c, &queue.c)
        if queue in self.queues:
            self.queues.remove(queue)

    def drain(self):
        cdef int64_t told
        with nogil:
            told = drain(&self.c)
        return told

    def counters(self):
        cdef int64_t dropped = 0, written = 0
        cdef uint32_t i
        for i in range(self.c.njournals):
            dropped += atomic_get(&self.c.journals[i].dropped)
            written += atomic_get(&self.c.journals[i].written)
        return {
            "log_worker_dropped": dropped,
            "log_worker_written": written,
            "log_watcher_skipped": atomic_get(&self.c.skipped),
            "log_watcher_sent": atomic_get(&self.c.sent),
        }
