# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The meta commands: see meta.pxd."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from cacheserver.observe cimport BY_MD, note_delete, note_get
from cacheserver.output cimport Writer, put_line, writer_room
from cacheserver.retrieval cimport INLINE_MAX, answer_value
from cacheserver.session cimport (
    CMD_GET, CMD_META, CMD_TOUCH, DECR_MISSES, DECR_HITS, DELETE_HITS, DELETE_MISSES, GET_EXPIRED, GET_HITS, GET_MISSES,
    INCR_HITS, INCR_MISSES, TOUCH_HITS, EngineC, store_exptime,
)
from cacheserver.store.arena cimport arena_wake
from cacheserver.store.arithmetic cimport Sum, store_compute
from cacheserver.store.marks cimport (
    CLAIM_STALE, CLAIM_TAKEN, CLAIM_WON, Removal, Sight, sight_bump, sight_claim, sight_class, sight_count, sight_expire,
    sight_expires_before, sight_size, sight_ttl, store_look, store_remove,
)
from cacheserver.store.operations cimport (
    EXISTS, NOT_A_NUMBER, NOT_FOUND, NOT_STORED, PUT_ADD, PUT_APPEND, PUT_CAS, PUT_PREPEND, PUT_REPLACE, PUT_SET, STORED,
    TOO_LARGE, Outcome, Put, store_hash,
)
from cacheserver.store.view cimport store_done
from protocol.buffer cimport WriteBuffer, buffer_put
from protocol.reply cimport (
    META_HEAD_MAX, NUMBER_MAX, REPLY_NO_MEMORY, REPLY_NON_NUMERIC, REPLY_TOO_LARGE, format_u64, put_code, put_crlf,
    put_echo, put_flag, put_key, put_key_flag, put_mark, put_opaque, put_size, put_u64, put_unlimited,
)
from protocol.request cimport OP_MA, OP_MD, OP_ME, OP_MG, Echo, Meta, Request, has_flag


cdef void put_ttl(WriteBuffer *b, Sight *g) noexcept nogil:
    """Write the return flag t, as it is at this moment."""
    cdef int64_t ttl = sight_ttl(g)
    if ttl < 0:
        put_unlimited(b)
    else:
        put_flag(b, c't', <uint64_t>ttl)


cdef void put_plain(Writer *w, Request *r, const char *code) noexcept nogil:
    """A reply without an item: its code, the opaque token and the key."""
    if writer_room(w, META_HEAD_MAX):
        put_code(&w.out.text, code)
        put_echo(&w.out.text, &r.meta.echo, r.key, r.nkey, r.meta.encoded)
        put_crlf(&w.out.text)


# mg ---------------------------------------------------------------------------------------------------------------

cdef bint put_sight(EngineC *e, WriteBuffer *b, Request *r, Sight *g) noexcept nogil:
    """The return flags of mg in the order of the request; T, N and R act where they stand. Whether N or R has won."""
    cdef Echo *echo = &r.meta.echo
    cdef bint winning = False
    cdef uint32_t i
    cdef char letter
    for i in range(echo.nreturns):
        letter = echo.returns[i]
        if letter == c'k':
            put_key_flag(b, r.key, r.nkey, g.encoded)
        elif letter == c'c':
            put_flag(b, letter, g.view.cas)
        elif letter == c't':
            put_ttl(b, g)
        elif letter == c'f':
            put_flag(b, letter, g.view.flags)
        elif letter == c's':
            put_flag(b, letter, g.view.nbytes)
        elif letter == c'O':
            put_opaque(b, echo)
        elif letter == c'h':
            put_flag(b, letter, g.fetched)
        elif letter == c'l':
            put_flag(b, letter, g.idle)
        elif letter == c'T':
            sight_expire(g, store_exptime(e, r.exptime))
        elif letter == c'N':
            if g.created:
                sight_expire(g, store_exptime(e, r.meta.vivify))
                winning = True
        elif not g.created and sight_expires_before(g, store_exptime(e, r.meta.recache)):   # R
            winning = True
    return winning


cdef void put_claim(WriteBuffer *b, uint32_t claim) noexcept nogil:
    if claim & CLAIM_TAKEN:
        put_mark(b, c'Z')
    if claim & CLAIM_STALE:
        put_mark(b, c'X')
    if claim & CLAIM_WON:
        put_mark(b, c'W')


cdef bint look(EngineC *e, Request *r, Sight *g) noexcept nogil:
    """Look the key up; N makes an empty item where there is none."""
    cdef uint64_t hash = store_hash(e.store, r.key, r.nkey)
    cdef Put creating
    if not has_flag(&r.meta, c'N'):
        return store_look(e.store, hash, r.key, r.nkey, NULL, e.now, g)
    memset(&creating, 0, sizeof(creating))
    creating.mode = PUT_ADD
    creating.encoded = r.meta.encoded
    creating.numbered = has_flag(&r.meta, c'E')
    creating.number = r.meta.cas
    return store_look(e.store, hash, r.key, r.nkey, &creating, e.now, g)


