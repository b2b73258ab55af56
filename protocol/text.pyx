# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The classic text grammar, as memcached 1.6.45 reads it; the words of two letters are the meta grammar's.

A line ends with LF, a CR before it is dropped; tokens are separated by spaces only, so a tab or a NUL is a byte of a
key. The functions below take `p`, the first unread byte, and `end`, the end of the line's content.

Deliberate differences from memcached: `delete` refuses more than an optional number and noreply after its key (client
suites want that), "noreply" straight after `delete` is a key, and a number has no plus sign.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp

from protocol.meta cimport read_meta
from protocol.reply cimport REPLY_BAD_DELETE, REPLY_BAD_DELTA, REPLY_BAD_EXPTIME, REPLY_BAD_FORMAT, REPLY_ERROR, lines
from protocol.request cimport (
    BAD_REQUEST, GOT_KEYS, GOT_REQUEST, KEY_MAX, KEYS_MAX, LINE_MAX, NEED_DATA,
    OP_ADD, OP_APPEND, OP_CAS, OP_COMMAND, OP_DECR, OP_DELETE, OP_FLUSH_ALL, OP_GAT, OP_GATS, OP_GET, OP_GETS,
    OP_INCR, OP_MA, OP_MD, OP_ME, OP_MG, OP_MN, OP_MS, OP_PREPEND, OP_QUIT, OP_REPLACE, OP_SET, OP_TOUCH, OP_VERSION,
    Meta, Op, Parsed, Request, has_flag,
)
from protocol.tokens cimport NBYTES_MAX, SP, key_end, refuse, take_i32, take_u64, token_end, token_start

cdef enum:
    LF = 0x0a
    CR = 0x0d
    BINARY = 0x80            # first byte of a request in the binary protocol, which this server does not speak


# noreply --------------------------------------------------------------------------------------------------------

cdef bint ends_noreply(const char *p, const char *end) noexcept nogil:
    """Whether the last token of [p, end) is "noreply"; `p` stands between tokens."""
    while end > p and (end - 1)[0] == SP:
        end -= 1
    return end - p >= 7 and memcmp(end - 7, b"noreply", 7) == 0 and (end - p == 7 or (end - 8)[0] == SP)

cdef bint is_last_noreply(const char *p, const char *end) noexcept nogil:
    """Whether [p, end) is "noreply" and nothing else."""
    p = token_start(p, end)
    return token_start(token_end(p, end), end) == end and ends_noreply(p, end)


# Outcomes -------------------------------------------------------------------------------------------------------

cdef Parsed hang_up(Request *r, size_t n) noexcept nogil:
    """BAD_REQUEST that ends the connection without a word: what is spoken here is not this protocol."""
    r.error = NULL
    r.nerror = 0
    r.noreply = False
    r.swallow = 0
    r.close = True
    r.length = n
    return BAD_REQUEST


# One function for each shape of arguments -----------------------------------------------------------------------

cdef inline Parsed read_keys(Request *r, Op op, const char *p, const char *end) noexcept nogil:
    """get, gets: <key>+"""
    p = token_start(p, end)
    if p == end:
        return refuse(r, REPLY_BAD_FORMAT, False, 0)
    r.op = op
    r.noreply = False
    r.key = r.keys = p
    r.nkeys = end - p
    r.nkey = <uint32_t>(key_end(p, end) - p)
    return GOT_REQUEST

cdef Parsed read_gat(Request *r, Op op, const char *p, const char *end) noexcept nogil:
    """gat, gats: <exptime> <key>+"""
    cdef bint good = take_i32(&p, end, &r.exptime)
    if token_start(p, end) == end:
        return refuse(r, REPLY_BAD_FORMAT, False, 0)
    if not good:
        return refuse(r, REPLY_BAD_EXPTIME, False, 0)
    return read_keys(r, op, p, end)

cdef inline bint plain_number(const char **cursor, uint32_t *value) noexcept nogil:
    """Read one space and a number in 1 to 9 digits; what follows those is the caller's to look at. False for anything else."""
    cdef const char *first = cursor[0] + 1
    cdef const char *p = first
    cdef uint32_t v = 0, digit
    if (first - 1)[0] != SP:
        return False
    while True:
        digit = <uint32_t>(<unsigned char>p[0]) - 0x30
        if digit > 9:
            break
        v = v * 10 + digit
        p += 1
    cursor[0] = p
    value[0] = v
    return 0 < p - first < 10

