# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""The engine: see engine.pxd."""
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcpy, memset

from cacheserver.store.item cimport item_size
from cacheserver.store.operations cimport (
    EXISTS,
    NO_MEMORY,
    NOT_A_NUMBER,
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
    PutMode,
    View,
    store_arith,
    store_delete,
    store_done,
    store_drop,
    store_fits,
    store_flush,
    store_flush_later,
    store_get,
    store_hash,
    store_pin,
    store_prefetch,
    store_put,
    store_tick,
    store_touch,
    store_unpin,
    store_view_expire,
)
from cacheserver.store.receive cimport (
    store_abandon,
    store_commit,
    store_extend,
    store_is_revoked,
    store_reserve,
)
from cacheserver.store.shard cimport CHUNK_MAX
from protocol.buffer cimport WriteBuffer, buffer_free, buffer_put, buffer_reserve
from protocol.reply cimport (
    LINE_REPLY_MAX,
    REPLY_BAD_CHUNK,
    REPLY_BAD_FORMAT,
    REPLY_DELETED,
    REPLY_END,
    REPLY_EXISTS,
    REPLY_FLUSH_REFUSED,
    REPLY_NO_MEMORY,
    REPLY_NON_NUMERIC,
    REPLY_NOT_FOUND,
    REPLY_NOT_STORED,
    REPLY_OK,
    REPLY_STORED,
    REPLY_TOO_LARGE,
    REPLY_TOUCHED,
    VALUE_HEAD_MAX,
    Status,
    put_crlf,
    put_number,
    put_status,
    put_value,
)
from protocol.request cimport (
    BAD_REQUEST,
    GOT_KEYS,
    GOT_REQUEST,
    KEY_MAX,
    NEED_DATA,
    OP_ADD,
    OP_APPEND,
    OP_CAS,
    OP_COMMAND,
    OP_DECR,
    OP_DELETE,
    OP_FLUSH_ALL,
    OP_GAT,
    OP_GATS,
    OP_GET,
    OP_GETS,
    OP_INCR,
    OP_PREPEND,
    OP_QUIT,
    OP_REPLACE,
    OP_SET,
    OP_TOUCH,
    OP_VERSION,
    Parsed,
    Request,
    next_key,
)
from protocol.text cimport parse

cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    enum:
        CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE
    int clock_gettime(int clock, timespec *t)

cdef enum:
    INLINE_MAX = 2048        # bytes of value that are copied to the reply; larger ones are sent from where they lie
    BATCH = 16               # keys hashed and prefetched ahead in a multiget
    WHOLE_MAX = 4096         # bytes of line and data block that are waited for rather than received into an item
    TARGET_MIN = 16384       # bytes still to come from which receiving straight into the item pays
    MONTH = 2592000          # seconds: larger exptimes are absolute Unix times

cdef enum Mode:
    LINE                     # at the beginning of a request
    VALUE                    # in a data block that goes to an item
    SWALLOW                  # in a data block that goes nowhere
    KEYS                     # in a get line whose first keys have been answered
    SKIP                     # in a line that is dropped up to its LF
    COMMAND                  # a command waits for Python

cdef enum:
    CMD_GET, CMD_SET, CMD_TOUCH, CMD_FLUSH, GET_HITS, GET_MISSES, GET_EXPIRED, DELETE_HITS, DELETE_MISSES
    INCR_HITS, INCR_MISSES, DECR_HITS, DECR_MISSES, CAS_HITS, CAS_MISSES, CAS_BADVAL, TOUCH_HITS, TOUCH_MISSES
    STORE_TOO_LARGE, STORE_NO_MEMORY
    COUNTERS

COUNTER_NAMES = (
    "cmd_get", "cmd_set", "cmd_touch", "cmd_flush", "get_hits", "get_misses", "get_expired", "delete_hits",
    "delete_misses", "incr_hits", "incr_misses", "decr_hits", "decr_misses", "cas_hits", "cas_misses", "cas_badval",
    "touch_hits", "touch_misses", "store_too_large", "store_no_memory",
)

