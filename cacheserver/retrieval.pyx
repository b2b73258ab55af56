# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The get family: see retrieval.pxd."""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.output cimport Output, Writer, add_span, put_line, writer_close_run, writer_fed, writer_room
from cacheserver.observe cimport count_get, note_get
from cacheserver.session cimport (
    CMD_GET,
    CMD_TOUCH,
    FEED_CLOSE,
    FEED_MORE,
    FEED_PAUSED,
    GET_EXPIRED,
    GET_HITS,
    GET_MISSES,
    KEYS,
    LINE,
    OUTPUT_PAUSE,
    SKIP,
    TOUCH_HITS,
    TOUCH_MISSES,
    EngineC,
    Feed,
    Session,
)
from cacheserver.store.operations cimport store_get, store_hash, store_prefetch, store_prefetch_item, store_view_expire
from cacheserver.store.view cimport View, store_done, store_pin, store_unpin
from protocol.buffer cimport buffer_put
from protocol.reply cimport REPLY_BAD_FORMAT, REPLY_END, VALUE_HEAD_MAX, put_crlf, put_end, put_value
from protocol.request cimport KEY_MAX, next_key
from protocol.text cimport read_get

cdef enum:
    END_MAX = 7              # bytes behind a value: its CRLF, and "END" with one


cdef bint answer_value(EngineC *e, Writer *w, View *v) noexcept nogil:
    """Write a value and its CRLF, for which the caller has made room up to INLINE_MAX, and end the view; False if memory for
    the reply is out."""
    cdef uint64_t pin
    if v.nbytes > INLINE_MAX:
        pin = store_pin(e.store, v)
        if pin:
            writer_close_run(w)
            add_span(w.out, v.value, 0, v.nbytes, pin)
            put_crlf(&w.out.text)
            return True
        if not writer_room(w, v.nbytes + END_MAX):
            store_done(v)
            return False
    buffer_put(&w.out.text, v.value, v.nbytes)
    store_done(v)
    put_crlf(&w.out.text)
    return True


cdef bint answer_key(EngineC *e, Session *s, Writer *w, uint64_t hash, const char *key, uint32_t nkey) noexcept nogil:
    """Look one key up and write its VALUE, if any, with room for an END behind it; False if memory for the reply is out."""
    cdef View v
    if not writer_room(w, VALUE_HEAD_MAX + INLINE_MAX + END_MAX):
        return False
    # gat counts as a touch and not as a get, as in memcached.
    e.counters[CMD_TOUCH if s.touching else CMD_GET] += 1
    if not store_get(e.store, hash, key, nkey, e.now, s.touching, &v):
        e.counters[TOUCH_MISSES if s.touching else GET_MISSES] += 1
        e.counters[GET_EXPIRED] += v.expired
        note_get(e, key, nkey)
        count_get(e, key, nkey, False)
        return True
    e.counters[TOUCH_HITS if s.touching else GET_HITS] += 1
    note_get(e, key, nkey)
    count_get(e, key, nkey, True)
    if s.touching:
        store_view_expire(&v, s.exptime)
    put_value(&w.out.text, key, nkey, v.flags, v.nbytes, s.with_cas, v.cas)
    return answer_value(e, w, &v)


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


cdef inline void fetch_items(EngineC *e, const uint64_t *hashes, uint32_t n) noexcept nogil:
    """Start fetching the items of several keys, of which store_prefetch() knows already."""
    cdef uint32_t i
    if n > 1:
        for i in range(n):
            store_prefetch_item(e.store, hashes[i])


cdef uint32_t answer_gets(EngineC *e, Session *s, Writer *w, const char *p, size_t n, size_t *used) noexcept nogil:
    """Answer the requests "get <key>" that follow one another at the head of `n` bytes, GETS_MAX at most: while one item
    is read the next are on their way from memory. Returns how many, the one included for which memory was out; they were
    `used` bytes."""
    cdef const char *keys[GETS_MAX]
    cdef const char *ends[GETS_MAX]
    cdef uint32_t lengths[GETS_MAX]
    cdef uint64_t hashes[GETS_MAX]
    cdef const char *stop = read_get(p, p + n, &keys[0], &lengths[0])
    cdef uint32_t count = 0, i
    if stop == NULL:
        return 0
    s.with_cas = s.touching = False
    while stop != NULL:
        hashes[count] = store_hash(e.store, keys[count], lengths[count])
        ends[count] = stop
        count += 1
        if count > 1 or stop < p + n:
            store_prefetch(e.store, hashes[count - 1])
        if count == GETS_MAX or stop == p + n:
            break
        stop = read_get(stop, p + n, &keys[count], &lengths[count])
    fetch_items(e, hashes, count)
    for i in range(count):
        if not answer_key(e, s, w, hashes[i], keys[i], lengths[i]):
            return i + 1
        put_end(&w.out.text)
        used[0] = ends[i] - p
        if writer_fed(w) >= OUTPUT_PAUSE:
            return i + 1
    return count


cdef const char *answer_keys(EngineC *e, Session *s, Writer *w, const char *p, const char *end, bint *bad) noexcept nogil:
    """Answer keys from `p` on; returns where it stopped: `end`, a pause in between, or (`bad`) at an over-long key."""
    cdef const char *keys[GETS_MAX]
    cdef uint32_t lengths[GETS_MAX]
    cdef uint64_t hashes[GETS_MAX]
    cdef const char *cursor = p
    cdef uint32_t n, i
    bad[0] = False
    while not bad[0]:
        n = 0
        while n < GETS_MAX and next_key(&cursor, end, &keys[n], &lengths[n]):
            if lengths[n] > KEY_MAX:
                bad[0] = True
                break
            hashes[n] = store_hash(e.store, keys[n], lengths[n])
            store_prefetch(e.store, hashes[n])
            n += 1
        if n == 0:
            return end
        fetch_items(e, hashes, n)
        for i in range(n):
            if writer_fed(w) >= OUTPUT_PAUSE:
                bad[0] = False
                return keys[i]
            if not answer_key(e, s, w, hashes[i], keys[i], lengths[i]):
                return keys[i]
    return end


cdef Feed answer_line(EngineC *e, Session *s, Writer *w, const char *p, const char *end, bint whole,
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