cdef inline bint read_plain(Request *r, const char *p, const char *end) noexcept nogil:
    """<flags> <exptime> <bytes> as nearly every client sends them: small, one space before each, nothing behind."""
    cdef uint32_t flags, exptime, nbytes
    if not (plain_number(&p, &flags) and plain_number(&p, &exptime) and plain_number(&p, &nbytes) and p == end):
        return False
    r.flags = flags
    r.exptime = <int32_t>exptime
    r.nbytes = nbytes
    r.noreply = False
    return True

cdef Parsed read_storage(Request *r, Op op, const char *p, const char *end) noexcept nogil:
    """<key> <flags> <exptime> <bytes> [<cas unique>] [noreply]

    A readable <bytes> decides everything: with it a bad line still loses its data block and obeys noreply; without it
    what follows cannot be told from requests, and the line is answered in any case.
    """
    cdef const char *key = token_start(p, end)
    cdef const char *key_stop = key_end(key, end)
    cdef uint64_t flags = 0, nbytes = 0
    cdef bint good
    r.op = op
    r.key = key
    r.nkey = <uint32_t>(key_stop - key)
    if key_stop - key <= KEY_MAX and op != OP_CAS and read_plain(r, key_stop, end):
        return GOT_REQUEST
    p = key_stop
    good = take_u64(&p, end, &flags)
    good = take_i32(&p, end, &r.exptime) and good
    if not take_u64(&p, end, &nbytes) or nbytes > NBYTES_MAX:
        return refuse(r, REPLY_BAD_FORMAT, False, 0)
    r.noreply = p != end and ends_noreply(p, end)
    if op == OP_CAS:
        good = take_u64(&p, end, &r.number) and good
    if not good or key_stop - key > KEY_MAX:
        return refuse(r, REPLY_BAD_FORMAT, r.noreply, <int64_t>nbytes + 2)
    r.flags = <uint32_t>flags    # beyond 32 bits: the low ones, as memcached keeps them
    r.nbytes = <int64_t>nbytes
    return GOT_REQUEST

cdef Parsed read_one_key(Request *r, Op op, const char *p, const char *end, const char **rest) noexcept nogil:
    """The key of a request without a data block; `rest` is what stands behind it."""
    p = token_start(p, end)
    rest[0] = key_end(p, end)
    r.op = op
    r.noreply = rest[0] != end and ends_noreply(rest[0], end)
    if p == end:
        return refuse(r, REPLY_BAD_FORMAT, False, 0)
    if rest[0] - p > KEY_MAX:
        return refuse(r, REPLY_BAD_FORMAT, r.noreply, 0)
    r.key = p
    r.nkey = <uint32_t>(rest[0] - p)
    return GOT_REQUEST

cdef Parsed read_delete(Request *r, const char *p, const char *end) noexcept nogil:
    """delete: <key> [<number, ignored>] [noreply]"""
    cdef const char *number
    cdef uint64_t ignored = 0
    cdef Parsed parsed = read_one_key(r, OP_DELETE, p, end, &p)
    if parsed != GOT_REQUEST or p == end:
        return parsed
    number = p
    if take_u64(&number, end, &ignored):
        p = number
    if is_last_noreply(p, end) or token_start(p, end) == end:
        return GOT_REQUEST
    return refuse(r, REPLY_BAD_DELETE, r.noreply, 0)

cdef Parsed read_argument(Request *r, Op op, const char *p, const char *end) noexcept nogil:
    """incr, decr: <key> <delta> [noreply]; touch: <key> <exptime> [noreply]"""
    cdef Parsed parsed = read_one_key(r, op, p, end, &p)
    if token_start(p, end) == end:
        return refuse(r, REPLY_BAD_FORMAT, False, 0)
    if parsed != GOT_REQUEST:
        return parsed
    if op == OP_TOUCH:
        if not take_i32(&p, end, &r.exptime):
            return refuse(r, REPLY_BAD_EXPTIME, r.noreply, 0)
    elif not take_u64(&p, end, &r.number):
        return refuse(r, REPLY_BAD_DELTA, r.noreply, 0)
    return GOT_REQUEST

cdef Parsed read_flush(Request *r, const char *p, const char *end) noexcept nogil:
    """flush_all: [<exptime>] [noreply]"""
    r.op = OP_FLUSH_ALL
    r.exptime = 0
    r.noreply = ends_noreply(p, end)
    r.has_exptime = token_start(p, end) != end and not is_last_noreply(p, end)
    r.error = NULL
    if r.has_exptime and not take_i32(&p, end, &r.exptime):
        # Not refused here: it counts as a flush, and where flushing is not allowed that is the answer.
        r.error = lines[<int>REPLY_BAD_EXPTIME].text
        r.nerror = lines[<int>REPLY_BAD_EXPTIME].len
    return GOT_REQUEST

