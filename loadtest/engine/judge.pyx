# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Replies, in place, in pieces as they come: see judge.pxd.

Knows: the replies of memcached's text protocol, of its meta commands and of RESP 2. Must not know: sockets. Memory:
nothing of its own; a value is compared as it comes, never gathered. Threads: the caller's.

Replies come in the order of the requests, and within one reply in the order of its keys. What is neither an answer
nor an error that the protocol knows ends the load: from there on nothing can be told apart.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memchr, memcmp

from loadtest.engine.content cimport KEY_MAX, key_put, value_is, value_size
from loadtest.engine.desk cimport (
    ANY_SIZE, FILL, GET, META, NONE, SET, STRANGE, TEXT, UNASKED, Asked, Desk, Key, Talk, key_of, miss, oldest, say,
)
from loadtest.engine.histogram cimport hist_add

cdef enum:
    EOL = 2                     # bytes of the end of a line
    DIGITS_MAX = 12


cdef inline bint starts(const uint8_t *p, int64_t n, const char *text, int64_t length) noexcept nogil:
    return n >= length and memcmp(p, text, length) == 0


cdef inline bint is_code(const uint8_t *p, int64_t n, const char *code) noexcept nogil:
    """Whether the line begins with this return code of the meta commands, two letters."""
    return n >= 2 and memcmp(p, code, 2) == 0 and (n == 2 or p[2] == c" ")


cdef inline void finish(Desk *d, Talk *t, int64_t now) noexcept nogil:
    """The oldest request has its reply."""
    cdef Asked *a = oldest(t)
    if a.verb != FILL:
        d.tally.requests += 1
        hist_add(d.service, now - a.sent)
        if d.open_loop:
            hist_add(d.latency, now - a.due)
        if a.verb == SET:
            hist_add(d.sets, now - (a.due if d.open_loop else a.sent))
    t.keys_head += a.keys
    t.keys_count -= a.keys
    t.asked_head += 1
    t.asked_count -= 1
    t.passed = 0
    t.listed = False


cdef inline void complain(Desk *d, const uint8_t *p, int64_t n) noexcept nogil:
    """Keep the first error to be shown."""
    if d.complaint[0] == 0:
        say(d.complaint, p, n)


cdef inline void missed(Desk *d, Talk *t) noexcept nogil:
    """The next key of the oldest request is not there."""
    d.tally.misses += 1
    if d.fill:
        miss(d, key_of(t, t.passed))
    t.passed += 1


cdef inline void passed(Desk *d, Talk *t, int64_t now) noexcept nogil:
    """meta, resp: the next key has its answer, and so has the request after its last one."""
    if t.passed == oldest(t).keys:
        finish(d, t, now)


cdef inline void value_begins(Talk *t, int64_t size) noexcept nogil:
    t.value = size
    t.left = size + EOL
    t.spoiled = False


cdef void value_ends(Desk *d, Talk *t, int64_t now) noexcept nogil:
    cdef Key *key = key_of(t, t.passed)
    d.tally.hits += 1
    if d.verify and (t.spoiled or (key.size == ANY_SIZE and t.value != value_size(&d.content, key.number))):
        d.tally.wrong += 1
    t.passed += 1
    if d.protocol != TEXT:
        passed(d, t, now)


cdef const uint8_t *value_comes(Desk *d, Talk *t, const uint8_t *p, const uint8_t *end, int64_t now) noexcept nogil:
    """Take bytes of a value and of the end of its line; returns what follows them."""
    cdef int64_t n = end - p
    if t.left > EOL:
        if n > t.left - EOL:
            n = t.left - EOL
        if d.verify and not t.spoiled:
            t.spoiled = not value_is(&d.content, key_of(t, t.passed).number, t.value - (t.left - EOL), p, n)
        p += n
        t.left -= n
    while p < end and 0 < t.left <= EOL:
        if p[0] != (c"\r" if t.left == EOL else c"\n"):
            d.trouble = STRANGE
            say(d.said, <const uint8_t *>b"(a value without its end)", 25)
            return end
        p += 1
        t.left -= 1
    if t.left == 0:
        value_ends(d, t, now)
    return p


cdef inline int64_t number(const uint8_t *p, int64_t n, int64_t *end) noexcept nogil:
    """The number that begins at `p`, and how many bytes it has; -1 where there is none."""
    cdef int64_t found = 0
    cdef int64_t i = 0
    while i < n and c"0" <= p[i] <= c"9" and i < DIGITS_MAX:
        found = found * 10 + (p[i] - c"0")
        i += 1
    end[0] = i
    return found if i else -1


