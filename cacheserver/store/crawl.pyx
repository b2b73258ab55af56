# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The walk: see crawl.pxd."""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from cacheserver.store.arena cimport item_at, page_of
from cacheserver.store.link cimport hash_of, remove_item
from cacheserver.store.index cimport SLOTS, Bucket, Index, index_slot, is_item
from cacheserver.store.item cimport FETCHED, Item, handle_t, item_bytes, item_expired, item_flags, item_key
from cacheserver.store.platform cimport prefetch, pthread_mutex_lock, pthread_mutex_unlock
from cacheserver.store.shard cimport Shard, SlabClass, StoreC


cdef void crawl_open(Crawl *c, StoreC *s, uint32_t batch) noexcept nogil:
    """Begin a walk that looks at no class yet: the caller sets `wanted`."""
    memset(c, 0, sizeof(Crawl))
    c.store = s
    c.batch = batch


cdef uint64_t reverse(uint64_t x) noexcept nogil:
    """The 64 bits in the opposite order."""
    x = (x >> 1 & 0x5555555555555555u) | (x & 0x5555555555555555u) << 1
    x = (x >> 2 & 0x3333333333333333u) | (x & 0x3333333333333333u) << 2
    x = (x >> 4 & 0x0f0f0f0f0f0f0f0fu) | (x & 0x0f0f0f0f0f0f0f0fu) << 4
    x = (x >> 8 & 0x00ff00ff00ff00ffu) | (x & 0x00ff00ff00ff00ffu) << 8
    x = (x >> 16 & 0x0000ffff0000ffffu) | (x & 0x0000ffff0000ffffu) << 16
    return x >> 32 | x << 32


cdef struct Reach:           # the bucket at a position, and which part of the order is its own
    Bucket *bucket
    uint64_t begin
    uint64_t end             # 0: the end of the order


cdef void find_reach(Index *ix, uint64_t at, Reach *reach) noexcept nogil:
    cdef uint64_t b = index_slot(ix, reverse(at)), low = ix.mask, high
    if b > ix.mask or b + ix.mask + 1 < ix.count:
        low = ix.mask << 1 | 1       # split already in this round: told apart by one bit more
    high = reverse(low)
    reach.bucket = &ix.buckets[b]
    reach.begin = at & high
    reach.end = (at | ~high) + 1


cdef uint32_t take(Shard *sh, Bucket *b, uint64_t begin, uint64_t end, bint all, handle_t *out, uint32_t room) noexcept nogil:
    """The items of a bucket whose place is from `begin` to before `end` (`all`: every one); `room` + 1 if they do not fit."""
    cdef Index *ix = &sh.index
    cdef uint64_t place
    cdef uint32_t n = 0, i
    while True:
        for i in range(SLOTS):
            if not is_item(b.slots[i]):
                continue
            if not all:
                place = reverse(hash_of(sh, item_at(sh.arena, b.slots[i])))
                if place < begin or (end and place >= end):
                    continue
            if n == room:
                return room + 1
            out[n] = b.slots[i]
            n += 1
        if b.more == 0:
            return n
        b = &ix.overflow[b.more]


cdef uint32_t take_some(Shard *sh, Reach *reach, uint64_t *at, handle_t *out, uint32_t room) noexcept nogil:
    """As many items of one overfull bucket as there is room for; moves `at` as far."""
    cdef uint64_t end = reach.end
    cdef uint32_t n = room + 1
    while n > room:
        end = at[0] + (end - at[0]) // 2
        if end == at[0]:     # more items of one and the same 64-bit hash than fit do not occur
            end = at[0] + 1
            n = 0
            break
        n = take(sh, reach.bucket, at[0], end, False, out, room)
    at[0] = end
    return n


