# cython: language_level=3
"""What the grammars share: stepping from token to token, numbers, and the outcome of a line that is refused.

Knows: spaces, decimal digits, the fields of a refusal. Must not know: any command. Memory: spans of the caller's buffer.
The functions take `p`, the first unread byte, and `end`, the end of the line's (or the token's) content: a byte that may
be read, the space, CR or LF behind it, and so neither a digit nor a sign.
Threads: no state; any thread.
"""
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memchr

from protocol.reply cimport Status, lines
from protocol.request cimport BAD_REQUEST, Parsed, Request

cdef enum:
    SP = 0x20
    NBYTES_MAX = 2147483645  # largest data block a line may announce: with its CRLF it still fits 31 bits


cdef inline const char *token_start(const char *p, const char *end) noexcept nogil:
    """Step over spaces; `end` if nothing else is left."""
    while p < end and p[0] == SP:
        p += 1
    return p

cdef inline const char *token_end(const char *p, const char *end) noexcept nogil:
    """The first space at or after `p`, or `end`."""
    while p < end and p[0] != SP:
        p += 1
    return p

cdef inline const char *key_end(const char *p, const char *end) noexcept nogil:
    """token_end() for tokens that are usually long."""
    cdef const char *space = <const char *>memchr(p, SP, end - p)
    return end if space == NULL else space

cdef inline bint take_digits(const char **cursor, const char *first, const char *end, uint64_t *value) noexcept nogil:
    """Read a token that begins at `first` as take_u64() does."""
    cdef const char *p = first
    cdef uint64_t v = 0
    cdef uint32_t digit
    while True:
        digit = <uint32_t>(<unsigned char>p[0]) - 0x30
        if digit > 9:
            break
        v = v * 10 + digit
        p += 1
    cursor[0] = p
    value[0] = v
    if p == first or (p != end and p[0] != SP):
        cursor[0] = token_end(p, end)
        return False
    if p - first < 20:
        return True
    # 20 digits beginning with 1 wrapped exactly if less than 10**19 is left of them.
    return p - first == 20 and (first[0] == 0x30 or (first[0] == 0x31 and v >= <uint64_t>10000000000000000000))

cdef inline bint take_u64(const char **cursor, const char *end, uint64_t *value) noexcept nogil:
    """Read the next token as 0..2**64-1 in 1..20 digits; False for anything else. Always steps behind the token."""
    return take_digits(cursor, token_start(cursor[0], end), end, value)

cdef inline bint take_i32(const char **cursor, const char *end, int32_t *value) noexcept nogil:
    """Read the next token as -2**31..2**31-1; False for anything else. Always steps behind the token."""
    cdef const char *first = token_start(cursor[0], end)
    cdef uint64_t v = 0
    cdef bint negative = first[0] == 0x2d
    cdef bint good = take_digits(cursor, first + negative, end, &v) and v <= <uint64_t>2147483647 + negative
    value[0] = <int32_t>(-<int64_t>v if negative else <int64_t>v)
    return good

cdef inline Parsed refuse(Request *r, Status why, bint noreply, int64_t swallow) noexcept nogil:
    """BAD_REQUEST with an error line; `r.length` is set already."""
    r.error = lines[<int>why].text
    r.nerror = lines[<int>why].len
    r.noreply = noreply
    r.swallow = swallow
    r.close = False
    return BAD_REQUEST