cdef Parsed read_bare(Request *r, Op op) noexcept nogil:
    """version, quit: arguments are not looked at."""
    r.op = op
    r.noreply = False
    return GOT_REQUEST

cdef Parsed read_command(Request *r, const char *line, const char *word, const char *end) noexcept nogil:
    """Any other word (it ends at `word`): the caller's table knows it, or nobody does."""
    cdef const char *last = end
    if word == line:
        # A leading space, or nothing at all.
        return refuse(r, REPLY_BAD_FORMAT if end - line < 2 else REPLY_ERROR, False, 0)
    if end - line < 2:
        return refuse(r, REPLY_BAD_FORMAT, False, 0)
    while last > word and (last - 1)[0] == SP:
        last -= 1
    end = last
    while last > word and (last - 1)[0] != SP:
        last -= 1
    # A browser that was lured here: "POST / HTTP/1.1" must not go on to run the body as commands.
    if last > word and end - last >= 5 and memcmp(last, b"HTTP/", 5) == 0:
        return hang_up(r, r.length)
    r.op = OP_COMMAND
    r.noreply = False
    r.line = line
    r.nline = end - line
    return GOT_REQUEST


cdef bint read_login(const char *line, const char *end, uint64_t *nbytes) noexcept nogil:
    cdef const char *p = token_end(line, end)
    cdef int token
    if p - line != 3 or memcmp(line, b"set", 3) != 0:
        return False
    for token in range(3):
        p = token_end(token_start(p, end), end)
    return take_u64(&p, end, nbytes) and nbytes[0] <= NBYTES_MAX


# The whole line -------------------------------------------------------------------------------------------------

cdef Parsed read_line(Request *r, const char *line, const char *end) noexcept nogil:
    """Dispatch by the length of the first word, then by the word; `line` may be empty."""
    cdef const char *word = token_end(line, end)
    cdef size_t n = word - line
    if n == 3:
        if memcmp(line, b"set", 3) == 0: return read_storage(r, OP_SET, word, end)
        if memcmp(line, b"get", 3) == 0: return read_keys(r, OP_GET, word, end)
        if memcmp(line, b"add", 3) == 0: return read_storage(r, OP_ADD, word, end)
        if memcmp(line, b"cas", 3) == 0: return read_storage(r, OP_CAS, word, end)
        if memcmp(line, b"gat", 3) == 0: return read_gat(r, OP_GAT, word, end)
    elif n == 4:
        if memcmp(line, b"gets", 4) == 0: return read_keys(r, OP_GETS, word, end)
        if memcmp(line, b"incr", 4) == 0: return read_argument(r, OP_INCR, word, end)
        if memcmp(line, b"decr", 4) == 0: return read_argument(r, OP_DECR, word, end)
        if memcmp(line, b"gats", 4) == 0: return read_gat(r, OP_GATS, word, end)
        if memcmp(line, b"quit", 4) == 0: return read_bare(r, OP_QUIT)
    elif n == 5:
        if memcmp(line, b"touch", 5) == 0: return read_argument(r, OP_TOUCH, word, end)
    elif n == 6:
        if memcmp(line, b"delete", 6) == 0: return read_delete(r, word, end)
        if memcmp(line, b"append", 6) == 0: return read_storage(r, OP_APPEND, word, end)
    elif n == 7:
        if memcmp(line, b"replace", 7) == 0: return read_storage(r, OP_REPLACE, word, end)
        if memcmp(line, b"prepend", 7) == 0: return read_storage(r, OP_PREPEND, word, end)
        if memcmp(line, b"version", 7) == 0: return read_bare(r, OP_VERSION)
    elif n == 9:
        if memcmp(line, b"flush_all", 9) == 0: return read_flush(r, word, end)
    elif n == 2 and line[0] == 0x6d and memchr(b"gsdnae", line[1], 6) != NULL:
        return read_meta(r, line[1], word, end)
    return read_command(r, line, word, end)

cdef Parsed read_unfinished(const char *buf, size_t n, Request *r) noexcept nogil:
    """`n` bytes without an LF: wait, hand out the keys that are here, or give up."""
    cdef size_t word
    if n <= LINE_MAX:
        return NEED_DATA
    if memcmp(buf, b"get ", 4) == 0:
        word = 4
    elif memcmp(buf, b"gets ", 5) == 0:
        word = 5
    else:
        return hang_up(r, n)
    if n <= KEYS_MAX:
        return NEED_DATA
    if read_keys(r, OP_GET if word == 4 else OP_GETS, buf + word, buf + n) != GOT_REQUEST:
        return hang_up(r, n)    # nothing but spaces
    r.length = n
    return GOT_KEYS