cdef struct Writer:          # one feed's way to the Output
    Output *out
    size_t run               # where the text that is not in a span yet begins
    size_t bytes             # of reply written in this feed
    bint failed              # no memory for the reply: the connection must close


cdef bint output_room(Output *out, size_t text, uint32_t spans) noexcept nogil:
    """Room for that many more bytes of text and spans; False if memory is out."""
    cdef uint32_t cap
    cdef Span *more
    if not buffer_reserve(&out.text, text):
        return False
    if out.cap - out.nspans < spans:
        cap = out.cap * 2 if out.cap else 256
        while cap - out.nspans < spans:
            cap *= 2
        more = <Span *>realloc(out.spans, cap * sizeof(Span))
        if more == NULL:
            return False
        out.spans = more
        out.cap = cap
    return True


cdef void output_reset(Output *out) noexcept nogil:
    """Forget the content; its pins have been given back."""
    out.text.len = 0
    out.nspans = 0
    out.bytes = 0


cdef void output_free(Output *out) noexcept nogil:
    buffer_free(&out.text)
    free(out.spans)
    memset(out, 0, sizeof(Output))


cdef inline bint room(Writer *w, size_t text) noexcept nogil:
    if not output_room(w.out, text, 3):
        w.failed = True
    return not w.failed


cdef void add_span(Output *out, const char *base, size_t offset, size_t n, uint64_t pin) noexcept nogil:
    cdef Span *sp = &out.spans[out.nspans]
    sp.base = base
    sp.offset = offset
    sp.len = n
    sp.pin = pin
    out.nspans += 1
    out.bytes += n


cdef inline void end_run(Writer *w) noexcept nogil:
    if w.out.text.len > w.run:
        add_span(w.out, NULL, w.run, w.out.text.len - w.run, 0)
        w.run = w.out.text.len


cdef inline size_t produced(Writer *w, size_t before) noexcept nogil:
    return w.out.bytes + (w.out.text.len - w.run) - before


cdef void put_line(Writer *w, Status status) noexcept nogil:
    if room(w, LINE_REPLY_MAX):
        put_status(&w.out.text, status)


cdef void session_open(Session *s) noexcept nogil:
    memset(s, 0, sizeof(Session))


cdef void session_close(EngineC *e, Session *s) noexcept nogil:
    """Give up what the session holds; it may be opened again."""
    if s.reservation.item != NULL:
        store_abandon(e.store, &s.reservation)
    buffer_free(&s.command)


cdef uint32_t store_exptime(EngineC *e, int32_t exptime) noexcept nogil:
    """A client's exptime in the store's clock: 0 never; negative, or a past absolute time, expired already."""
    cdef int64_t when
    if exptime == 0:
        return 0
    if exptime < 0:
        return 1
    if exptime <= MONTH:
        return e.now + <uint32_t>exptime
    when = exptime - e.wall
    return <uint32_t>when if when > 1 else 1


cdef void engine_tick(EngineC *e) noexcept nogil:
    """Read the clocks; once a batch is enough, since expiry has a resolution of a second."""
    cdef timespec mono, wall
    clock_gettime(CLOCK_MONOTONIC_COARSE, &mono)
    clock_gettime(CLOCK_REALTIME_COARSE, &wall)
    e.now = <uint32_t>(mono.tv_sec - clock_start)
    e.wall = wall.tv_sec - e.now
    store_tick(e.store, e.now)


cdef void engine_unpin(EngineC *e, uint64_t pin) noexcept nogil:
    store_unpin(e.store, pin)


# ---------------------------------------------------------------------------------------------- get, gets, gat, gats

