# cython: language_level=3
"""A walk over every item of the store in small steps, for dumps, histograms and the expiry that a client asks for.

The order is that of the hash read backwards, its lowest bit first. A bucket of the index holds exactly the items of one
interval of that order, whatever its size: a bucket that splits cuts its interval in two, one that merges joins two
neighbours. So the position is a number in the order and stays true while the index grows and shrinks: a key that is in
the store for the whole walk is met exactly once, also if its item is moved or written again meanwhile; one that comes or
goes meanwhile is met once or not at all.

Knows: the index's buckets, what lies in an item. Must not know: how a dump looks, who asks, how fast to go.
Memory: a Crawl is the caller's, as are the records; nothing is allocated, and no item is held from one step to the next.
Threads: a Crawl belongs to one thread; a step takes one shard's lock, for CRAWL_BATCH items or CRAWL_BUCKETS buckets at
most.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from cacheserver.store.shard cimport StoreC

cdef enum:
    CRAWL_BATCH = 64         # items of one step: some ten microseconds under the lock
    CRAWL_BUCKETS = 48       # buckets of one step, of which many may be empty

cdef struct Met:            # a live item as it was at its moment
    uint64_t cas
    uint64_t size            # bytes of header, key, client flags and value
    uint32_t exptime         # store clock, seconds; 0 = never
    uint32_t atime
    uint32_t nbytes
    uint32_t flags
    uint32_t cls             # slab class, counted from 1
    bint fetched
    bint encoded             # see struct Item
    uint32_t nkey
    char key[256]

cdef struct Crawl:
    StoreC *store
    uint32_t shard           # the shards before it are done
    uint64_t at              # position in the order: everything before it has been met
    uint32_t batch           # items of one step at most: from 1 to CRAWL_BATCH
    bint done
    uint8_t wanted[320]      # slab classes to look at
    uint64_t checked         # items looked at so far
    uint32_t looked[320]     # of those by class, for crawl_expire()

cdef void crawl_open(Crawl *c, StoreC *s, uint32_t batch) noexcept nogil
cdef uint32_t crawl_next(Crawl *c, uint32_t now, Met *out) noexcept nogil
cdef uint32_t crawl_expire(Crawl *c, uint32_t now, uint32_t most) noexcept nogil
