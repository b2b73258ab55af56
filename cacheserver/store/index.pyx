# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The index: see index.pxd."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from cacheserver.store.arena cimport (
    Arena,
    arena_force,
    arena_leave,
    item_at,
    map_space,
    unmap_space,
)
from cacheserver.store.hashing cimport Hasher, key_hash
from cacheserver.store.item cimport Item, handle_t, item_is, item_key
from cacheserver.store.platform cimport atomic_add, low_bit, match_slots, match_tags, prefetch

cdef enum:
    FULL = 9                 # items a bucket, on average, above which one splits
    CROWDED = 16             # ... above which it splits even without leave: chains must stay short
    SPARSE = 3               # ... below which one merges
    LEAST = 64               # buckets
    STAMPS = 255             # a ghost is its stamp << MARK_BITS | some bits of its hash, and never 0
    MARK_BITS = 6
    MARK_SHIFT = 50          # where in the hash: neither in the tag nor in the number of any bucket
    LIFE = 32                # stamps that a ghost counts for: as long as it takes to evict as many items as there are


cdef int index_open(Index *ix, Arena *a, uint64_t address_space, Hasher hasher) noexcept nogil:
    """Reserve twice `address_space` bytes; -1 if the system refuses."""
    memset(ix, 0, sizeof(Index))
    ix.space = address_space // sizeof(Bucket)
    ix.mapping = map_space(address_space + HUGE)
    if ix.mapping != NULL:
        ix.buckets = <Bucket *>((<uint64_t>ix.mapping + HUGE - 1) // HUGE * HUGE)
    ix.overflow = <Bucket *>map_space(address_space)
    ix.hasher = hasher
    ix.count = LEAST
    ix.mask = LEAST - 1
    ix.overflow_end = ix.stamp = 1
    if ix.buckets == NULL or ix.overflow == NULL:
        index_close(ix)
        return -1
    return 0


cdef void index_close(Index *ix) noexcept nogil:
    unmap_space(ix.mapping, ix.space * sizeof(Bucket) + HUGE)
    unmap_space(ix.overflow, ix.space * sizeof(Bucket))
    unmap_space(ix.retired, ix.space * sizeof(Bucket))
    ix.mapping = ix.buckets = ix.overflow = ix.retired = NULL


cdef uint64_t index_bytes(Index *ix) noexcept nogil:
    return ix.ready + ix.overflow_ready + ix.retired_bytes


cdef bint take_stride(Arena *a, bint force) noexcept nogil:
    """Ask for leave for STRIDE bytes that will be touched soon; `force`: take them without, where it is refused."""
    if not arena_leave(a, STRIDE):
        if not force:
            return False
        arena_force(a, STRIDE)
    atomic_add(&a.untouched, -<int64_t>STRIDE)
    return True


cdef uint32_t new_overflow(Index *ix, Arena *a) noexcept nogil:
    """An empty overflow bucket; 0 only when the address space is used up."""
    cdef uint32_t n = ix.overflow_free
    if n:
        ix.overflow_free = ix.overflow[n].more
    else:
        n = ix.overflow_end
        if n >= ix.space:
            return 0
        ix.overflow_end += 1
        while <uint64_t>ix.overflow_end * sizeof(Bucket) > ix.overflow_ready:
            take_stride(a, True)
            ix.overflow_ready += STRIDE
    memset(&ix.overflow[n], 0, sizeof(Bucket))
    ix.overflow_used += 1
    return n


cdef inline uint32_t ghost_age(Index *ix, handle_t ghost) noexcept nogil:
    """In stamps. Who is as old as all STAMPS together seems young again, if nothing has overwritten it by then."""
    cdef uint32_t stamp = ghost >> MARK_BITS
    return ix.stamp - stamp if ix.stamp >= stamp else ix.stamp + STAMPS - stamp


cdef uint32_t free_slot(Index *ix, Bucket *b) noexcept nogil:
    """An empty slot, else that of the oldest ghost; SLOTS if there is neither."""
    cdef uint32_t i, age, best = SLOTS, oldest = 0
    for i in range(SLOTS):
        if b.slots[i] == 0:
            return i
        if not is_item(b.slots[i]):
            age = ghost_age(ix, b.slots[i])
            if best == SLOTS or age > oldest:
                best = i
                oldest = age
    return best


cdef bint put(Index *ix, Arena *a, Bucket *b, uint8_t tag, handle_t h) noexcept nogil:
    cdef uint32_t i
    while True:
        i = free_slot(ix, b)
        if i < SLOTS:
            b.slots[i] = h
            b.tags[i] = tag
            return True
        if b.more == 0:
            b.more = new_overflow(ix, a)
            if b.more == 0:
                return False
        b = &ix.overflow[b.more]


cdef inline uint32_t mark_of(uint64_t hash) noexcept nogil:
    return hash >> MARK_SHIFT & ((1 << MARK_BITS) - 1)


cdef bint take_ghost(Index *ix, Bucket *b, uint64_t hash) noexcept nogil:
    """Forget the ghost of a key; True if there was one that still counts."""
    cdef uint32_t hits, i
    cdef handle_t h
    while True:
        hits = match_tags(b.tags, hash >> 56)
        while hits:
            i = low_bit(hits)
            h = b.slots[i]
            if h and not is_item(h) and h & ((1 << MARK_BITS) - 1) == mark_of(hash):
                b.slots[i] = 0
                b.tags[i] = 0
                return ghost_age(ix, h) <= LIFE
            hits &= hits - 1
        if b.more == 0:
            return False
        b = &ix.overflow[b.more]


cdef void index_remember(Index *ix, uint64_t hash) noexcept nogil:
    """Keep a ghost of a key whose item was removed just now, if its bucket has a slot for one."""
    cdef Bucket *b = &ix.buckets[index_slot(ix, hash)]
    cdef Bucket *best = NULL
    cdef uint32_t i, slot = 0, age = 0
    while True:
        i = free_slot(ix, b)
        if i < SLOTS and (best == NULL or b.slots[i] == 0 or ghost_age(ix, b.slots[i]) > age):
            best = b
            slot = i
            if b.slots[i] == 0:
                break
            age = ghost_age(ix, b.slots[i])
        if b.more == 0:
            break
        b = &ix.overflow[b.more]
    ix.buried += 1
    if ix.buried * LIFE > ix.items:
        ix.buried = 0
        ix.stamp = ix.stamp % STAMPS + 1
    if best != NULL:
        best.tags[slot] = hash >> 56
        best.slots[slot] = ix.stamp << MARK_BITS | mark_of(hash)


cdef Inserted index_insert(Index *ix, Arena *a, uint64_t hash, handle_t h) noexcept nogil:
    """Add an item whose key is not in the index, which ends the time of its ghost."""
    cdef Bucket *b
    cdef bint again
    if ix.ready == 0:
        take_stride(a, True)
        ix.ready = STRIDE
    b = &ix.buckets[index_slot(ix, hash)]
    again = take_ghost(ix, b, hash)
    if not put(ix, a, b, hash >> 56, h):
        return INSERT_FAILED
    ix.items += 1
    if ix.items > ix.count * FULL:
        index_adjust(ix, a)
    return INSERTED_AGAIN if again else INSERTED


cdef bint index_remove(Index *ix, Arena *a, uint64_t hash, handle_t h) noexcept nogil:
    cdef Bucket *b = &ix.buckets[index_slot(ix, hash)]
    cdef Bucket *before = NULL
    cdef uint8_t tag = hash >> 56
    cdef uint32_t hits, i, n
    while True:
        hits = match_tags(b.tags, tag)
        while hits:
            i = low_bit(hits)
            if b.slots[i] == h:
                b.slots[i] = 0
                b.tags[i] = 0
                ix.items -= 1
                if before != NULL:
                    unlink_empty(ix, before, b)
                return True
            hits &= hits - 1
        if b.more == 0:
            return False
        before = b
        b = &ix.overflow[b.more]


cdef void index_drop_overflow(Index *ix, Bucket *b, handle_t h) noexcept nogil:
    """The rest of index_drop(): the item is not in the bucket itself."""
    cdef Bucket *before = b
    cdef uint32_t hits, i
    while before.more:
        b = &ix.overflow[before.more]
        hits = match_slots(b.slots, h)
        if hits:
            i = low_bit(hits)
            b.slots[i] = 0
            b.tags[i] = 0
            unlink_empty(ix, before, b)
            return
        before = b


cdef void unlink_empty(Index *ix, Bucket *before, Bucket *b) noexcept nogil:
    """Give an overflow bucket back, with the ghosts in it, when its last item has gone."""
    cdef uint32_t i, n = before.more
    for i in range(SLOTS):
        if is_item(b.slots[i]):
            return
    before.more = b.more
    b.more = ix.overflow_free
    ix.overflow_free = n
    ix.overflow_used -= 1


cdef bint index_replace(Index *ix, uint64_t hash, handle_t old, handle_t new) noexcept nogil:
    """The item `old` is now at `new` (same key)."""
    cdef Bucket *b = &ix.buckets[index_slot(ix, hash)]
    cdef uint32_t hits, i
    while True:
        hits = match_tags(b.tags, hash >> 56)
        while hits:
            i = low_bit(hits)
            if b.slots[i] == old:
                b.slots[i] = new
                return True
            hits &= hits - 1
        if b.more == 0:
            return False
        b = &ix.overflow[b.more]


cdef uint32_t take_chain(Index *ix, Bucket *b, handle_t *out, uint8_t *tags, uint32_t most) noexcept nogil:
    """Take the items of a bucket and its overflow out, and forget its ghosts, of which nobody knows where they belong
    when it splits; returns how many items, or `most` + 1 (nothing taken) if they do not fit."""
    cdef Bucket *c = b
    cdef uint32_t n = 0, i, more, next_one
    while True:
        n += SLOTS
        if n > most:
            return most + 1
        if c.more == 0:
            break
        c = &ix.overflow[c.more]
    n = 0
    c = b
    while True:
        for i in range(SLOTS):
            if is_item(c.slots[i]):
                out[n] = c.slots[i]
                tags[n] = c.tags[i]
                n += 1
        if c.more == 0:
            break
        c = &ix.overflow[c.more]
    more = b.more
    while more:
        next_one = ix.overflow[more].more
        ix.overflow[more].more = ix.overflow_free
        ix.overflow_free = more
        ix.overflow_used -= 1
        more = next_one
    memset(b, 0, sizeof(Bucket))
    return n


cdef bint split(Index *ix, Arena *a, bint force) noexcept nogil:
    """Add one bucket: the next one in turn shares its items with it. False without leave for the memory."""
    cdef handle_t chain[240]
    cdef uint8_t tags[240]
    cdef uint64_t old, new = ix.count, hash
    cdef uint32_t n, i
    cdef Item *it
    if ix.releasing or new >= ix.space:
        return False
    if (new + 1) * sizeof(Bucket) > ix.ready:
        if not take_stride(a, force):
            return False
        ix.ready += STRIDE
    if new == (ix.mask + 1) * 2:
        ix.mask = ix.mask << 1 | 1
    old = new & ix.mask
    n = take_chain(ix, &ix.buckets[old], chain, tags, 240)
    if n > 240:
        return False
    for i in range(n):
        prefetch(item_at(a, chain[i]))
    memset(&ix.buckets[new], 0, sizeof(Bucket))
    ix.count += 1
    for i in range(n):
        it = item_at(a, chain[i])
        hash = key_hash(&ix.hasher, item_key(it), it.nkey)
        put(ix, a, &ix.buckets[index_slot(ix, hash)], tags[i], chain[i])
    return True


cdef void merge(Index *ix, Arena *a) noexcept nogil:
    """Remove the last bucket: its items go back to the one it was split from."""
    cdef handle_t chain[240]
    cdef uint8_t tags[240]
    cdef uint64_t last = ix.count - 1
    cdef uint32_t n, i
    n = take_chain(ix, &ix.buckets[last], chain, tags, 240)
    if n > 240:
        return
    ix.count -= 1
    if ix.count == ix.mask + 1 and ix.mask > LEAST - 1:
        ix.mask >>= 1
    for i in range(n):
        put(ix, a, &ix.buckets[last & ix.mask], tags[i], chain[i])


cdef void index_adjust(Index *ix, Arena *a) noexcept nogil:
    """One step towards the right size; a step moves about a dozen items."""
    if ix.items > ix.count * FULL:
        split(ix, a, ix.items > ix.count * CROWDED)
    elif index_sparse(ix):
        merge(ix, a)


cdef bint index_sparse(Index *ix) noexcept nogil:
    """Whether index_adjust() would make it smaller."""
    return ix.items < ix.count * SPARSE and ix.count > LEAST


cdef void index_clear(Index *ix) noexcept nogil:
    """Forget every item, in constant time: buckets beyond `count` are written before they are used."""
    ix.count = LEAST
    ix.mask = LEAST - 1
    ix.items = 0
    if ix.ready:
        memset(ix.buckets, 0, LEAST * sizeof(Bucket))
    ix.overflow_end = 1
    ix.overflow_free = ix.overflow_used = 0
