# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""How an event reads: see eventline.pxd."""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, strlen

from cacheserver.store.journal cimport CONN_CLOSE, ITEM_DELETED, ITEM_EVICTED, ITEM_GET, ITEM_STORE, Record
from protocol.reply cimport format_u64
from protocol.uri cimport format_uri

# Each in the order of its enum: Found, Outcome, PutMode, DeletedBy, CloseReason, Transport.
cdef extern from *:
    """
    static const char *const watch_found[] = {"not_found", "found", "expired"};
    static const char *const watch_outcomes[] = {
        "stored", "not_stored", "exists", "not_found", "too_large", "no_memory"};
    static const char *const watch_modes[] = {"set", "add", "replace", "append", "prepend", "cas"};
    static const char *const watch_deleted_by[] = {"null", "delete", "md"};
    static const char *const watch_reasons[] = {"error", "normal", "idle_timeout", "shutdown"};
    static const char *const watch_transports[] = {"local", "tcp", "udp"};
    """
    const char *const FOUND "watch_found"[]
    const char *const OUTCOMES "watch_outcomes"[]
    const char *const MODES "watch_modes"[]
    const char *const DELETED_BY "watch_deleted_by"[]
    const char *const REASONS "watch_reasons"[]
    const char *const TRANSPORTS "watch_transports"[]


cdef inline char *text(char *p, const char *s) noexcept nogil:
    cdef size_t n = strlen(s)
    memcpy(p, s, n)
    return p + n


cdef inline char *number(char *p, const char *name, int64_t value) noexcept nogil:
    p = text(p, name)
    if value < 0:
        p[0] = 0x2d
        p += 1
        value = -value
    return p + format_u64(p, <uint64_t>value)


cdef inline char *name(char *p, const char *field, const char *const *names, uint32_t count, uint32_t which) noexcept nogil:
    if which >= count:
        return text(text(p, field), b"null")
    return text(text(p, field), names[which])


cdef char *begin_line(char *p, Record *r) noexcept nogil:
    """The time, with six digits of microseconds, and the number."""
    cdef uint64_t micros = <uint64_t>r.when % 1000000
    cdef uint64_t digit = 100000
    p = number(p, b"ts=", r.when // 1000000)
    p[0] = 0x2e
    p += 1
    while digit:
        p[0] = <char>(0x30 + micros // digit % 10)
        p += 1
        digit //= 10
    return number(p, b" gid=", <int64_t>r.gid)


cdef uint32_t format_line(char *line, Record *r, const char *key) noexcept nogil:
    """Write the line of a record at `line` (LINE_ROOM bytes), its LF included; returns its bytes."""
    cdef char *p = begin_line(line, r)
    if r.what >= ITEM_EVICTED + 1:
        p = text(p, b" type=conn_close rip=" if r.what == CONN_CLOSE else b" type=conn_new rip=")
        memcpy(p, key, r.nkey)
        p = number(p + r.nkey, b" rport=", r.nbytes)
        p = name(p, b" transport=", TRANSPORTS, 3, r.command)
        if r.what == CONN_CLOSE:
            p = name(p, b" reason=", REASONS, 4, r.status)
        p = number(p, b" cfd=", r.cfd)
        p[0] = 0x0a
        return <uint32_t>(p + 1 - line)
    if r.what == ITEM_GET:
        p = text(p, b" type=item_get key=")
    elif r.what == ITEM_STORE:
        p = text(p, b" type=item_store key=")
    else:
        p = text(p, b" type=deleted key=" if r.what == ITEM_DELETED else b" type=eviction key=")
    p += format_uri(p, key, r.nkey)
    if r.what == ITEM_GET:
        p = name(p, b" status=", FOUND, 3, r.status)
    elif r.what == ITEM_STORE:
        p = name(p, b" status=", OUTCOMES, 6, r.status)
        p = name(p, b" cmd=", MODES, 6, r.command)
        p = number(p, b" ttl=", r.ttl)
    elif r.what == ITEM_DELETED:
        p = name(p, b" cmd=", DELETED_BY, 3, r.command)
    else:
        p = text(p, b" fetch=yes" if r.fetched else b" fetch=no")
        p = number(number(p, b" ttl=", r.ttl), b" la=", r.age)
    p = number(p, b" clsid=", r.clsid)
    if r.what == ITEM_GET or r.what == ITEM_STORE:
        p = number(p, b" cfd=", r.cfd)
    p = number(p, b" size=", r.nbytes)
    p[0] = 0x0a
    return <uint32_t>(p + 1 - line)


cdef uint32_t format_skipped(char *line, uint64_t count) noexcept nogil:
    """Write at `line` (SKIPPED_ROOM bytes) how many lines are missing; returns its bytes."""
    cdef char *p = number(line, b"skipped=", <int64_t>count)
    p[0] = 0x0a
    return <uint32_t>(p + 1 - line)