cdef void meta_get(EngineC *e, Writer *w, Request *r) noexcept nogil:
    cdef bint touching = has_flag(&r.meta, c'T'), value = has_flag(&r.meta, c'v'), found
    cdef WriteBuffer *b = &w.out.text
    cdef Sight g
    if not writer_room(w, META_HEAD_MAX + INLINE_MAX + 2):
        return
    found = look(e, r, &g)
    note_get(e, r.key, r.nkey)
    if not found:
        e.counters[CMD_GET] += 1
        e.counters[GET_MISSES] += 1
        e.counters[GET_EXPIRED] += g.view.expired
        if not r.noreply:
            put_plain(w, r, b"EN")
        return
    e.counters[CMD_TOUCH if touching else CMD_GET] += 1
    e.counters[TOUCH_HITS if touching else GET_HITS] += 1
    if value and has_flag(&r.meta, c'C') and g.view.cas == r.number:
        value = False        # the client has this very value
    put_code(b, b"VA" if value else b"HD")
    if value:
        put_size(b, g.view.nbytes)
    put_claim(b, sight_claim(&g, put_sight(e, b, r, &g)))
    put_crlf(b)
    sight_count(&g, touching)
    if not has_flag(&r.meta, c'u'):
        sight_bump(&g)
    if value:
        answer_value(e, w, &g.view)
    else:
        store_done(&g.view)
    if g.created:
        arena_wake(&e.store.arena)


# ms ---------------------------------------------------------------------------------------------------------------

cdef void read_terms(Request *r, Put *put) noexcept nogil:
    """The terms of an ms; with N, append and prepend take their expiry from it: `r.exptime` is changed."""
    cdef Meta *m = &r.meta
    cdef bint comparing = has_flag(m, c'C')
    memset(put, 0, sizeof(Put))
    put.clearing = True
    put.encoded = m.encoded
    put.numbered = has_flag(m, c'E')
    put.number = m.cas
    put.compare = r.number
    if m.mode == c'E':
        put.mode = PUT_ADD
    elif m.mode == c'A' or m.mode == c'P':
        put.mode = PUT_APPEND if m.mode == c'A' else PUT_PREPEND
        put.comparing = comparing
        put.creating = has_flag(m, c'N')
        if put.creating:
            r.exptime = m.vivify
    elif comparing:
        put.mode = PUT_CAS
        put.tolerant = has_flag(m, c'I')
    else:
        put.mode = PUT_REPLACE if m.mode == c'R' else PUT_SET


cdef void put_stored(Writer *w, const Echo *echo, const char *key, uint32_t nkey, const Put *put, Outcome outcome,
                     bint quiet) noexcept nogil:
    """The reply of an ms that came to an end; `quiet` hides nothing but success."""
    cdef WriteBuffer *b = &w.out.text
    cdef uint32_t i
    cdef char letter
    if (quiet and outcome == STORED) or not writer_room(w, META_HEAD_MAX):
        return
    if outcome == STORED:
        put_code(b, b"HD")
    elif outcome == EXISTS:
        put_code(b, b"EX")
    elif outcome == NOT_FOUND:
        put_code(b, b"NF")
    elif outcome == NOT_STORED:
        put_code(b, b"NS")
    else:
        put_line(w, REPLY_TOO_LARGE if outcome == TOO_LARGE else REPLY_NO_MEMORY)
        return
    for i in range(echo.nreturns):
        letter = echo.returns[i]
        if letter == c'O':
            put_opaque(b, echo)
        elif letter == c'k':
            put_key_flag(b, key, nkey, put.encoded)
        elif letter == c'c':
            put_flag(b, letter, put.cas)
        elif letter == c's':
            put_flag(b, letter, put.nbytes)
    put_crlf(b)


# md, ma, me -------------------------------------------------------------------------------------------------------

cdef void meta_delete(EngineC *e, Writer *w, Request *r) noexcept nogil:
    cdef Meta *m = &r.meta
    cdef Removal terms
    cdef Outcome outcome
    terms.comparing = has_flag(m, c'C')
    terms.compare = r.number
    terms.stale = has_flag(m, c'I')
    terms.emptied = has_flag(m, c'x')
    terms.expiring = has_flag(m, c'T')
    terms.exptime = store_exptime(e, r.exptime)
    terms.flags = r.flags
    terms.numbered = has_flag(m, c'E')
    terms.number = m.cas
    outcome = store_remove(e.store, store_hash(e.store, r.key, r.nkey), r.key, r.nkey, &terms, e.now)
    note_delete(e, r.key, r.nkey, BY_MD, outcome)
    if outcome == STORED:
        e.counters[DELETE_HITS] += not terms.stale
        if not r.noreply:
            put_plain(w, r, b"HD")
    elif outcome == NOT_FOUND or outcome == EXISTS:
        e.counters[DELETE_MISSES] += 1
        put_plain(w, r, b"NF" if outcome == NOT_FOUND else b"EX")
    else:
        put_line(w, REPLY_NO_MEMORY)


