# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The store as an object: see store.pxd (and store.pyi for the docstrings of its face)."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import os

from cacheserver.store.arena cimport PAGE_SHIFT, PAGE_SIZE, arena_close, arena_grant, arena_open, arena_wake, map_space, unmap_space
from cacheserver.store.arithmetic cimport store_arith
from cacheserver.store.audit cimport audit_resident, audit_store
from cacheserver.store.extend cimport store_extend
from cacheserver.store.hashing cimport Hasher
from cacheserver.store.index cimport index_bytes, index_close, index_open
from cacheserver.store.index_memory cimport index_spare
from cacheserver.store.item cimport HEADER
from cacheserver.store.journal cimport journal_close
from cacheserver.store.learn cimport learn_close
from cacheserver.store.lru cimport manner_filling, manner_lru, manner_s3fifo
from cacheserver.store.manner cimport Manner
from cacheserver.store.marks cimport (
    CLAIM_STALE,
    CLAIM_TAKEN,
    CLAIM_WON,
    Removal,
    Sight,
    sight_bump,
    sight_claim,
    store_look,
    store_remove,
)
from cacheserver.store.operations cimport (
    NO_MEMORY,
    NOT_STORED,
    PUT_ADD,
    PUT_APPEND,
    PUT_CAS,
    PUT_PREPEND,
    PUT_REPLACE,
    PUT_SET,
    STORED,
    TOO_LARGE,
    EXISTS,
    NOT_A_NUMBER,
    NOT_FOUND,
    Outcome,
    Put,
    store_delete,
    store_flush,
    store_get,
    store_hash,
    store_put,
    store_tick,
    store_touch,
)
from cacheserver.store.platform cimport atomic_get, atomic_set, atomic_swap, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock
from cacheserver.store.poison cimport poison_is_on
from cacheserver.store.reassign cimport (
    REASSIGN_BAD_CLASS,
    REASSIGN_BUSY,
    REASSIGN_NO_SPARE,
    REASSIGN_SAME,
    REASSIGNED,
    Reassigned,
    store_reassign,
)
from cacheserver.store.receive cimport Reservation, store_commit, store_reserve
from cacheserver.store.release cimport release_hard, release_pay, release_soft
from cacheserver.store.shard cimport CHUNK_MAX, SHARD_MAX, Shard, StoreC
from cacheserver.store.slab cimport slab_open, slab_sizes
from cacheserver.store.snapshot cimport store_snapshot
from cacheserver.store.upkeep cimport upkeep_slice
from cacheserver.store.view cimport View, store_done

cdef extern from "<sys/resource.h>" nogil:
    ctypedef unsigned long rlim_t
    struct rlimit:
        rlim_t rlim_cur
    enum:
        RLIMIT_AS, RLIMIT_DATA
    rlim_t RLIM_INFINITY
    int getrlimit(int resource, rlimit *limit)

cdef enum:
    SPACE_SHIFT = 38         # 256 GiB of address space

MODES = {"set": PUT_SET, "add": PUT_ADD, "replace": PUT_REPLACE, "append": PUT_APPEND, "prepend": PUT_PREPEND,
         "cas": PUT_CAS}
OUTCOMES = {STORED: "STORED", NOT_STORED: "NOT_STORED", EXISTS: "EXISTS", NOT_FOUND: "NOT_FOUND",
            TOO_LARGE: "TOO_LARGE", NO_MEMORY: "NO_MEMORY", NOT_A_NUMBER: "NOT_A_NUMBER"}

REASSIGNS = {REASSIGNED: "OK", REASSIGN_BUSY: "BUSY", REASSIGN_BAD_CLASS: "BADCLASS", REASSIGN_NO_SPARE: "NOSPARE",
             REASSIGN_SAME: "SAME"}


cdef uint64_t allowed_space(int which, uint64_t space) noexcept nogil:
    """`space` halved until it is a third at most of what the limit `which` allows: the process needs some, too."""
    cdef rlimit limit
    if getrlimit(which, &limit) == 0 and limit.rlim_cur != RLIM_INFINITY:
        while space > limit.rlim_cur // 3:
            space >>= 1
    return space


cdef uint64_t address_space() noexcept nogil:
    """Bytes of address space to ask for: 256 GiB, less under `ulimit -v` or `ulimit -d`."""
    return allowed_space(RLIMIT_DATA, allowed_space(RLIMIT_AS, <uint64_t>1 << SPACE_SHIFT))