cdef bint is_error(const uint8_t *p, int64_t n) noexcept nogil:
    """The errors of memcached's protocols."""
    return starts(p, n, b"SERVER_ERROR", 12) or starts(p, n, b"CLIENT_ERROR", 12) or starts(p, n, b"ERROR", 5)


cdef void stored(Desk *d, Talk *t, const uint8_t *p, int64_t n, bint taken, bint refused, int64_t now) noexcept nogil:
    """A set has its reply: taken, refused, or else an error."""
    if oldest(t).verb == SET:
        d.tally.sets += 1
    else:
        d.tally.fills += 1
    if taken:
        d.tally.stored += 1
    else:
        complain(d, p, n)
        if refused:
            d.tally.refused += 1
        else:
            d.tally.errors += 1
    finish(d, t, now)


cdef bint text_value(Desk *d, Talk *t, const uint8_t *p, int64_t n) noexcept nogil:
    """VALUE <key> <flags> <bytes>: the value of one of the keys that were asked for, or False."""
    cdef uint8_t name[KEY_MAX + 32]
    cdef uint32_t keys = oldest(t).keys
    cdef int64_t at = n
    cdef int64_t length, size
    while t.passed < keys and d.apart:
        length = key_put(&d.content, name, key_of(t, t.passed).number)
        if n > 6 + length and p[6 + length] == c" " and memcmp(p + 6, name, length) == 0:
            break
        missed(d, t)
    if t.passed == keys:
        return False
    while at > 6 and p[at - 1] != c" ":
        at -= 1
    size = number(p + at, n - at, &length)
    if size < 0 or at + length != n:
        return False
    value_begins(t, size)
    return True


cdef bint text_line(Desk *d, Talk *t, const uint8_t *p, int64_t n, int64_t now) noexcept nogil:
    """A line of the text protocol; False where the request cannot have it for an answer."""
    cdef Asked *a = oldest(t)
    if a.verb == GET:
        if starts(p, n, b"VALUE ", 6):
            return text_value(d, t, p, n)
        if n == 3 and starts(p, n, b"END", 3):
            if d.fill:
                while t.passed < a.keys:
                    missed(d, t)
            d.tally.misses += a.keys - t.passed
            finish(d, t, now)
            return True
        if is_error(p, n):
            d.tally.errors += 1
            complain(d, p, n)
            finish(d, t, now)
            return True
        return False
    if n == 6 and starts(p, n, b"STORED", 6):
        stored(d, t, p, n, True, False, now)
    elif starts(p, n, b"NOT_STORED", 10) or starts(p, n, b"SERVER_ERROR", 12):
        stored(d, t, p, n, False, True, now)
    elif is_error(p, n):
        stored(d, t, p, n, False, False, now)
    else:
        return False
    return True


cdef bint meta_line(Desk *d, Talk *t, const uint8_t *p, int64_t n, int64_t now) noexcept nogil:
    """A line of the meta commands; False where the request cannot have it for an answer."""
    cdef int64_t size, length
    if oldest(t).verb == GET:
        if starts(p, n, b"VA ", 3):
            size = number(p + 3, n - 3, &length)
            if size < 0 or (n > 3 + length and p[3 + length] != c" "):
                return False
            value_begins(t, size)
            return True
        if is_code(p, n, b"EN"):
            missed(d, t)
        elif is_error(p, n):
            d.tally.errors += 1
            complain(d, p, n)
            t.passed += 1
        else:
            return False
        passed(d, t, now)
        return True
    if is_code(p, n, b"HD"):
        stored(d, t, p, n, True, False, now)
    elif is_code(p, n, b"NS") or starts(p, n, b"SERVER_ERROR", 12):
        stored(d, t, p, n, False, True, now)
    elif is_error(p, n):
        stored(d, t, p, n, False, False, now)
    else:
        return False
    return True