cdef bint answer_key(EngineC *e, Session *s, Writer *w, uint64_t hash, const char *key, uint32_t nkey) noexcept nogil:
    """Look one key up and write its VALUE, if any; False if memory for the reply is out."""
    cdef View v
    cdef uint64_t pin
    if not room(w, VALUE_HEAD_MAX + INLINE_MAX + 2):
        return False
    e.counters[CMD_GET] += 1
    e.counters[CMD_TOUCH] += s.touching
    if not store_get(e.store, hash, key, nkey, e.now, &v):
        e.counters[GET_MISSES] += 1
        e.counters[GET_EXPIRED] += v.expired
        e.counters[TOUCH_MISSES] += s.touching
        return True
    e.counters[GET_HITS] += 1
    if s.touching:
        e.counters[TOUCH_HITS] += 1
        store_view_expire(&v, s.exptime)
    put_value(&w.out.text, key, nkey, v.flags, v.nbytes, s.with_cas, v.cas)
    if v.nbytes > INLINE_MAX:
        pin = store_pin(e.store, &v)
        if pin:
            end_run(w)
            add_span(w.out, v.value, 0, v.nbytes, pin)
            put_crlf(&w.out.text)
            return True
        if not room(w, v.nbytes + 2):
            store_done(&v)
            return False
    buffer_put(&w.out.text, v.value, v.nbytes)
    store_done(&v)
    put_crlf(&w.out.text)
    return True


cdef void roll_back(EngineC *e, Writer *w, const Writer *mark, size_t text, uint32_t nspans, size_t nbytes) noexcept nogil:
    """Take back the replies written since the mark."""
    cdef Output *out = w.out
    while out.nspans > nspans:
        out.nspans -= 1
        if out.spans[out.nspans].pin:
            store_unpin(e.store, out.spans[out.nspans].pin)
    out.text.len = text
    out.bytes = nbytes
    w.run = mark.run


cdef const char *answer_keys(EngineC *e, Session *s, Writer *w, const char *p, const char *end, bint *bad) noexcept nogil:
    """Answer keys from `p` on; returns where it stopped: `end`, a pause in between, or (`bad`) at an over-long key."""
    cdef const char *keys[16]
    cdef uint32_t lengths[16]
    cdef uint64_t hashes[16]
    cdef const char *cursor = p
    cdef uint32_t n, i
    cdef size_t before = produced(w, 0)
    bad[0] = False
    while not bad[0]:
        n = 0
        while n < BATCH and next_key(&cursor, end, &keys[n], &lengths[n]):
            if lengths[n] > KEY_MAX:
                bad[0] = True
                break
            hashes[n] = store_hash(e.store, keys[n], lengths[n])
            store_prefetch(e.store, hashes[n])
            n += 1
        if n == 0:
            return end
        for i in range(n):
            if produced(w, before) >= OUTPUT_PAUSE:
                bad[0] = False
                return keys[i]
            if not answer_key(e, s, w, hashes[i], keys[i], lengths[i]):
                return keys[i]
    return end


cdef Feed get_line(EngineC *e, Session *s, Writer *w, const char *p, const char *end, bint whole,
                   const char **stop) noexcept nogil:
    """Answer a get line, or the part of one in [p, end); `stop` is what to go on with (mode KEYS then)."""
    cdef Writer mark = w[0]
    cdef size_t text = w.out.text.len, nbytes = w.out.bytes
    cdef uint32_t nspans = w.out.nspans
    cdef const char *last = end
    cdef bint bad
    if not whole:
        while last > p and (last - 1)[0] != 0x20:
            last -= 1
        if end - last > KEY_MAX + 1:
            last = end
    stop[0] = answer_keys(e, s, w, p, last, &bad)
    if w.failed:
        return FEED_CLOSE
    if bad:
        if not s.warm:
            roll_back(e, w, &mark, text, nspans, nbytes)
        put_line(w, REPLY_BAD_FORMAT)
        s.mode = LINE if whole else SKIP
        stop[0] = end
        return FEED_MORE
    if stop[0] == last and whole:
        put_line(w, REPLY_END)
        s.mode = LINE
        return FEED_MORE
    s.mode = KEYS
    s.warm = True
    return FEED_MORE if stop[0] == last else FEED_PAUSED


# ---------------------------------------------------------------------------------------------- storage commands

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