cdef uint32_t gather(Crawl *c, Shard *sh, handle_t *out) noexcept nogil:
    """Handles of the next items, and on with the position; at the shard's end to the next shard. Lock held."""
    cdef Reach reach
    cdef uint32_t n = 0, got, buckets
    for buckets in range(CRAWL_BUCKETS):
        find_reach(&sh.index, c.at, &reach)
        got = take(sh, reach.bucket, c.at, reach.end, reach.begin == c.at, out + n, c.batch - n)
        if got > c.batch - n:
            if n == 0:
                n = take_some(sh, &reach, &c.at, out, c.batch)
            break
        n += got
        c.at = reach.end
        if c.at == 0:
            c.shard += 1
            c.done = c.shard == c.store.nshards
            break
    return n


cdef uint32_t choose(Crawl *c, Shard *sh, handle_t *handles, uint32_t n) noexcept nogil:
    """Keep the handles of wanted classes, and fetch their items ahead of their use."""
    cdef uint32_t i, kept = 0
    for i in range(n):
        if c.wanted[page_of(sh.arena, handles[i]).cls]:
            handles[kept] = handles[i]
            prefetch(item_at(sh.arena, handles[i]))
            kept += 1
    return kept


cdef Shard *next_batch(Crawl *c, handle_t *handles, uint32_t *n) noexcept nogil:
    """Lock the shard of the position and gather; the caller unlocks. NULL: the walk is at its end."""
    cdef Shard *sh
    cdef uint32_t i
    if c.done:
        return NULL
    sh = &c.store.shards[c.shard]
    pthread_mutex_lock(&sh.lock)
    n[0] = choose(c, sh, handles, gather(c, sh, handles))
    c.checked += n[0]
    for i in range(n[0]):
        sh.classes[page_of(sh.arena, handles[i]).cls].crawler_items_checked += 1
    return sh


cdef void note(Shard *sh, handle_t h, Item *it, Met *to) noexcept nogil:
    to.cas = it.cas
    to.size = item_bytes(it)
    to.exptime = it.exptime
    to.atime = it.atime
    to.nbytes = it.nbytes
    to.flags = item_flags(it)
    to.cls = page_of(sh.arena, h).cls + 1
    to.fetched = (it.bits & FETCHED) != 0
    to.encoded = it.encoded
    to.nkey = it.nkey
    memcpy(to.key, item_key(it), it.nkey)


cdef uint32_t crawl_next(Crawl *c, uint32_t now, Met *out) noexcept nogil:
    """One step: write up to CRAWL_BATCH items that have not expired at `now` to `out`; returns how many (0 is no end)."""
    cdef handle_t handles[CRAWL_BATCH]
    cdef uint32_t n = 0, i, kept = 0
    cdef Item *it
    cdef Shard *sh = next_batch(c, handles, &n)
    if sh == NULL:
        return 0
    for i in range(n):
        it = item_at(sh.arena, handles[i])
        if not item_expired(it, now):
            note(sh, handles[i], it, &out[kept])
            kept += 1
    pthread_mutex_unlock(&sh.lock)
    return kept


cdef uint32_t crawl_expire(Crawl *c, uint32_t now, uint32_t most) noexcept nogil:
    """One step: remove what has expired at `now`, looking at `most` items of each class in all (0: every one)."""
    cdef handle_t handles[CRAWL_BATCH]
    cdef uint32_t n = 0, i, cls, removed = 0
    cdef SlabClass *k
    cdef Item *it
    cdef Shard *sh = next_batch(c, handles, &n)
    if sh == NULL:
        return 0
    for i in range(n):
        cls = page_of(sh.arena, handles[i]).cls
        c.looked[cls] += 1
        if c.looked[cls] == most:
            c.wanted[cls] = False
        elif most and c.looked[cls] > most:
            continue
        it = item_at(sh.arena, handles[i])
        if item_expired(it, now):
            k = &sh.classes[cls]
            k.crawler_reclaimed += 1
            k.expired_unfetched += not it.bits & FETCHED
            remove_item(sh, hash_of(sh, it), handles[i], it)
            removed += 1
    pthread_mutex_unlock(&sh.lock)
    return removed
