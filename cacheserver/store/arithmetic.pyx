# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Numbers in items: see arithmetic.pxd."""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from cacheserver.store.arena cimport arena_wake, item_at, page_of
from cacheserver.store.item cimport HEADER, Item, handle_t, item_flags, item_value
from cacheserver.store.lock cimport lock_lookup
from cacheserver.store.lru cimport lru_use
from cacheserver.store.marks cimport Sight, fill_sight
from cacheserver.store.operations cimport (
    EXISTS,
    NO_MEMORY,
    NOT_A_NUMBER,
    NOT_FOUND,
    STORED,
    Outcome,
    choose_cas,
    find_live,
    next_cas,
    put_new,
)
from cacheserver.store.platform cimport pthread_mutex_unlock
from cacheserver.store.shard cimport Shard, SlabClass, StoreC, shard_of
from cacheserver.store.view cimport store_done

cdef enum:
    DIGITS = 20              # of the largest 64-bit number
    READ_MAX = 65536         # bytes of value that are looked through for a number, under the lock


cdef bint read_number(const char *text, uint32_t n, uint64_t *number) noexcept nogil:
    """At most DIGITS decimal digits, below 2**64, with spaces around them, READ_MAX bytes in all."""
    cdef uint64_t value = 0, digit
    cdef uint32_t i = 0, digits = 0
    if n > READ_MAX:
        return False
    while i < n and text[i] == 0x20:
        i += 1
    while i < n and 0x30 <= text[i] <= 0x39:
        digit = text[i] - 0x30
        if value > (<uint64_t>0xffffffffffffffffu - digit) // 10:
            return False
        value = value * 10 + digit
        digits += 1
        i += 1
    while i < n and text[i] == 0x20:
        i += 1
    number[0] = value
    return i == n and 0 < digits <= DIGITS


cdef uint32_t write_number(char *out, uint64_t number) noexcept nogil:
    cdef char reverse[20]
    cdef uint32_t n = 0, i
    while True:
        reverse[n] = <char>(0x30 + number % 10)
        n += 1
        number //= 10
        if number == 0:
            break
    for i in range(n):
        out[i] = reverse[n - 1 - i]
    return n


cdef void write_padded(Item *it, const char *digits, uint32_t n) noexcept nogil:
    """Put a number in a value that is at least as long."""
    memcpy(item_value(it), digits, n)
    memset(item_value(it) + n, 0x20, it.nbytes - n)


cdef handle_t write_digits(StoreC *s, Shard *sh, uint64_t hash, handle_t h, uint64_t number) noexcept nogil:
    """Give an item another number. The value keeps its length, padded with spaces, unless it must grow; 0 for no room."""
    cdef Item *it = item_at(&s.arena, h)
    cdef char digits[20]
    cdef char key[256]
    cdef uint32_t n = write_number(digits, number), nkey = it.nkey
    cdef bint encoded = it.encoded, grows = n > it.nbytes
    lru_use(sh, h, it, sh.now)
    if not grows and it.refs == 0:
        write_padded(it, digits, n)
        it.cas = next_cas(s, sh)
        return h
    memcpy(key, <char *>it + HEADER, nkey)    # the item may be evicted to make room for its successor
    if grows:
        h = put_new(s, sh, hash, key, nkey, item_flags(it), it.exptime, digits, n)
    else:                                     # its pins keep the old value where it is meanwhile
        h = put_new(s, sh, hash, key, nkey, item_flags(it), it.exptime, item_value(it), it.nbytes)
    if h == 0:
        return 0
    it = item_at(&s.arena, h)
    it.encoded = encoded
    if not grows:
        write_padded(it, digits, n)
    return h


cdef Outcome change_number(StoreC *s, Shard *sh, uint64_t hash, handle_t *h, Sum *sum) noexcept nogil:
    """Compute with the number that an item holds; the result may have another handle. An empty item is told of before
    the cas is looked at, as memcached does."""
    cdef Item *it = item_at(&s.arena, h[0])
    cdef SlabClass *k = &sh.classes[page_of(&s.arena, h[0]).cls]
    cdef uint64_t number = 0
    if it.nbytes and sum.compare and it.cas != sum.compare:
        return EXISTS
    if not read_number(item_value(it), it.nbytes, &number):
        return NOT_A_NUMBER
    if sum.decr:
        k.decr_hits += 1
        number = number - sum.delta if number > sum.delta else 0
    else:
        k.incr_hits += 1
        number += sum.delta
    sum.result = number
    h[0] = write_digits(s, sh, hash, h[0], number)
    return STORED if h[0] else NO_MEMORY


cdef handle_t first_number(StoreC *s, Shard *sh, uint64_t hash, const char *key, uint32_t nkey, Sum *sum) noexcept nogil:
    """Store the initial number under a key that is not there; 0 if there is no room."""
    cdef char text[20]
    cdef handle_t h = put_new(s, sh, hash, key, nkey, 0, 0, text, write_number(text, sum.initial))
    if h:
        sum.result = sum.initial
        sh.total_items += 1
        item_at(&s.arena, h).encoded = sum.encoded
    return h


cdef Outcome store_compute(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, Sum *sum, uint32_t now,
                           Sight *g) noexcept nogil:
    """Change the number under a key; flags and expiry stay, cas changes. STORED: `g` shows the new item, the lock is held,
    and who lets go of it calls arena_wake() then."""
    cdef Shard *sh = shard_of(s, hash)
    cdef Outcome outcome = NOT_FOUND
    cdef bint created = False
    cdef handle_t h
    lock_lookup(sh, hash)
    h = find_live(sh, hash, key, nkey, now)
    if h:
        outcome = change_number(s, sh, hash, &h, sum)
    elif sum.creating:
        h = first_number(s, sh, hash, key, nkey, sum)
        created = True
        outcome = STORED if h else NO_MEMORY
    if outcome != STORED:
        pthread_mutex_unlock(&sh.lock)
        arena_wake(&s.arena)
        return outcome
    if sum.numbered:
        choose_cas(s, sh, item_at(&s.arena, h), sum.number)
    fill_sight(sh, h, created, now, g)
    return STORED


cdef Outcome store_arith(StoreC *s, uint64_t hash, const char *key, uint32_t nkey, bint incr, uint64_t delta,
                         uint32_t now, uint64_t *result) noexcept nogil:
    """incr (wraps at 2**64) or decr (stops at 0); flags and expiry stay, cas changes."""
    cdef Sum sum
    cdef Sight g
    cdef Outcome outcome
    memset(&sum, 0, sizeof(sum))
    sum.decr = not incr
    sum.delta = delta
    outcome = store_compute(s, hash, key, nkey, &sum, now, &g)
    if outcome == STORED:
        store_done(&g.view)
        arena_wake(&s.arena)
        result[0] = sum.result
    return outcome
