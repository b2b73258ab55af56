# cython: language_level=3
"""The watch log: the journals of engines and shards in, lines of text for watchers out, each in a bounded queue.

Knows: every journal, which kinds of records a queue wants. Must not know: the wording, sockets, threads, who reads a
queue.
Memory: a WatchLog opens the journals that its queues need, and closes them when none does; a Queue owns its bytes. A
queue that is full skips lines and says later how many. Threads: every method may be called from any thread. The log's
lock comes before a queue's, and both are leaves for everybody else; neither is waited for with the GIL held. Journals
are written without a lock.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from cacheserver.session cimport EngineC
from cacheserver.store.journal cimport Journal
from cacheserver.store.platform cimport pthread_mutex_t
from cacheserver.store.shard cimport StoreC
from cacheserver.store.store cimport Store

cdef enum:
    QUEUES_MAX = 32

cdef struct QueueC:
    pthread_mutex_t lock     # guards all that follows but kinds
    uint32_t kinds
    char *ring
    uint32_t size            # bytes
    uint32_t head            # first byte not taken
    uint32_t count           # bytes that wait
    uint64_t skipped         # lines, since the last one that went in

cdef struct LogC:
    pthread_mutex_t lock     # guards all that follows; its holder is the reader of every journal
    StoreC *store
    EngineC **engines
    uint32_t nengines
    Journal **journals       # of engines, then of shards
    int64_t *ends
    uint32_t njournals
    uint32_t kinds           # what any queue wants
    QueueC *queues[32]
    uint32_t nqueues
    int64_t ring_bytes       # of each journal
    int64_t skipped          # lines over all queues since the start, atomic
    int64_t sent

cdef class Queue:
    cdef QueueC c

cdef class WatchLog:
    cdef LogC c
    cdef tuple engines
    cdef Store store
    cdef list queues