cdef void put_outcome(EngineC *e, Writer *w, PutMode mode, Outcome outcome, bint noreply) noexcept nogil:
    """Count a storage command and answer it."""
    e.counters[CMD_SET] += outcome != TOO_LARGE and outcome != NO_MEMORY
    if outcome == STORED:
        e.counters[CAS_HITS] += mode == PUT_CAS
    elif outcome == EXISTS:
        e.counters[CAS_BADVAL] += 1
    elif outcome == NOT_FOUND:
        e.counters[CAS_MISSES] += 1
    elif outcome == TOO_LARGE:
        e.counters[STORE_TOO_LARGE] += 1
    elif outcome == NO_MEMORY:
        e.counters[STORE_NO_MEMORY] += 1
    if noreply:
        return
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


cdef void refuse_value(EngineC *e, Session *s, Writer *w, Request *r, PutMode mode, uint64_t hash,
                       Outcome why) noexcept nogil:
    """The value cannot be stored: say so, drop its bytes, and leave no stale one behind."""
    if mode == PUT_SET:
        store_drop(e.store, hash, r.key, r.nkey, e.now)
    put_outcome(e, w, mode, why, r.noreply)
    s.mode = SWALLOW
    s.remaining = r.nbytes + 2


cdef bint storage(EngineC *e, Session *s, Writer *w, Request *r, const char *block, size_t n,
                  size_t *used) noexcept nogil:
    """A storage line with `n` bytes after it. False: wait for more bytes; else `used` of them are done with."""
    cdef PutMode mode = put_mode(r.op)
    cdef uint32_t nbytes = <uint32_t>r.nbytes, exptime = store_exptime(e, r.exptime)
    cdef uint64_t hash
    cdef Outcome outcome
    used[0] = 0
    if n < <size_t>r.nbytes + 2 and r.length + <size_t>r.nbytes + 2 <= WHOLE_MAX:
        return False
    hash = store_hash(e.store, r.key, r.nkey)
    if not store_fits(e.store, r.nkey, r.flags, r.nbytes):
        refuse_value(e, s, w, r, mode, hash, TOO_LARGE)
        return True
    if n >= <size_t>r.nbytes + 2 and item_size(r.nkey, r.flags, r.nbytes) <= CHUNK_MAX:
        used[0] = nbytes + 2
        if block[nbytes] != 0x0d or block[nbytes + 1] != 0x0a:
            if not r.noreply:
                put_line(w, REPLY_BAD_CHUNK)
            return True
        if mode == PUT_APPEND or mode == PUT_PREPEND:
            outcome = store_extend(e.store, mode, hash, r.key, r.nkey, block, nbytes, e.now)
        else:
            outcome = store_put(e.store, mode, hash, r.key, r.nkey, r.flags, exptime, block, nbytes, r.number, e.now)
        put_outcome(e, w, mode, outcome, r.noreply)
        return True
    outcome = store_reserve(e.store, hash, r.key, r.nkey, r.flags, exptime, nbytes, e.now, &s.reservation)
    if outcome != STORED:
        refuse_value(e, s, w, r, mode, hash, outcome)
        return True
    s.mode = VALUE
    s.storing = mode
    s.noreply = r.noreply
    s.cas = r.number
    s.remaining = nbytes
    s.tail = 0
    return True


cdef void give_up_value(EngineC *e, Session *s) noexcept nogil:
    """The reservation has been revoked: let go of the memory now, answer when the conversation goes on."""
    store_abandon(e.store, &s.reservation)
    s.owes_error = not s.noreply
    e.counters[STORE_NO_MEMORY] += 1
    s.mode = SWALLOW
    s.remaining += 2 - s.tail