cdef bint resp_line(Desk *d, Talk *t, const uint8_t *p, int64_t n, int64_t now) noexcept nogil:
    """A line of RESP; False where the request cannot have it for an answer."""
    cdef Asked *a = oldest(t)
    cdef int64_t size, length
    if n < 1:
        return False
    if a.verb != GET:
        if p[0] == c"+":
            stored(d, t, p, n, True, False, now)
        elif p[0] == c"-":
            stored(d, t, p, n, False, starts(p, n, b"-OOM", 4), now)
        else:
            return False
        return True
    if p[0] == c"-":
        d.tally.errors += 1
        complain(d, p, n)
        t.passed += 1
        if a.keys == 1 or not t.listed:
            finish(d, t, now)
        else:
            passed(d, t, now)
        return True
    if a.keys > 1 and not t.listed:
        t.listed = p[0] == c"*" and number(p + 1, n - 1, &length) == a.keys
        return t.listed
    if n == 3 and starts(p, n, b"$-1", 3):
        missed(d, t)
        passed(d, t, now)
        return True
    if p[0] != c"$":
        return False
    size = number(p + 1, n - 1, &length)
    if size < 0 or length != n - 1:
        return False
    value_begins(t, size)
    return True


# -- what nearly every reply is, taken at a glance --


cdef inline const uint8_t *text_hit(Desk *d, Talk *t, const uint8_t *p, const uint8_t *end) noexcept nogil:
    """Take one value of the text protocol that is here as a whole; returns what follows it, NULL: look closer.

    Only where keys are not told apart. What is not as it should be is left to those who say what it is.
    """
    cdef Asked *a = oldest(t)
    cdef const uint8_t *line = p
    cdef const uint8_t *nl
    cdef int64_t size = 0
    cdef int64_t scale = 1
    if a.verb != GET or t.passed == a.keys or not starts(p, end - p, b"VALUE ", 6):
        return NULL
    nl = <const uint8_t *>memchr(p + 6, c"\n", end - p - 6)
    if nl == NULL or nl - p > LINE_MAX:
        return NULL
    p = nl - 1
    if p[0] != c"\r":
        return NULL
    p -= 1
    while c"0" <= p[0] <= c"9" and p > nl - DIGITS_MAX:
        size += scale * (p[0] - c"0")
        scale *= 10
        p -= 1
    if p[0] != c" " or scale == 1 or p - line < 6 or end - nl <= size + EOL:
        return NULL
    p = nl + 1 + size
    if p[0] != c"\r" or p[1] != c"\n":
        return NULL
    d.tally.hits += 1
    t.passed += 1
    return p + EOL


cdef inline const uint8_t *text_glance(Desk *d, Talk *t, const uint8_t *p, const uint8_t *end,
                                       int64_t now) noexcept nogil:
    """Take what goes well and is here as a whole; returns where something else begins, or `end`."""
    cdef const uint8_t *next
    while t.asked_count:
        if p[0] == c"S":
            if oldest(t).verb == GET or not starts(p, end - p, b"STORED\r\n", 8):
                break
            stored(d, t, p, 6, True, False, now)
            p += 8
        elif p[0] == c"E":
            if oldest(t).verb != GET or not starts(p, end - p, b"END\r\n", 5) or t.passed != oldest(t).keys:
                break
            finish(d, t, now)
            p += 5
        else:
            next = text_hit(d, t, p, end)
            if next == NULL:
                break
            p = next
        if p == end:
            break
    return p


cdef const uint8_t *judge(Desk *d, Talk *t, const uint8_t *p, const uint8_t *end, int64_t now) noexcept nogil:
    """Take the bytes from `p` to `end`, which came at `now`; returns where an unfinished line begins, or `end`.

    Trouble, if any, stands on the desk; then nothing more can be made of this connection. Missed keys that are
    to be filled stand there, too, for the caller to take.
    """
    cdef const uint8_t *nl
    cdef int64_t n
    cdef bint good
    cdef bint glance = d.protocol == TEXT and not d.apart
    while p < end and d.trouble == NONE:
        if t.left:
            p = value_comes(d, t, p, end, now)
            continue
        if glance:
            p = text_glance(d, t, p, end, now)
            if p == end:
                break
        nl = <const uint8_t *>memchr(p, c"\n", end - p)
        if nl == NULL and end - p < LINE_MAX:
            return p
        n = nl - p if nl != NULL else LINE_MAX
        if n and p[n - 1] == c"\r":
            n -= 1
        if nl == NULL:
            good = False
        elif t.asked_count == 0:
            d.trouble = UNASKED
            good = True
            say(d.said, p, n)
        elif d.protocol == TEXT:
            good = text_line(d, t, p, n, now)
        elif d.protocol == META:
            good = meta_line(d, t, p, n, now)
        else:
            good = resp_line(d, t, p, n, now)
        if not good:
            d.trouble = STRANGE
            say(d.said, p, n)
        if d.trouble != NONE:
            return end
        p = nl + 1
    return p
