# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The storage commands: see storage.pxd."""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from cacheserver.meta cimport put_stored, read_terms
from cacheserver.observe cimport count_set, note_store
from cacheserver.output cimport Writer, put_line
from cacheserver.session cimport (
    CARRY_MAX,
    CAS_BADVAL,
    CAS_HITS,
    CAS_MISSES,
    CMD_SET,
    LINE,
    STORE_NO_MEMORY,
    STORE_TOO_LARGE,
    SWALLOW,
    TURN_STEPS,
    VALUE,
    EngineC,
    Session,
    store_exptime,
)
from cacheserver.store.extend cimport store_extend
from cacheserver.store.item cimport Item, item_flags, item_key, item_size
from cacheserver.store.operations cimport (
    EXISTS,
    NO_MEMORY,
    NOT_FOUND,
    NOT_STORED,
    PUT_ADD,
    PUT_APPEND,
    PUT_CAS,
    PUT_PREPEND,
    PUT_REPLACE,
    PUT_SET,
    STORED,
    TOO_LARGE,
    Outcome,
    Put,
    PutMode,
    store_drop,
    store_hash,
    store_put,
)
from cacheserver.store.receive cimport (
    store_abandon,
    store_commit,
    store_is_revoked,
    store_may_reserve,
    store_progress,
    store_reserve,
)
from cacheserver.store.shard cimport CHUNK_MAX
from protocol.reply cimport (
    REPLY_BAD_CHUNK,
    REPLY_EXISTS,
    REPLY_NO_MEMORY,
    REPLY_NOT_FOUND,
    REPLY_NOT_STORED,
    REPLY_STORED,
    REPLY_TOO_LARGE,
)
from protocol.request cimport OP_ADD, OP_APPEND, OP_MS, OP_PREPEND, OP_REPLACE, OP_SET, Request

cdef enum:
    WHOLE_MAX = 4096         # bytes of line and data block that are waited for rather than received into an item


cdef PutMode put_mode(uint32_t op) noexcept nogil:
    if op == OP_SET:
        return PUT_SET
    if op == OP_ADD:
        return PUT_ADD
    if op == OP_REPLACE:
        return PUT_REPLACE
    if op == OP_APPEND:
        return PUT_APPEND
    return PUT_PREPEND if op == OP_PREPEND else PUT_CAS


cdef inline void plain_terms(Request *r, Put *put) noexcept nogil:
    """The terms of a classic storage command."""
    put.mode = put_mode(r.op)
    put.clearing = put.mode == PUT_SET
    put.compare = r.number
    put.tolerant = put.comparing = put.creating = put.encoded = put.numbered = False


cdef void count_outcome(EngineC *e, PutMode mode, Outcome outcome) noexcept nogil:
    e.counters[CMD_SET] += outcome != TOO_LARGE and outcome != NO_MEMORY
    if outcome == STORED:
        e.counters[CAS_HITS] += mode == PUT_CAS
    elif outcome == EXISTS:
        e.counters[CAS_BADVAL] += mode == PUT_CAS
    elif outcome == NOT_FOUND:
        e.counters[CAS_MISSES] += 1
    elif outcome == TOO_LARGE:
        e.counters[STORE_TOO_LARGE] += 1
    elif outcome == NO_MEMORY:
        e.counters[STORE_NO_MEMORY] += 1


cdef void put_outcome(Writer *w, Outcome outcome) noexcept nogil:
    """Answer a classic storage command."""
    if outcome == STORED:
        put_line(w, REPLY_STORED)
    elif outcome == NOT_STORED:
        put_line(w, REPLY_NOT_STORED)
    elif outcome == EXISTS:
        put_line(w, REPLY_EXISTS)
    elif outcome == NOT_FOUND:
        put_line(w, REPLY_NOT_FOUND)
    elif outcome == TOO_LARGE:
        put_line(w, REPLY_TOO_LARGE)
    else:
        put_line(w, REPLY_NO_MEMORY)


cdef void end_block(EngineC *e, Writer *w, Request *r, const Put *put, Outcome outcome) noexcept nogil:
    """Count a storage command that came to an end while its line was at hand, and answer it."""
    count_outcome(e, put.mode, outcome)
    if r.op == OP_MS:
        put_stored(w, &r.meta.echo, r.key, r.nkey, put, outcome, r.noreply)
    elif not r.noreply:
        put_outcome(w, outcome)


cdef inline void count_block(EngineC *e, Request *r) noexcept nogil:
    if r.op != OP_MS:
        count_set(e, r.key, r.nkey)


cdef void refuse_value(EngineC *e, Session *s, Writer *w, Request *r, const Put *put, uint64_t hash,
                       Outcome why) noexcept nogil:
    """The value cannot be stored: say so, drop its bytes, and leave no stale one behind."""
    if put.clearing:
        store_drop(e.store, hash, r.key, r.nkey, e.now)
    note_store(e, r.key, r.nkey, put.mode, why, r.flags, 0, 0)
    count_block(e, r)
    end_block(e, w, r, put, why)
    s.mode = SWALLOW
    s.remaining = r.nbytes + 2


