# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Logging in: see login.pxd."""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memchr

from cacheserver.output cimport Writer, put_line
from cacheserver.session cimport (
    AUTH_CMDS, AUTH_ERRORS, COMMAND, FEED_CLOSE, FEED_COMMAND, FEED_MORE, SWALLOW, EngineC, Feed, Session,
)
from protocol.buffer cimport buffer_put, buffer_reserve
from protocol.reply cimport REPLY_BAD_LOGIN, REPLY_BAD_LOGIN_END, REPLY_LOGIN_FAILED, REPLY_UNAUTHENTICATED
from protocol.request cimport LINE_MAX
from protocol.text cimport read_login

cdef enum:
    CR = 0x0d
    LF = 0x0a
    SP = 0x20
    TOKEN_MAX = 1024         # bytes of a token; an entry of the users' file has at most 255


cdef Feed login(EngineC *e, Session *s, Writer *w, const char *p, size_t n, size_t *used, bint *wait) noexcept nogil:
    """One line, and the block behind it if it is a login; `wait`: it is not all here."""
    cdef const char *lf = <const char *>memchr(p, LF, n)
    cdef const char *end = lf
    cdef const char *token
    cdef uint64_t size = 0
    if lf == NULL:
        wait[0] = True
        return FEED_CLOSE if n > LINE_MAX else FEED_MORE
    if lf > p and (lf - 1)[0] == CR:
        end = lf - 1
    token = lf + 1
    used[0] = token - p
    if end - p > LINE_MAX or not read_login(p, end, &size):
        put_line(w, REPLY_UNAUTHENTICATED)
        return FEED_MORE
    if size > TOKEN_MAX:
        # No user has that: the answer is clear before the block is here, and the block need not be kept.
        e.counters[AUTH_CMDS] += 1
        e.counters[AUTH_ERRORS] += 1
        put_line(w, REPLY_LOGIN_FAILED)
        s.mode = SWALLOW
        s.remaining = <int64_t>size + 2
        return FEED_MORE
    if n - used[0] < size + 2:
        used[0] = 0
        wait[0] = True
        return FEED_MORE
    used[0] += size + 2
    return take_token(s, w, token, <size_t>size)


cdef Feed take_token(Session *s, Writer *w, const char *token, size_t size) noexcept nogil:
    """Keep a whole token for Python to check, or say what is wrong with its form."""
    if token[size] != CR or token[size + 1] != LF:
        put_line(w, REPLY_BAD_LOGIN_END)
        return FEED_MORE
    if memchr(token, SP, size) == NULL:
        put_line(w, REPLY_BAD_LOGIN)
        return FEED_MORE
    s.command.len = 0
    if not buffer_reserve(&s.command, size):
        return FEED_CLOSE
    buffer_put(&s.command, token, size)
    s.mode = COMMAND
    return FEED_COMMAND
