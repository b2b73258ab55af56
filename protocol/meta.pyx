# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The meta grammar, as memcached 1.6.45 reads it: see meta.pxd.

Every command knows every flag and ignores those that mean nothing to it. Of several bad tokens the last one is named, but
a flag that is unknown or there twice ends the reading.

Deliberate differences from memcached: base64 is read strictly (memcached skips what is not in the alphabet), numbers have
no sign but a minus, and an opaque token that is too long is found before anything is done, as every other mistake.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from protocol.base64 cimport base64_decode
from protocol.reply cimport (
    REPLY_BAD_ARITHMETIC_MODE, REPLY_BAD_FLAG, REPLY_BAD_FORMAT, REPLY_BAD_INITIAL, REPLY_BAD_KEY, REPLY_BAD_SET_MODE,
    REPLY_BAD_STEP, REPLY_BAD_TOKEN, REPLY_DUPLICATE_FLAG, REPLY_LONG_OPAQUE, REPLY_MANY_FLAGS, REPLY_UNKNOWN_FLAG,
    Status,
)
from protocol.request cimport (
    GOT_REQUEST, KEY_MAX, OP_MA, OP_MD, OP_ME, OP_MG, OP_MN, OP_MS, OPAQUE_MAX, Meta, Parsed, Request,
)
from protocol.tokens cimport NBYTES_MAX, SP, key_end, refuse, take_i32, take_u64, token_end, token_start

cdef enum:
    TOKENS_MAX = 20          # in a line, command and key included
    ENCODED_MAX = 336        # characters of base64 that KEY_MAX bytes need
    GOOD = -1                # no error so far


cdef inline void note_return(Meta *m, char letter) noexcept nogil:
    """A flag that the reply shows, or that acts at its place among those."""
    m.echo.returns[m.echo.nreturns] = letter
    m.echo.nreturns += 1


cdef int decode_key(Request *r) noexcept nogil:
    """Put the bytes that the key stands for in its place; GOOD, or the error."""
    cdef Meta *m = &r.meta
    cdef uint32_t n = r.nkey
    m.encoded = True
    if n > ENCODED_MAX:
        return REPLY_BAD_FORMAT
    r.nkey = <uint32_t>base64_decode(r.key, n, m.key)
    r.key = m.key
    return GOOD if r.nkey else REPLY_BAD_KEY


cdef int read_flag(Request *r, char letter, const char *p, const char *end) noexcept nogil:
    """Take in one flag and its token in [p, end); GOOD, or the error."""
    cdef Meta *m = &r.meta
    cdef uint64_t wide = 0
    if letter == c'v' or letter == c'q' or letter == c'u' or letter == c'x' or letter == c'I':
        return GOOD
    if letter == c'k' or letter == c't' or letter == c's' or letter == c'c' or letter == c'f' or letter == c'h' or \
            letter == c'l':
        note_return(m, letter)
        return GOOD
    if letter == c'T':
        note_return(m, letter)
        return GOOD if take_i32(&p, end, &r.exptime) else REPLY_BAD_TOKEN
    if letter == c'N':
        note_return(m, letter)
        return GOOD if take_i32(&p, end, &m.vivify) else REPLY_BAD_TOKEN
    if letter == c'R':
        note_return(m, letter)
        return GOOD if take_i32(&p, end, &m.recache) else REPLY_BAD_TOKEN
    if letter == c'C':
        return GOOD if take_u64(&p, end, &r.number) else REPLY_BAD_TOKEN
    if letter == c'E':
        return GOOD if take_u64(&p, end, &m.cas) else REPLY_BAD_TOKEN
    if letter == c'F':
        if not take_u64(&p, end, &wide):
            return REPLY_BAD_FORMAT
        r.flags = <uint32_t>wide         # beyond 32 bits: the low ones, as in the classic commands
        return GOOD
    if letter == c'M':
        m.mode = p[0] if p < end else SP
        return GOOD
    if letter == c'D':
        return GOOD if take_u64(&p, end, &m.delta) else REPLY_BAD_STEP
    if letter == c'J':
        return GOOD if take_u64(&p, end, &m.initial) else REPLY_BAD_INITIAL
    if letter == c'O':
        note_return(m, letter)
        p -= 1
        m.echo.nopaque = <uint8_t>(end - p if end - p <= OPAQUE_MAX else 255)
        if m.echo.nopaque <= OPAQUE_MAX:
            memcpy(m.echo.opaque, p, m.echo.nopaque)
        return GOOD
    if letter == c'b':
        return decode_key(r)
    return GOOD if letter == c'P' or letter == c'L' else REPLY_UNKNOWN_FLAG