cdef size_t take_value(EngineC *e, Session *s, Writer *w, const char *p, size_t n) noexcept nogil:
    """Bytes of a data block that goes to an item; returns how many were used."""
    cdef size_t used = <size_t>s.remaining if <int64_t>n > s.remaining else n
    cdef Outcome outcome
    cdef bint good = True
    if store_is_revoked(&s.reservation):
        give_up_value(e, s)
        return 0
    memcpy(s.reservation.value + s.reservation.received, p, used)
    s.reservation.received += <uint32_t>used
    s.remaining -= used
    if s.remaining:
        return used
    while used < n and s.tail < 2 and good:
        good = p[used] == (0x0d if s.tail == 0 else 0x0a)
        s.tail += 1
        used += 1
    if not good:
        store_abandon(e.store, &s.reservation)
        if not s.noreply:
            put_line(w, REPLY_BAD_CHUNK)
        s.mode = SWALLOW
        s.remaining = 2 - s.tail
    elif s.tail == 2:
        outcome = store_commit(e.store, &s.reservation, <PutMode>s.storing, s.cas, e.now)
        put_outcome(e, w, <PutMode>s.storing, outcome, s.noreply)
        s.mode = LINE
    return used


# ---------------------------------------------------------------------------------------------- the other commands

cdef void arithmetic(EngineC *e, Writer *w, Request *r) noexcept nogil:
    cdef bint incr = r.op == OP_INCR
    cdef uint64_t result = 0
    cdef Outcome outcome = store_arith(e.store, store_hash(e.store, r.key, r.nkey), r.key, r.nkey, incr, r.number,
                                       e.now, &result)
    if outcome == STORED:
        e.counters[INCR_HITS if incr else DECR_HITS] += 1
    elif outcome == NOT_FOUND:
        e.counters[INCR_MISSES if incr else DECR_MISSES] += 1
    if r.noreply:
        return
    if outcome == STORED:
        if room(w, LINE_REPLY_MAX):
            put_number(&w.out.text, result)
    elif outcome == NOT_FOUND:
        put_line(w, REPLY_NOT_FOUND)
    else:
        put_line(w, REPLY_NON_NUMERIC if outcome == NOT_A_NUMBER else REPLY_NO_MEMORY)


cdef void flush_all(EngineC *e, Writer *w, Request *r) noexcept nogil:
    e.counters[CMD_FLUSH] += 1
    if not e.flush_enabled:
        if not r.noreply:
            put_line(w, REPLY_FLUSH_REFUSED)
        return
    if r.has_exptime and r.exptime > 0 and store_exptime(e, r.exptime) > e.now:
        store_flush_later(e.store, store_exptime(e, r.exptime))
    else:
        store_flush(e.store)
    if not r.noreply:
        put_line(w, REPLY_OK)


cdef void simple(EngineC *e, Writer *w, Request *r) noexcept nogil:
    """Commands that are one line and touch one key, or none."""
    cdef Outcome outcome
    cdef uint64_t hash
    if r.op == OP_INCR or r.op == OP_DECR:
        arithmetic(e, w, r)
    elif r.op == OP_FLUSH_ALL:
        flush_all(e, w, r)
    elif r.op == OP_VERSION:
        if room(w, LINE_REPLY_MAX):
            buffer_put(&w.out.text, e.version, e.nversion)
    else:
        hash = store_hash(e.store, r.key, r.nkey)
        if r.op == OP_DELETE:
            outcome = store_delete(e.store, hash, r.key, r.nkey, e.now)
            e.counters[DELETE_HITS if outcome == STORED else DELETE_MISSES] += 1
        else:
            outcome = store_touch(e.store, hash, r.key, r.nkey, store_exptime(e, r.exptime), e.now)
            e.counters[CMD_TOUCH] += 1
            e.counters[TOUCH_HITS if outcome == STORED else TOUCH_MISSES] += 1
        if r.noreply:
            return
        if outcome != STORED:
            put_line(w, REPLY_NOT_FOUND)
        else:
            put_line(w, REPLY_DELETED if r.op == OP_DELETE else REPLY_TOUCHED)


# ---------------------------------------------------------------------------------------------- the loop

