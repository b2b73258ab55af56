# cython: language_level=3
"""The structs of the store: a shard is one lock and everything it guards (slab classes, segments, index, counters);
the store is a few shards over one arena.

Knows: the structs. Must not know: the protocol, who calls. Memory: a shard owns its index; its pages come from the arena
that all shards share, and any shard may be asked to give one up.
Lock order: shard, then arena. A thread that holds one shard's lock takes another's only by trying.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from cacheserver.store.arena cimport Arena
from cacheserver.store.index cimport Index
from cacheserver.store.item cimport handle_t
from cacheserver.store.journal cimport Journal
from cacheserver.store.learn cimport Learner
from cacheserver.store.manner cimport Manner
from cacheserver.store.platform cimport pthread_mutex_t

cdef extern from * nogil:
    """
    #include <pthread.h>
    typedef pthread_mutex_t line_mutex_t __attribute__((aligned(64)));
    """
    ctypedef pthread_mutex_t line_mutex_t      # begins a cache line, and so does the struct that it is in

cdef enum:
    CLASS_MAX = 320          # slab classes, and one more for items that have a run of pages of their own
    CHUNK_MAX = 262144       # larger items get a run
    SHARD_MAX = 64

cdef enum:
    HOT = 0                  # on probation
    WARM = 1                 # has proved itself
    SEGMENTS = 2

cdef enum:
    CLASS_WORDS = 5          # of a set of classes, one bit each

cdef enum DrainHow:
    DRAIN_FORCED             # what finds no hole takes the place of another item, or goes: the page is wanted
    DRAIN_RESCUE             # what is cold goes; the rest moves to holes, which are made of what is cold elsewhere
    DRAIN_COMPACT            # everything moves to holes that are there

cdef enum:
    SAMPLE = 256             # items of a shard whose coldness stands for that of all

cdef struct Rescue:          # how a shard pays soft debt; see rescue
    uint32_t sample[256]     # coldness of items at random, while they are being gathered
    uint32_t sampled
    uint32_t bound           # items at least as cold as this go
    uint32_t emptied         # pages since the sample was taken
    uint32_t misses          # searches for a page since one was emptied
    int64_t ask              # the ask that the sample was taken for
    uint32_t page            # where the search for cold items goes on
    uint32_t chunk
    uint32_t passed          # pages passed since one was found
    uint64_t dry[5]          # classes that had none left

cdef struct Segment:
    handle_t head
    handle_t tail
    uint32_t count

cdef struct SlabClass:
    uint32_t chunk_size      # bytes; the run class: 0
    uint32_t nchunks         # a page
    uint32_t pages
    uint32_t open            # first page with a chunk to give, 0 = none
    uint64_t hits_to_hot, hits_to_warm    # counters, too: these, `bytes` and `cmd_set` change with most requests
    uint64_t bytes           # of the items in them (memcached's mem_requested)
    uint64_t cmd_set
    uint64_t used            # chunks in use
    uint64_t peak            # most chunks in use at a time since compact last looked
    Segment segments[2]
    # what it is worth, see rebalance.pxd: halved now and then
    uint64_t worth
    uint64_t hits_seen       # hits that are counted in it
    uint64_t sets            # writes of items of this class's size, wherever they went
    uint64_t sets_seen
    # counters, since start or `stats reset`; seconds where the name says time; snapshot adds up what follows as one array
    uint64_t evicted, evicted_nonzero, evicted_unfetched, evicted_active, evicted_time
    uint64_t reclaimed, expired_unfetched, crawler_reclaimed, outofmemory
    uint64_t direct_reclaims, crawler_items_checked, lrutail_reflocked
    uint64_t moves_to_warm, moves_within_lru
    uint64_t touch_hits, delete_hits, incr_hits, decr_hits, cas_hits, cas_badval

cdef struct Shard:
    line_mutex_t lock        # in one cache line with what most writes change
    uint64_t cas
    uint64_t total_items
    uint64_t bytes           # of live items
    Arena *arena             # from here on: what lookups read and seldom anybody changes
    Index index
    Shard *all               # every shard of the store, this one included
    uint32_t nshards
    uint32_t number
    uint32_t now             # store clock of the last operation, seconds
    Manner manner            # may change whenever the lock is held
    bint learning            # it follows what is learnt
    int64_t traced           # what lookups find is kept for the caller, see store_seen(); atomic flag
    uint64_t reclaimed
    Learner *learner         # shard 0's, once it has evicted; NULL = none. Freed with the store
    handle_t loose           # first of the items that are being received, linked by next and prev
    uint32_t draining        # page being emptied in slices, 0 = none
    uint32_t moving          # page being emptied for another class; not `draining` any more if somebody else has taken it over
    uint32_t taker           # that class
    uint32_t drained         # chunks of it that are done with
    DrainHow how
    uint32_t dice            # state of the sequence that picks pages and chunks at random
    Rescue rescue
    uint64_t thin[5]         # classes that are being compacted
    uint32_t looked          # store clock, seconds: when compact last looked for such
    uint32_t since_balance   # evictions since the last look at the balance between classes
    uint32_t patience        # after how many the next look is due
    uint32_t step            # every how many-th class may be opened, see rebalance_step(); 0 at first
    uint64_t operations      # hits and writes since the classes' worths were halved
    uint32_t halved          # store clock when they were, seconds
    uint64_t cas_step
    uint64_t pages
    uint64_t run_bytes       # committed by items that have a run of pages of their own
    uint64_t evictions, rescued, slabs_moved
    uint64_t no_memory
    bint no_evictions
    Journal journal          # evictions; open while somebody watches them
    SlabClass classes[320]

cdef struct StoreC:
    Arena arena
    Shard *shards
    uint32_t nshards         # a power of two
    uint64_t max_item        # bytes of header, key, flags and value together
    bint use_cas
    int64_t reserved         # bytes of values being received; atomic
    int64_t debt             # bytes a soft shrink still owes; atomic
    int64_t asks             # times the debt was raised; atomic
    int64_t revoked          # reservations were revoked since the engine last looked; atomic flag
    int64_t flush_at         # store clock, seconds: a delayed flush; 0 = none; atomic
    int64_t released_soft    # bytes given back since start; atomic
    int64_t released_hard
    uint32_t crawl           # page the expiry's round goes on with, 0 = it is over
    uint32_t crawled         # store clock, seconds: when it began
    uint64_t crawls          # rounds it has begun
    uint64_t upkeeps         # times the store was maintained
    uint32_t turn            # shard the next shrink begins with
    uint32_t upkeep_turn     # shard that is being compacted
    uint64_t join_from       # `upkeeps` before which no huge page is asked for

cdef inline Shard *shard_of(StoreC *s, uint64_t hash) noexcept nogil:
    return &s.shards[(hash >> 44) & (s.nshards - 1)]
