# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Commands of one line: see oneline.pxd."""
from libc.stdint cimport uint64_t

from cacheserver.observe cimport BY_DELETE, count_delete, note_delete, note_get
from cacheserver.output cimport Writer, put_line, writer_room
from cacheserver.session cimport (
    CMD_FLUSH, CMD_TOUCH, DECR_HITS, DECR_MISSES, DELETE_HITS, DELETE_MISSES, INCR_HITS, INCR_MISSES,
    TOUCH_HITS, TOUCH_MISSES, TURN_STEPS, store_exptime,
)
from cacheserver.store.arithmetic cimport store_arith
from cacheserver.store.operations cimport (
    NOT_A_NUMBER, NOT_FOUND, STORED, Outcome, store_delete, store_flush, store_flush_later, store_hash,
    store_touch,
)
from protocol.buffer cimport buffer_put
from protocol.reply cimport (
    LINE_REPLY_MAX, REPLY_DELETED, REPLY_FLUSH_REFUSED, REPLY_NO_MEMORY, REPLY_NON_NUMERIC, REPLY_NOT_FOUND,
    REPLY_OK, REPLY_TOUCHED, put_number,
)
from protocol.request cimport OP_DECR, OP_DELETE, OP_FLUSH_ALL, OP_INCR, OP_VERSION, Request


cdef void arithmetic(EngineC *e, Writer *w, Request *r) noexcept nogil:
    cdef bint incr = r.op == OP_INCR
    cdef uint64_t result = 0
    cdef Outcome outcome = store_arith(e.store, store_hash(e.store, r.key, r.nkey), r.key, r.nkey, incr, r.number,
                                       e.now, &result)
    note_get(e, r.key, r.nkey)
    if outcome == STORED:
        e.counters[INCR_HITS if incr else DECR_HITS] += 1
    elif outcome == NOT_FOUND:
        e.counters[INCR_MISSES if incr else DECR_MISSES] += 1
    if r.noreply:
        return
    if outcome == STORED:
        if writer_room(w, LINE_REPLY_MAX):
            put_number(&w.out.text, result)
    elif outcome == NOT_FOUND:
        put_line(w, REPLY_NOT_FOUND)
    else:
        put_line(w, REPLY_NON_NUMERIC if outcome == NOT_A_NUMBER else REPLY_NO_MEMORY)


cdef void flush_all(EngineC *e, Writer *w, Request *r) noexcept nogil:
    e.counters[CMD_FLUSH] += 1
    e.cost = TURN_STEPS
    if not e.flush_enabled:
        if not r.noreply:
            put_line(w, REPLY_FLUSH_REFUSED)
        return
    if r.error != NULL:
        if not r.noreply and writer_room(w, r.nerror):
            buffer_put(&w.out.text, r.error, r.nerror)
        return
    if r.has_exptime and r.exptime > 0 and store_exptime(e, r.exptime) > e.now:
        store_flush_later(e.store, store_exptime(e, r.exptime))
    else:
        store_flush(e.store)
    if not r.noreply:
        put_line(w, REPLY_OK)


cdef void answer_oneline(EngineC *e, Writer *w, Request *r) noexcept nogil:
    """Commands that are one line and touch one key, or none."""
    cdef Outcome outcome
    cdef uint64_t hash
    if r.op == OP_INCR or r.op == OP_DECR:
        arithmetic(e, w, r)
    elif r.op == OP_FLUSH_ALL:
        flush_all(e, w, r)
    elif r.op == OP_VERSION:
        if writer_room(w, LINE_REPLY_MAX):
            buffer_put(&w.out.text, e.version, e.nversion)
    else:
        hash = store_hash(e.store, r.key, r.nkey)
        if r.op == OP_DELETE:
            outcome = store_delete(e.store, hash, r.key, r.nkey, e.now)
            e.counters[DELETE_HITS if outcome == STORED else DELETE_MISSES] += 1
            note_delete(e, r.key, r.nkey, BY_DELETE, outcome)
            count_delete(e, r.key, r.nkey)
        else:
            outcome = store_touch(e.store, hash, r.key, r.nkey, store_exptime(e, r.exptime), e.now)
            e.counters[CMD_TOUCH] += 1
            e.counters[TOUCH_HITS if outcome == STORED else TOUCH_MISSES] += 1
            note_get(e, r.key, r.nkey)
        if r.noreply:
            return
        if outcome != STORED:
            put_line(w, REPLY_NOT_FOUND)
        else:
            put_line(w, REPLY_DELETED if r.op == OP_DELETE else REPLY_TOUCHED)