cdef Feed reject(Session *s, Writer *w, Request *r, size_t n, size_t *used) noexcept nogil:
    """A line that is no request: its error, and its data block dropped where the length is known."""
    if r.error != NULL and not r.noreply and room(w, r.nerror):
        buffer_put(&w.out.text, r.error, r.nerror)
    used[0] = r.length
    if r.close:
        used[0] = 0          # nothing of it was understood: whoever closes may see that the client is still sending
        return FEED_CLOSE
    if r.swallow:
        s.mode = SWALLOW
        s.remaining = r.swallow
    return FEED_MORE


cdef Feed request(EngineC *e, Session *s, Writer *w, Request *r, const char *p, size_t n, size_t *used,
                  bint *wait) noexcept nogil:
    """Execute the request at `p`; `used` bytes of the `n` are done with. `wait`: none, it needs more."""
    cdef const char *stop
    cdef Feed feed
    used[0] = r.length
    if r.op <= OP_GATS:
        s.with_cas = r.op == OP_GETS or r.op == OP_GATS
        s.touching = r.op == OP_GAT or r.op == OP_GATS
        s.exptime = store_exptime(e, r.exptime) if s.touching else 0
        s.warm = False
        feed = get_line(e, s, w, r.keys, r.keys + r.nkeys, True, &stop)
        if feed == FEED_PAUSED:
            used[0] = stop - p
        return feed
    if r.op <= OP_CAS:
        wait[0] = not storage(e, s, w, r, p + r.length, n - r.length, used)
        used[0] = 0 if wait[0] else used[0] + r.length
        return FEED_MORE
    if r.op == OP_QUIT:
        return FEED_CLOSE
    if r.op == OP_COMMAND:
        s.command.len = 0
        if not buffer_reserve(&s.command, r.nline + 1):
            return FEED_CLOSE
        buffer_put(&s.command, r.line, r.nline)
        s.mode = COMMAND
        return FEED_COMMAND
    simple(e, w, r)
    return FEED_MORE


cdef Feed line(EngineC *e, Session *s, Writer *w, const char *p, size_t n, size_t *used, bint *wait) noexcept nogil:
    """Mode LINE: parse one request and execute it."""
    cdef Request r
    cdef const char *stop
    cdef Parsed parsed = parse(p, n, &r)
    cdef Feed feed
    if parsed == GOT_REQUEST:
        return request(e, s, w, &r, p, n, used, wait)
    if parsed == BAD_REQUEST:
        return reject(s, w, &r, n, used)
    if parsed == GOT_KEYS:
        s.with_cas = r.op == OP_GETS
        s.touching = False
        s.warm = False
        feed = get_line(e, s, w, r.keys, r.keys + r.nkeys, False, &stop)
        used[0] = stop - p
        return feed
    wait[0] = True
    return FEED_MORE


cdef Feed keys(EngineC *e, Session *s, Writer *w, const char *p, size_t n, size_t *used, bint *wait) noexcept nogil:
    """Mode KEYS: the rest of a get line, or some of it."""
    cdef const char *lf = <const char *>memchr(p, 0x0a, n)
    cdef const char *end = lf if lf != NULL else p + n
    cdef const char *stop
    cdef Feed feed
    if lf != NULL and end > p and (end - 1)[0] == 0x0d:
        end -= 1
    feed = get_line(e, s, w, p, end, lf != NULL, &stop)
    if s.mode != KEYS and lf != NULL:
        used[0] = lf + 1 - p
    else:
        used[0] = stop - p
        wait[0] = s.mode == KEYS
    return feed


cdef Feed step(EngineC *e, Session *s, Writer *w, const char *p, size_t n, size_t *used, bint *wait) noexcept nogil:
    """One step of the conversation, whatever it is in; `n` > 0."""
    cdef const char *lf
    used[0] = 0
    if s.owes_error:
        s.owes_error = False
        put_line(w, REPLY_NO_MEMORY)
    if s.mode == LINE:
        return line(e, s, w, p, n, used, wait)
    if s.mode == VALUE:
        used[0] = take_value(e, s, w, p, n)
    elif s.mode == SWALLOW:
        used[0] = n if <int64_t>n < s.remaining else <size_t>s.remaining
        s.remaining -= used[0]
        if s.remaining == 0:
            s.mode = LINE
    elif s.mode == KEYS:
        return keys(e, s, w, p, n, used, wait)
    elif s.mode == SKIP:
        lf = <const char *>memchr(p, 0x0a, n)
        used[0] = n if lf == NULL else <size_t>(lf + 1 - p)
        if lf != NULL:
            s.mode = LINE
    else:
        return FEED_COMMAND
    return FEED_MORE


