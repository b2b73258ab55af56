# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The Python face of the replies: what the inline functions of reply.pxd write, as bytes.

Knows: reply.pxd. Must not know: anything else. For tests and for code that answers rarely.
"""
from libc.stdint cimport uint32_t, uint64_t

from protocol.buffer cimport WriteBuffer
from protocol.request cimport KEY_MAX

STATUSES = {
    "STORED": REPLY_STORED,
    "NOT_STORED": REPLY_NOT_STORED,
    "EXISTS": REPLY_EXISTS,
    "NOT_FOUND": REPLY_NOT_FOUND,
    "DELETED": REPLY_DELETED,
    "TOUCHED": REPLY_TOUCHED,
    "OK": REPLY_OK,
    "END": REPLY_END,
    "ERROR": REPLY_ERROR,
    "BAD_FORMAT": REPLY_BAD_FORMAT,
    "BAD_DELETE": REPLY_BAD_DELETE,
    "BAD_EXPTIME": REPLY_BAD_EXPTIME,
    "BAD_DELTA": REPLY_BAD_DELTA,
    "BAD_CHUNK": REPLY_BAD_CHUNK,
    "NON_NUMERIC": REPLY_NON_NUMERIC,
    "DUPLICATE_FLAG": REPLY_DUPLICATE_FLAG,
    "UNKNOWN_FLAG": REPLY_UNKNOWN_FLAG,
    "BAD_FLAG": REPLY_BAD_FLAG,
    "MANY_FLAGS": REPLY_MANY_FLAGS,
    "BAD_TOKEN": REPLY_BAD_TOKEN,
    "LONG_OPAQUE": REPLY_LONG_OPAQUE,
    "BAD_KEY": REPLY_BAD_KEY,
    "BAD_INITIAL": REPLY_BAD_INITIAL,
    "BAD_STEP": REPLY_BAD_STEP,
    "BAD_SET_MODE": REPLY_BAD_SET_MODE,
    "BAD_ARITHMETIC_MODE": REPLY_BAD_ARITHMETIC_MODE,
    "TOO_LARGE": REPLY_TOO_LARGE,
    "NO_MEMORY": REPLY_NO_MEMORY,
    "NO_MEMORY_READING": REPLY_NO_MEMORY_READING,
    "FLUSH_REFUSED": REPLY_FLUSH_REFUSED,
    "UNAUTHENTICATED": REPLY_UNAUTHENTICATED,
    "LOGIN_FAILED": REPLY_LOGIN_FAILED,
    "BAD_LOGIN": REPLY_BAD_LOGIN,
    "BAD_LOGIN_END": REPLY_BAD_LOGIN_END,
    "TOO_MANY": REPLY_TOO_MANY,
}

if NLINES != REPLY_STATUS_COUNT or len(STATUSES) != REPLY_STATUS_COUNT:
    raise ImportError("protocol.reply: the statuses and their lines do not match; fix protocol/reply.pxd")


def status_line(str name not None) -> bytes:
    cdef char room[LINE_REPLY_MAX]
    cdef WriteBuffer b
    b.data, b.len, b.cap = room, 0, LINE_REPLY_MAX
    put_status(&b, <Status><int>STATUSES[name])
    return b.data[:b.len]


def value_head(bytes key not None, uint32_t flags, uint64_t nbytes, cas=None) -> bytes:
    cdef char room[VALUE_HEAD_MAX]
    cdef WriteBuffer b
    if not 1 <= len(key) <= KEY_MAX:
        raise ValueError(f"a key has 1 to {KEY_MAX} bytes, not {len(key)}")
    b.data, b.len, b.cap = room, 0, VALUE_HEAD_MAX
    put_value(&b, key, <uint32_t>len(key), flags, nbytes, cas is not None, <uint64_t>(0 if cas is None else cas))
    return b.data[:b.len]


def number_line(uint64_t value) -> bytes:
    cdef char room[LINE_REPLY_MAX]
    cdef WriteBuffer b
    b.data, b.len, b.cap = room, 0, LINE_REPLY_MAX
    put_number(&b, value)
    return b.data[:b.len]


def version_line(bytes version not None) -> bytes:
    cdef char room[LINE_REPLY_MAX]
    cdef WriteBuffer b
    if len(version) > LINE_REPLY_MAX - 10:
        raise ValueError(f"a version has at most {LINE_REPLY_MAX - 10} bytes, not {len(version)}")
    b.data, b.len, b.cap = room, 0, LINE_REPLY_MAX
    put_version(&b, version, len(version))
    return b.data[:b.len]