cdef void put_sum(EngineC *e, Writer *w, Request *r, const Sum *sum, Sight *g) noexcept nogil:
    """The reply of an ma that worked; T and N act where they stand, so a quiet one goes through this, too."""
    cdef WriteBuffer *b = &w.out.text
    cdef bint value = has_flag(&r.meta, c'v')
    cdef char number[NUMBER_MAX]
    cdef uint32_t n = format_u64(number, sum.result), i
    cdef size_t begin = b.len
    cdef char letter
    put_code(b, b"VA" if value else b"HD")
    if value:
        put_size(b, n)
    for i in range(r.meta.echo.nreturns):
        letter = r.meta.echo.returns[i]
        if letter == c'O':
            put_opaque(b, &r.meta.echo)
        elif letter == c'k':
            put_key_flag(b, r.key, r.nkey, r.meta.encoded)
        elif letter == c'c':
            put_flag(b, letter, g.view.cas)
        elif letter == c't':
            put_ttl(b, g)
        elif letter == c'T':
            sight_expire(g, store_exptime(e, r.exptime))
        elif letter == c'N' and g.created:
            sight_expire(g, store_exptime(e, r.meta.vivify))
    put_crlf(b)
    if value:
        buffer_put(b, number, n)
        put_crlf(b)
    if r.noreply:
        b.len = begin


cdef void meta_arithmetic(EngineC *e, Writer *w, Request *r) noexcept nogil:
    cdef Meta *m = &r.meta
    cdef Sum sum
    cdef Sight g
    cdef Outcome outcome
    if not writer_room(w, META_HEAD_MAX):
        return
    sum.decr = m.mode == c'D' or m.mode == c'-'
    sum.delta = m.delta
    sum.compare = r.number
    sum.creating = has_flag(m, c'N')
    sum.initial = m.initial
    sum.encoded = m.encoded
    sum.numbered = has_flag(m, c'E')
    sum.number = m.cas
    outcome = store_compute(e.store, store_hash(e.store, r.key, r.nkey), r.key, r.nkey, &sum, e.now, &g)
    note_get(e, r.key, r.nkey)
    if outcome == STORED:
        if not g.created:
            e.counters[DECR_HITS if sum.decr else INCR_HITS] += 1
        put_sum(e, w, r, &sum, &g)
        store_done(&g.view)
        arena_wake(&e.store.arena)
    elif outcome == NOT_FOUND:
        e.counters[DECR_MISSES if sum.decr else INCR_MISSES] += 1
        put_plain(w, r, b"NF")
    elif outcome == EXISTS:
        put_plain(w, r, b"EX")
    else:
        put_line(w, REPLY_NON_NUMERIC if outcome == NOT_A_NUMBER else REPLY_NO_MEMORY)


cdef inline void put_field(WriteBuffer *b, const char *name, size_t n, uint64_t value) noexcept nogil:
    buffer_put(b, name, n)
    put_u64(b, value)


cdef void meta_debug(EngineC *e, Writer *w, Request *r) noexcept nogil:
    cdef WriteBuffer *b = &w.out.text
    cdef Sight g
    e.counters[CMD_META] += 1
    if not writer_room(w, META_HEAD_MAX):
        return
    if not store_look(e.store, store_hash(e.store, r.key, r.nkey), r.key, r.nkey, NULL, e.now, &g):
        put_code(b, b"EN")
        put_crlf(b)
        return
    buffer_put(b, b"ME ", 3)
    put_key(b, r.key, r.nkey, g.encoded)
    if sight_ttl(&g) < 0:
        buffer_put(b, b" exp=-1", 7)
    else:
        put_field(b, b" exp=", 5, <uint64_t>sight_ttl(&g))
    put_field(b, b" la=", 4, g.idle)
    put_field(b, b" cas=", 5, g.view.cas)
    buffer_put(b, b" fetch=yes" if g.fetched else b" fetch=no", 10 if g.fetched else 9)
    put_field(b, b" cls=", 5, sight_class(&g))
    put_field(b, b" size=", 6, sight_size(&g))
    put_crlf(b)
    store_done(&g.view)


cdef void answer_meta(EngineC *e, Writer *w, Request *r) noexcept nogil:
    """Execute a meta command without a data block and answer it."""
    if r.op == OP_MG:
        meta_get(e, w, r)
    elif r.op == OP_MD:
        meta_delete(e, w, r)
    elif r.op == OP_MA:
        meta_arithmetic(e, w, r)
    elif r.op == OP_ME:
        meta_debug(e, w, r)
    elif writer_room(w, META_HEAD_MAX):
        put_code(&w.out.text, b"MN")
        put_crlf(&w.out.text)