cdef Parsed parse(const char *buf, size_t n, Request *r) noexcept nogil:
    cdef const char *lf
    cdef const char *end
    if n == 0:
        return NEED_DATA
    if <unsigned char>buf[0] == BINARY:
        return hang_up(r, n)
    lf = <const char *>memchr(buf, LF, n)
    if lf == NULL:
        return read_unfinished(buf, n, r)
    end = lf - 1 if lf > buf and (lf - 1)[0] == CR else lf
    r.length = lf - buf + 1
    # Most requests of a cache are this one.
    if end - buf > 4 and memcmp(buf, b"get ", 4) == 0:
        return read_keys(r, OP_GET, buf + 4, end)
    return read_line(r, buf, end)


# The Python face ------------------------------------------------------------------------------------------------

OPS = {
    OP_GET: "get", OP_GETS: "gets", OP_GAT: "gat", OP_GATS: "gats", OP_SET: "set", OP_ADD: "add",
    OP_REPLACE: "replace", OP_APPEND: "append", OP_PREPEND: "prepend", OP_CAS: "cas", OP_DELETE: "delete",
    OP_INCR: "incr", OP_DECR: "decr", OP_TOUCH: "touch", OP_FLUSH_ALL: "flush_all", OP_VERSION: "version",
    OP_QUIT: "quit", OP_COMMAND: "command", OP_MG: "mg", OP_MS: "ms", OP_MD: "md", OP_MA: "ma", OP_ME: "me", OP_MN: "mn",
}

cdef dict request_fields(const Request *r):
    """The fields that text.pxd promises for this operation."""
    cdef dict fields = {"op": OPS[r.op], "noreply": bool(r.noreply), "length": r.length}
    if r.op in (OP_FLUSH_ALL, OP_VERSION, OP_QUIT, OP_MN):
        pass
    elif r.op == OP_COMMAND:
        fields["line"] = r.line[:r.nline]
    else:
        fields["key"] = r.key[:r.nkey]
    if r.op in (OP_GET, OP_GETS, OP_GAT, OP_GATS):
        fields["keys"] = r.keys[:r.nkeys]
    if r.op in (OP_SET, OP_ADD, OP_REPLACE, OP_APPEND, OP_PREPEND, OP_CAS):
        fields.update(flags=r.flags, exptime=r.exptime, nbytes=r.nbytes)
    if r.op in (OP_GAT, OP_GATS, OP_TOUCH, OP_FLUSH_ALL):
        fields["exptime"] = r.exptime
    if r.op == OP_FLUSH_ALL:
        fields["has_exptime"] = bool(r.has_exptime)
        fields["error"] = None if r.error == NULL else r.error[:r.nerror]
    if r.op in (OP_CAS, OP_INCR, OP_DECR):
        fields["number"] = r.number
    if r.op in (OP_MG, OP_MS, OP_MD, OP_MA, OP_ME):
        fields["encoded"] = bool(r.meta.encoded)
    if r.op == OP_MS:
        fields["nbytes"] = r.nbytes
    if r.op in (OP_MG, OP_MS, OP_MD, OP_MA):
        fields.update(meta_fields(r))
    return fields

cdef dict meta_fields(const Request *r):
    """The flags of a meta command; numbers only where their flag stands in the line."""
    cdef const Meta *m = &r.meta
    cdef dict numbers = {
        "C": r.number, "D": m.delta, "E": m.cas, "F": r.flags, "J": m.initial, "N": m.vivify, "R": m.recache,
        "T": r.exptime, "M": chr(m.mode & 255),
    }
    cdef dict fields = {letter: numbers[letter] for letter in numbers if has_flag(m, ord(letter))}
    fields["flags"] = "".join(chr(letter) for letter in range(0x41, 0x7b) if has_flag(m, letter))
    fields["returns"] = m.echo.returns[:m.echo.nreturns].decode()
    if m.echo.nopaque:
        fields["opaque"] = m.echo.opaque[:m.echo.nopaque]
    return fields

def parse_request(data) -> tuple:
    cdef Request r
    cdef Parsed parsed
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        parsed = parse(<const char *>view.buf, view.len, &r)
        if parsed == NEED_DATA:
            return "NEED_DATA", {}
        if parsed == BAD_REQUEST:
            return "BAD_REQUEST", {
                "error": None if r.error == NULL else r.error[:r.nerror],
                "noreply": bool(r.noreply), "swallow": r.swallow, "close": bool(r.close), "length": r.length,
            }
        return "GOT_KEYS" if parsed == GOT_KEYS else "GOT_REQUEST", request_fields(&r)
    finally:
        PyBuffer_Release(&view)
