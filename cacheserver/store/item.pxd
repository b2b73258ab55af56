# cython: language_level=3
"""One stored item: a 32-byte header, then key, client flags (only where not 0), value.

Knows: the layout. Must not know: where the chunk comes from, the protocol, the clock.
Memory: an Item is the content of a chunk; the chunk's owner is the slab page (or the run) that it lies in.
Threads: every field is guarded by the lock of the item's shard. The value of a pinned item (refs > 0) never changes,
so its bytes may be read without the lock.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from cacheserver.store.poison cimport unpoison

ctypedef uint32_t handle_t   # page number << CHUNK_BITS | chunk number; 0 = no item

cdef enum:
    HEADER = 32              # bytes before the key
    FLAGS = 4                # bytes of client flags, where an item has them
    REFS_MAX = 2047
    READS_MAX = 3            # an item saves up no more

cdef enum ItemBits:
    # chunk state: a scan over a page reads these two bits to know what a chunk holds
    STATE = 3
    FREE = 0                 # on its page's free list (`next` is the link)
    LIVE = 1                 # in the index and in a segment
    LOOSE = 2                # allocated, not in the index: being received, or removed while pinned
    SEGMENT = 0x04           # which segment of its class (shifted by SEGMENT_SHIFT)
    SEGMENT_SHIFT = 2
    FETCHED = 0x10           # read at least once since it was stored
    HAS_FLAGS = 0x40
    REVOKED = 0x80           # LOOSE: a hard shrink wants the memory back; the receiver must give it up

# Written in C for its bit fields. Marks and reads share 16 bits with the pins because all change under the shard's lock only,
# while `bits` is looked at without it (REVOKED).
cdef extern from *:
    """
    typedef struct {
        uint32_t next, prev;
        uint64_t cas;
        uint32_t exptime, atime, nbytes;
        uint16_t refs : 11, reads : 2, stale : 1, won : 1, encoded : 1;
        uint8_t nkey, bits;
    } store_item;
    _Static_assert(sizeof(store_item) == 32, "the header of an item has 32 bytes");
    """
    ctypedef struct Item "store_item":
        handle_t next        # towards the tail of the segment; FREE: next free chunk + 1
        handle_t prev
        uint64_t cas
        uint32_t exptime     # store clock, seconds; 0 = never
        uint32_t atime       # store clock, seconds, of the last read or write
        uint32_t nbytes      # bytes of value
        uint16_t refs        # pins, at most REFS_MAX
        uint16_t reads       # uses since it came into its segment or last went round, at most READS_MAX: see lru
        bint stale           # LIVE: marked as out of date, still served
        bint won             # LIVE: one reader has been told to renew it
        bint encoded         # the key was sent in an encoded form, and may hold bytes that no line can carry
        uint8_t nkey
        uint8_t bits

cdef inline char *item_key(Item *it) noexcept nogil:
    return <char *>it + HEADER

cdef inline bint item_is(Item *it, const char *key, uint32_t nkey) noexcept nogil:
    return it.nkey == nkey and memcmp(<char *>it + HEADER, key, nkey) == 0

cdef inline char *item_value(Item *it) noexcept nogil:
    return <char *>it + HEADER + it.nkey + (FLAGS if it.bits & HAS_FLAGS else 0)

cdef inline uint32_t item_flags(Item *it) noexcept nogil:
    cdef uint32_t flags = 0
    if it.bits & HAS_FLAGS:
        memcpy(&flags, <char *>it + HEADER + it.nkey, FLAGS)
    return flags

cdef inline uint64_t item_size(uint32_t nkey, uint32_t flags, uint64_t nbytes) noexcept nogil:
    """Bytes of chunk that such an item needs. No overflow: nkey <= 250, nbytes < 2**31."""
    return HEADER + nkey + (FLAGS if flags else 0) + nbytes

cdef inline uint64_t item_bytes(Item *it) noexcept nogil:
    return HEADER + it.nkey + (FLAGS if it.bits & HAS_FLAGS else 0) + <uint64_t>it.nbytes

cdef inline void item_fill(Item *it, const char *key, uint32_t nkey, uint32_t flags, uint32_t exptime,
                           uint32_t nbytes, uint32_t now) noexcept nogil:
    """Write header, key and flags of a fresh LOOSE item (the value is the caller's)."""
    unpoison(it, item_size(nkey, flags, nbytes))
    it.next = it.prev = 0
    it.cas = 0
    it.exptime = exptime
    it.atime = now
    it.nbytes = nbytes
    it.refs = it.reads = 0
    it.stale = it.won = it.encoded = False
    it.nkey = <uint8_t>nkey
    it.bits = LOOSE | (HAS_FLAGS if flags else 0)
    memcpy(<char *>it + HEADER, key, nkey)
    if flags:
        memcpy(<char *>it + HEADER + nkey, &flags, FLAGS)

cdef inline bint item_expired(Item *it, uint32_t now) noexcept nogil:
    return it.exptime != 0 and it.exptime <= now
