# cython: language_level=3
"""The hash table from key to item: linear hashing over cache-line buckets, so it grows and shrinks one bucket at a time.

Knows: hashes, handles, and the keys in the items (to compare, and to hash again when a bucket splits). Must not know: the
order of eviction, slab classes, expiry. Memory: owns two reservations of address space (buckets, overflow buckets); what
it touches of them is counted with the arena as committed. Threads: the shard's lock is held in every function, but
index_slot() and index_glance() for a prefetch.
A *ghost* remembers the key of an item that was evicted, in a slot that is not used otherwise: it takes no memory. Its tag,
its bucket and 6 more bits of its hash identify it (of new keys one in some thousands is taken for one), 8 bits say when it
was made. No overflow bucket is made or kept for ghosts; items overwrite them, and a bucket that splits or merges forgets
them. There is room for about half as many as items. They do not count as items: every look at a slot asks is_item().
Source of the method: W. Litwin, "Linear hashing", 1980; a bucket of 12 tagged slots in one 64-byte line is ours.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from cacheserver.store.arena cimport Arena, item_at
from cacheserver.store.hashing cimport Hasher
from cacheserver.store.item cimport handle_t, item_is
from cacheserver.store.platform cimport low_bit, match_slots, match_tags

cdef enum:
    SLOTS = 12
    STRIDE = 65536           # bytes taken from the arena at a time
    HUGE = 2097152           # bytes of a huge page
    LEAST_ITEM = 16384       # 1 << CHUNK_BITS: page 0 is never used, so no item has a lower handle

cdef struct Bucket:
    uint8_t tags[12]         # top 8 bits of the hash: a miss touches no item (but for 1 in 25)
    uint32_t more            # overflow bucket, 0 = none
    handle_t slots[12]       # an item; 0 = empty; below LEAST_ITEM: a ghost

cdef enum Inserted:
    INSERT_FAILED            # the address space is used up
    INSERTED
    INSERTED_AGAIN           # the key's ghost was there

cdef struct Index:
    Bucket *buckets
    Bucket *overflow         # [0] is never used
    Hasher hasher
    uint64_t space           # buckets that fit in the reservation (each of the two)
    uint64_t count           # buckets in use
    uint64_t mask            # of the level: count is in (mask + 1) .. 2 * (mask + 1)
    uint64_t items
    uint64_t ready           # bytes of `buckets` counted as committed
    uint64_t huge            # bytes of them, from the start, that lie in huge pages
    uint32_t overflow_end    # overflow buckets from here on have never been used
    uint32_t overflow_free   # list of given-back overflow buckets, linked by `more`
    uint32_t overflow_used
    uint64_t overflow_ready  # bytes of `overflow` counted as committed
    uint64_t buried          # ghosts since the stamp last changed
    uint32_t stamp           # what ghosts of now are marked with: 1 to STAMPS, round and round
    Bucket *retired          # overflow buckets of which none was in use: on their way back to the host
    uint64_t retired_bytes   # of them still committed
    bint releasing           # a thread is giving memory back to the host, or making it huge: no growth meanwhile
    void *mapping            # of which `buckets` is an aligned part

cdef int index_open(Index *ix, Arena *a, uint64_t address_space, Hasher hasher) noexcept nogil
cdef void index_close(Index *ix) noexcept nogil
cdef Inserted index_insert(Index *ix, Arena *a, uint64_t hash, handle_t h) noexcept nogil
cdef bint index_remove(Index *ix, Arena *a, uint64_t hash, handle_t h) noexcept nogil
cdef void index_remember(Index *ix, uint64_t hash) noexcept nogil
cdef void index_drop_overflow(Index *ix, Bucket *b, handle_t h) noexcept nogil
cdef bint index_replace(Index *ix, uint64_t hash, handle_t old, handle_t new) noexcept nogil
cdef void index_adjust(Index *ix, Arena *a) noexcept nogil
cdef void index_clear(Index *ix) noexcept nogil
cdef bint index_sparse(Index *ix) noexcept nogil
cdef uint64_t index_bytes(Index *ix) noexcept nogil

cdef inline bint is_item(handle_t h) noexcept nogil:
    return h >= LEAST_ITEM

cdef inline uint64_t index_slot(Index *ix, uint64_t hash) noexcept nogil:
    cdef uint64_t b = hash & (ix.mask << 1 | 1)
    return b if b < ix.count else b & ix.mask

cdef inline handle_t index_find(Index *ix, Arena *a, uint64_t hash, const char *key, uint32_t nkey) noexcept nogil:
    """The item with this key, 0 if there is none."""
    cdef Bucket *b = &ix.buckets[index_slot(ix, hash)]
    cdef uint8_t tag = hash >> 56
    cdef uint32_t hits
    cdef handle_t h
    while True:
        hits = match_tags(b.tags, tag)
        while hits:
            h = b.slots[low_bit(hits)]
            if is_item(h) and item_is(item_at(a, h), key, nkey):
                return h
            hits &= hits - 1
        if b.more == 0:
            return 0
        b = &ix.overflow[b.more]

cdef inline void index_drop(Index *ix, Bucket *b, handle_t h) noexcept nogil:
    """index_remove() for a caller that has the item's bucket already (index_slot()), and takes `items` down itself."""
    cdef uint32_t hits = match_slots(b.slots, h), i
    if hits:
        i = low_bit(hits)
        b.slots[i] = 0
        b.tags[i] = 0
    else:
        index_drop_overflow(ix, b, h)

cdef inline handle_t index_glance(Index *ix, uint64_t hash) noexcept nogil:
    """The item that a hash most likely stands for, without the lock: good for a prefetch and nothing else. 0: none.

    Buckets never move; of one that is being written to an item's handle is read all the same, this one or an older one.
    """
    cdef Bucket *b = &ix.buckets[index_slot(ix, hash)]
    cdef uint32_t hits = match_tags(b.tags, hash >> 56)
    cdef handle_t h = b.slots[low_bit(hits)] if hits else 0
    return h if is_item(h) else 0