cdef bint too_many(const char *p, const char *end, uint32_t count) noexcept nogil:
    """Whether the tokens from `p` on and the `count` before them are more than a line may have."""
    while True:
        p = token_start(p, end)
        if p == end or count > TOKENS_MAX:
            return count > TOKENS_MAX
        p = token_end(p, end)
        count += 1


cdef int read_flags(Request *r, const char *p, const char *end, uint32_t count) noexcept nogil:
    """The flags in [p, end), `count` tokens stand before them; GOOD, or the error."""
    cdef Meta *m = &r.meta
    cdef const char *first
    cdef uint8_t letter
    cdef uint64_t bit
    cdef int why = GOOD, error
    while True:
        p = token_start(p, end)
        if p == end:
            return why
        first = p
        p = token_end(p, end)
        count += 1
        letter = <uint8_t>first[0]
        bit = <uint64_t>1 << (letter - 0x41) if 0x41 <= letter <= 0x7a else 0
        if count > TOKENS_MAX:
            return REPLY_MANY_FLAGS
        if letter >= 127 or m.seen & bit:
            error = REPLY_DUPLICATE_FLAG
        else:
            m.seen |= bit
            error = read_flag(r, <char>letter, first + 1, p) if bit else REPLY_UNKNOWN_FLAG
        if error == REPLY_DUPLICATE_FLAG or error == REPLY_UNKNOWN_FLAG:
            return REPLY_MANY_FLAGS if too_many(p, end, count) else error
        if error != GOOD:
            why = error


cdef inline bint mode_is(const Meta *m, const char *letters, size_t n) noexcept nogil:
    return m.mode == 0 or memchr(letters, m.mode, n) != NULL


cdef Parsed read_line(Request *r, const char *p, const char *end, uint32_t count, int64_t swallow) noexcept nogil:
    """Flags of mg, ms, md, ma, and what is wrong with the line as a whole."""
    cdef Meta *m = &r.meta
    cdef int why
    m.seen = m.cas = m.initial = r.number = 0
    m.delta = 1
    m.vivify = m.recache = r.exptime = 0
    r.flags = 0
    m.mode = 0
    m.echo.nreturns = m.echo.nopaque = 0
    why = read_flags(r, p, end, count)
    if why == GOOD and r.nkey > KEY_MAX:
        why = REPLY_BAD_FORMAT
    if why != GOOD and r.op == OP_MA:
        why = REPLY_BAD_FLAG
    elif why == GOOD and m.echo.nopaque > OPAQUE_MAX:
        why = REPLY_LONG_OPAQUE
    elif why == GOOD and r.op == OP_MS and not mode_is(m, b"SEAPR", 5):
        why = REPLY_BAD_SET_MODE
    elif why == GOOD and r.op == OP_MA and not mode_is(m, b"I+D-", 4):
        why = REPLY_BAD_ARITHMETIC_MODE
    if why != GOOD:
        return refuse(r, <Status>why, False, swallow)
    r.noreply = m.seen >> (c'q' - c'A') & 1
    return GOT_REQUEST


cdef Parsed read_debug(Request *r, const char *p, const char *end) noexcept nogil:
    """me: <key> [b], what else there is is ignored."""
    p = token_start(p, end)
    if p < end and p[0] == c'b' and token_end(p, end) == p + 1 and decode_key(r) != GOOD:
        return refuse(r, REPLY_BAD_FORMAT, False, 0)
    if r.nkey > KEY_MAX:
        return refuse(r, REPLY_BAD_FORMAT, False, 0)
    r.noreply = False
    return GOT_REQUEST


cdef Parsed read_meta(Request *r, char word, const char *p, const char *end) noexcept nogil:
    cdef uint64_t nbytes = 0
    if word == c'n':
        r.op = OP_MN
        r.noreply = False
        return GOT_REQUEST
    r.key = token_start(p, end)
    p = key_end(r.key, end)
    r.nkey = <uint32_t>(p - r.key)
    r.meta.encoded = False
    if r.nkey == 0:
        return refuse(r, REPLY_BAD_FORMAT, False, 0)
    if word == c'g':
        r.op = OP_MG
    elif word == c'd':
        r.op = OP_MD
    elif word == c'a':
        r.op = OP_MA
    elif word == c'e':
        r.op = OP_ME
        return read_debug(r, p, end)
    else:
        r.op = OP_MS
        if not take_u64(&p, end, &nbytes) or nbytes > NBYTES_MAX:
            return refuse(r, REPLY_BAD_FORMAT, False, 0)
        r.nbytes = <int64_t>nbytes
        return read_line(r, p, end, 3, r.nbytes + 2)
    return read_line(r, p, end, 2, 0)