cdef bint store_block(EngineC *e, Session *s, Writer *w, Request *r, const char *block, size_t n,
                      size_t *used) noexcept nogil:
    """A storage line with `n` bytes after it. False: wait for more bytes; else `used` of them are done with."""
    cdef Put put
    cdef uint32_t nbytes = <uint32_t>r.nbytes, exptime
    cdef size_t data = <size_t>r.nbytes + 2
    cdef bint whole = n >= data, extending
    cdef uint64_t hash, need
    cdef Outcome outcome
    used[0] = 0
    if not whole and r.length + data <= WHOLE_MAX and not s.whole:
        return False
    if r.op == OP_MS:
        read_terms(r, &put)
    else:
        plain_terms(r, &put)
    extending = put.mode == PUT_APPEND or put.mode == PUT_PREPEND
    if extending:
        e.cost = TURN_STEPS
    exptime = store_exptime(e, r.exptime)
    hash = store_hash(e.store, r.key, r.nkey)
    need = item_size(r.nkey, r.flags, r.nbytes)
    if need > e.store.max_item:
        refuse_value(e, s, w, r, &put, hash, TOO_LARGE)
        return True
    if not whole and s.whole:
        used[0] = n              # no item is reserved: nobody makes room with a datagram for what it does not hold
        if not r.noreply:
            put_line(w, REPLY_BAD_CHUNK)
        return True
    if whole and need <= CHUNK_MAX:
        used[0] = data
        count_block(e, r)
        if block[nbytes] != 0x0d or block[nbytes + 1] != 0x0a:
            if r.op == OP_MS or not r.noreply:
                put_line(w, REPLY_BAD_CHUNK)
            return True
        if extending:
            outcome = store_extend(e.store, &put, hash, r.key, r.nkey, r.flags, exptime, block, nbytes, e.now)
        else:
            outcome = store_put(e.store, &put, hash, r.key, r.nkey, r.flags, exptime, block, nbytes, e.now)
        note_store(e, r.key, r.nkey, put.mode, outcome, r.flags, exptime, nbytes)
        end_block(e, w, r, &put, outcome)
        return True
    if r.length + data <= CARRY_MAX and not store_may_reserve(e.store, need):
        return False             # the connection's own buffer, which has a bound of its own, must do
    outcome = store_reserve(e.store, hash, r.key, r.nkey, r.flags, exptime, nbytes, e.now, &s.reservation)
    if outcome != STORED:
        refuse_value(e, s, w, r, &put, hash, outcome)
        return True
    count_block(e, r)
    s.mode = VALUE
    s.put = put
    s.is_meta = r.op == OP_MS
    if s.is_meta:
        s.echo = r.meta.echo
    s.noreply = r.noreply
    s.remaining = nbytes
    s.tail = 0
    return True


cdef void end_value(EngineC *e, Session *s, Writer *w) noexcept nogil:
    """A value that came in pieces is complete: make it visible and answer."""
    cdef Item *it = s.reservation.item
    cdef uint32_t nkey = it.nkey, flags = item_flags(it), exptime = it.exptime, nbytes = it.nbytes
    cdef char key[256]           # the item may be gone before the reply is written
    cdef Outcome outcome
    memcpy(key, item_key(it), nkey)
    outcome = store_commit(e.store, &s.reservation, &s.put, e.now)
    note_store(e, key, nkey, s.put.mode, outcome, flags, exptime, nbytes)
    count_outcome(e, s.put.mode, outcome)
    s.mode = LINE
    if s.is_meta:
        put_stored(w, &s.echo, key, nkey, &s.put, outcome, s.noreply)
    elif not s.noreply:
        put_outcome(w, outcome)


cdef void give_up_value(EngineC *e, Session *s) noexcept nogil:
    """The reservation has been revoked: let go of the memory now, answer when the conversation goes on."""
    cdef Item *it = s.reservation.item
    if s.put.clearing:
        store_drop(e.store, s.reservation.hash, item_key(it), it.nkey, e.now)
    e.cfd = s.cfd
    note_store(e, item_key(it), it.nkey, s.put.mode, NO_MEMORY, 0, 0, 0)
    store_abandon(e.store, &s.reservation)
    s.owes_error = s.is_meta or not s.noreply
    e.counters[STORE_NO_MEMORY] += 1
    s.mode = SWALLOW
    s.remaining += 2 - s.tail


cdef size_t take_value(EngineC *e, Session *s, Writer *w, const char *p, size_t n) noexcept nogil:
    """Bytes of a data block that goes to an item; returns how many were used."""
    cdef size_t used = <size_t>s.remaining if <int64_t>n > s.remaining else n
    cdef bint good = True
    if store_is_revoked(&s.reservation):
        give_up_value(e, s)
        return 0
    memcpy(s.reservation.value + s.reservation.received, p, used)
    s.reservation.received += <uint32_t>used
    s.remaining -= used
    store_progress(e.store, &s.reservation, e.now)
    if s.remaining:
        return used
    while used < n and s.tail < 2 and good:
        good = p[used] == (0x0d if s.tail == 0 else 0x0a)
        s.tail += 1
        used += 1
    if not good:
        store_abandon(e.store, &s.reservation)
        if s.is_meta or not s.noreply:
            put_line(w, REPLY_BAD_CHUNK)
        s.mode = SWALLOW
        s.remaining = 2 - s.tail
    elif s.tail == 2:
        end_value(e, s, w)
    return used