cdef Feed engine_feed(EngineC *e, Session *s, const char *buf, size_t n, size_t *consumed, Output *out) noexcept nogil:
    """Execute what is complete in `buf`; the caller keeps what was not consumed and puts it before the next bytes."""
    cdef Writer w
    cdef size_t pos = 0, used, before = out.bytes
    cdef bint wait = False
    cdef Feed feed = FEED_MORE
    w.out = out
    w.run = out.text.len
    w.failed = False
    while pos < n and not wait and feed == FEED_MORE:
        if produced(&w, before) >= OUTPUT_PAUSE:
            feed = FEED_PAUSED
            break
        feed = step(e, s, &w, buf + pos, n - pos, &used, &wait)
        pos += used
        if w.failed:
            feed = FEED_CLOSE
    end_run(&w)
    consumed[0] = pos
    return feed


cdef char *engine_target(EngineC *e, Session *s, size_t *room) noexcept nogil:
    """Where the session's next bytes may be received directly (`room` of them), or NULL: receive into a buffer and feed."""
    if s.mode != VALUE:
        return NULL
    if store_is_revoked(&s.reservation):
        give_up_value(e, s)
        return NULL
    if s.remaining < TARGET_MIN:
        return NULL
    room[0] = <size_t>s.remaining
    return s.reservation.value + s.reservation.received


cdef Feed engine_received(EngineC *e, Session *s, size_t n, Output *out) noexcept nogil:
    """`n` bytes have been received at engine_target()."""
    s.reservation.received += <uint32_t>n
    s.remaining -= n
    return FEED_MORE


cdef bint engine_revoked(EngineC *e, Session *s) noexcept nogil:
    return s.mode == VALUE and store_is_revoked(&s.reservation)


cdef int64_t clock_start


def store_clock() -> int:
    """Seconds on the store's clock: monotonic, the same for all engines of the process, 2 when the process began."""
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t)
    return t.tv_sec - clock_start


cdef void start_clock() noexcept:
    global clock_start
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t)
    clock_start = t.tv_sec - 2     # 0 means "never" and 1 "expired already"


start_clock()


@cython.no_gc_clear  # whoever still holds pins of the store must be able to give them back
cdef class Engine:
    def __cinit__(self, Store store not None, *, bint flush_enabled=True, str version="0.0.0"):
        cdef bytes text = f"VERSION {version}\r\n".encode()
        if len(text) > sizeof(self.c.version):
            raise ValueError(f"version {version!r} is too long")
        self.store = store
        self.handler = None
        self.c.store = &store.c
        self.c.flush_enabled = flush_enabled
        memcpy(self.c.version, <const char *>text, len(text))
        self.c.nversion = <uint32_t>len(text)
        engine_tick(&self.c)

    cdef bint run_command(self, Session *s, Output *out) except -1:
        """Give the waiting command to the handler and write its reply. False: the connection is to be closed."""
        cdef bytes line = s.command.data[:s.command.len]
        cdef bytes reply
        buffer_free(&s.command)
        s.mode = LINE
        answer = self.handler(line) if self.handler is not None else b"ERROR\r\n"
        if answer is None:
            return False
        reply = answer
        if len(reply) == 0:
            return True
        if not output_room(out, len(reply), 1):
            return False
        add_span(out, NULL, out.text.len, len(reply), 0)
        buffer_put(&out.text, reply, len(reply))
        return True

    def counters(self):
        return {COUNTER_NAMES[i]: self.c.counters[i] for i in range(<int>COUNTERS)}