cdef bint open_shard(StoreC *s, Shard *sh, uint32_t i, Hasher hasher) noexcept nogil:
    cdef uint64_t space = <uint64_t>s.arena.npages * (PAGE_SIZE // 16) // s.nshards
    sh.arena = &s.arena
    sh.all = s.shards
    sh.nshards = s.nshards
    sh.number = i
    sh.cas = i
    sh.cas_step = s.nshards
    sh.learning = True
    sh.manner = manner_filling()
    slab_open(sh)
    pthread_mutex_init(&sh.lock, NULL)
    return index_open(&sh.index, &s.arena, space, hasher) == 0


cdef void close_store(StoreC *s) noexcept nogil:
    cdef uint32_t i
    if s.shards != NULL:
        for i in range(s.nshards):
            index_close(&s.shards[i].index)
            journal_close(&s.shards[i].journal)
            learn_close(s.shards[i].learner)
        unmap_space(s.shards, s.nshards * sizeof(Shard))
        s.shards = NULL
    arena_close(&s.arena)


cdef bint open_store(StoreC *s, uint32_t shards, uint64_t space, int64_t capacity, Hasher hasher) noexcept nogil:
    """Arena and shards in `space` bytes of address space, or the largest half, quarter ... of it that the system allows."""
    cdef uint32_t i
    cdef bint opened
    while space >= 16 * PAGE_SIZE:
        s.nshards = shards
        s.shards = <Shard *>map_space(shards * sizeof(Shard))    # touched as far as it is used
        opened = s.shards != NULL and arena_open(&s.arena, space, capacity) == 0
        for i in range(shards):
            opened = opened and open_shard(s, &s.shards[i], i, hasher)
        if opened:
            return True
        close_store(s)
        space >>= 1
    return False


cdef class Store:
    def __cinit__(self, *, uint32_t shards=1, int64_t capacity=0, uint64_t max_item=1 << 20, bint evictions=True,
                  bint cas=True, manner=None):
        cdef uint32_t i
        cdef Hasher hasher
        cdef bytes seed = os.urandom(16)
        if shards < 1 or shards > SHARD_MAX or shards & (shards - 1):
            raise ValueError(f"shards must be a power of two from 1 to {SHARD_MAX}, not {shards}")
        memcpy(&hasher, <const char *>seed, 16)
        if not open_store(&self.c, shards, address_space(), capacity, hasher):
            raise MemoryError("the system refuses address space for the store: raise `ulimit -v` and `ulimit -d`")
        self.c.max_item = max_item
        self.c.use_cas = cas
        for i in range(shards):
            self.c.shards[i].no_evictions = not evictions
        if manner is not None:
            self.steer(manner)

    def __dealloc__(self):
        close_store(&self.c)

    @property
    def wake_fd(self):
        return self.c.arena.wake_fd

    @wake_fd.setter
    def wake_fd(self, int fd):
        self.c.arena.wake_fd = fd

    @property
    def ceiling(self):
        return atomic_get(&self.c.arena.ceiling)

    @ceiling.setter
    def ceiling(self, int64_t nbytes):
        atomic_set(&self.c.arena.ceiling, nbytes)

    @property
    def space(self):
        return (<int64_t>self.c.arena.npages - 1) << PAGE_SHIFT  # page 0 is never used

    @property
    def class_count(self):
        return slab_sizes().count + 1

    def reassign(self, int source, int target):
        cdef Reassigned outcome
        with nogil:
            outcome = store_reassign(&self.c, source, target)
        return REASSIGNS[outcome]

    def grant(self, int64_t nbytes):
        if nbytes > 0:
            atomic_set(&self.c.debt, 0)    # there is room again: what was asked for softly is not needed any more
        arena_grant(&self.c.arena, nbytes if nbytes > 0 else 0)

    def shrink(self, int64_t target, bint hard):
        cdef int64_t freed = 0
        if target <= 0:
            return 0
        with nogil:
            freed = release_hard(&self.c, target) if hard else release_soft(&self.c, target)
        return freed

    def pay(self, int64_t budget_us=1000):
        cdef int64_t owed
        if atomic_get(&self.c.debt) <= 0:
            return 0
        with nogil:
            owed = release_pay(&self.c, budget_us * 1000)
        return owed

    def maintain(self, uint32_t now, int64_t budget_us=1000):
        cdef bint more
        with nogil:
            store_tick(&self.c, now)
            more = upkeep_slice(&self.c, now, budget_us * 1000)
            arena_wake(&self.c.arena)
        return more

    def ledger(self):
        cdef int64_t untouched = atomic_get(&self.c.arena.untouched)
        return atomic_get(&self.c.arena.committed) - untouched, untouched

    def freeable(self):
        cdef int64_t n = atomic_get(&self.c.arena.committed) - atomic_get(&self.c.arena.untouched)
        cdef uint32_t i
        for i in range(self.c.nshards):
            n -= index_bytes(&self.c.shards[i].index) - index_spare(&self.c.shards[i].index)
        return n if n > 0 else 0

    def take_revoked(self):
        return atomic_swap(&self.c.revoked, 0) != 0

    def snapshot(self):
        return store_snapshot(&self.c)

    def steer(self, str manner):
        cdef Manner m
        cdef uint32_t i
        if manner not in ("lru", "s3fifo"):
            raise ValueError(f"manner must be 'lru' or 's3fifo', not {manner!r}")
        m = manner_lru() if manner == "lru" else manner_s3fifo()
        with nogil:
            for i in range(self.c.nshards):
                pthread_mutex_lock(&self.c.shards[i].lock)
                self.c.shards[i].manner = m
                self.c.shards[i].learning = False
                pthread_mutex_unlock(&self.c.shards[i].lock)

    def audit(self):
        return audit_store(&self.c)

    def resident(self):
        cdef int64_t nbytes
        with nogil:
            nbytes = audit_resident(&self.c)
        return nbytes

    @property
    def poisons(self):
        return poison_is_on()

    def flush(self):
        with nogil:
            store_flush(&self.c)

    # one operation at a time, for tests and embedding programs; the server goes through the engine

    def get(self, bytes key, uint32_t now=1):
        cdef View v
        cdef const char *k = key
        cdef uint32_t n = len(key)
        cdef uint64_t hash = store_hash(&self.c, k, n)
        cdef bint hit
        with nogil:
            hit = store_get(&self.c, hash, k, n, now, False, &v)
        if not hit:
            return None
        try:
            return v.value[:v.nbytes], v.flags, v.cas
        finally:
            store_done(&v)

    def put(self, str mode, bytes key, bytes value, uint32_t flags=0, uint32_t exptime=0, uint64_t cas=0, uint32_t now=1,
            bint tolerant=False, number=None):
        cdef const char *k = key
        cdef const char *data = value
        cdef uint32_t n = len(key), nbytes = len(value)
        cdef uint64_t hash = store_hash(&self.c, k, n)
        cdef Outcome outcome
        cdef Reservation r
        cdef Put put
        memset(&put, 0, sizeof(put))
        put.mode = MODES[mode]
        put.compare = cas
        put.clearing = put.mode == PUT_SET
        put.tolerant = tolerant
        put.numbered = number is not None
        put.number = number or 0
        with nogil:
            if put.mode == PUT_APPEND or put.mode == PUT_PREPEND:
                outcome = store_extend(&self.c, &put, hash, k, n, 0, 0, data, nbytes, now)
            elif HEADER + n + nbytes + 4 > CHUNK_MAX:
                outcome = store_reserve(&self.c, hash, k, n, flags, exptime, nbytes, now, &r)
                if outcome == STORED:
                    memcpy(r.value, data, nbytes)
                    r.received = nbytes
                    outcome = store_commit(&self.c, &r, &put, now)
            else:
                outcome = store_put(&self.c, &put, hash, k, n, flags, exptime, data, nbytes, now)
            arena_wake(&self.c.arena)
        return OUTCOMES[outcome]

    def delete(self, bytes key, uint32_t now=1):
        cdef const char *k = key
        cdef uint32_t n = len(key)
        cdef Outcome outcome
        with nogil:
            outcome = store_delete(&self.c, store_hash(&self.c, k, n), k, n, now)
        return outcome == STORED

    def remove(self, bytes key, uint32_t now=1, *, bint stale=False, bint emptied=False, cas=None, number=None):
        cdef const char *k = key
        cdef uint32_t n = len(key)
        cdef Removal terms
        cdef Outcome outcome
        memset(&terms, 0, sizeof(terms))
        terms.stale = stale
        terms.emptied = emptied
        terms.comparing = cas is not None
        terms.compare = cas or 0
        terms.numbered = number is not None
        terms.number = number or 0
        with nogil:
            outcome = store_remove(&self.c, store_hash(&self.c, k, n), k, n, &terms, now)
        return OUTCOMES[outcome]

    def invalidate(self, bytes key, uint32_t now=1):
        return self.remove(key, now, stale=True) == "STORED"

    def claim(self, bytes key, bint winning=False, uint32_t now=1):
        cdef const char *k = key
        cdef uint32_t n = len(key), found
        cdef Sight g
        with nogil:
            if not store_look(&self.c, store_hash(&self.c, k, n), k, n, NULL, now, &g):
                with gil:
                    return None
            sight_bump(&g)
            found = sight_claim(&g, winning)
            store_done(&g.view)
        return bool(found & CLAIM_STALE), bool(found & CLAIM_TAKEN), bool(found & CLAIM_WON)

    def touch(self, bytes key, uint32_t exptime, uint32_t now=1):
        cdef const char *k = key
        cdef uint32_t n = len(key)
        cdef Outcome outcome
        with nogil:
            outcome = store_touch(&self.c, store_hash(&self.c, k, n), k, n, exptime, now)
        return outcome == STORED

    def arith(self, bytes key, bint incr, uint64_t delta, uint32_t now=1):
        cdef const char *k = key
        cdef uint32_t n = len(key)
        cdef uint64_t result = 0
        cdef Outcome outcome
        with nogil:
            outcome = store_arith(&self.c, store_hash(&self.c, k, n), k, n, incr, delta, now, &result)
        return result if outcome == STORED else OUTCOMES[outcome]
