# cython: language_level=3
"""Every byte that goes out: the fixed lines, numbers, the heads of values, and the codes and flags of meta replies.

Knows: the wording and the widest form of each reply. Must not know: why a reply is given, sockets, the store.
Memory: the fixed lines are constants of the program; everything else is written into the caller's WriteBuffer, in
which the caller has reserved LINE_REPLY_MAX, VALUE_HEAD_MAX or META_HEAD_MAX bytes beforehand. Nothing here allocates or
fails.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from protocol.base64 cimport base64_encode
from protocol.buffer cimport WriteBuffer
from protocol.request cimport Echo

cdef enum:
    NUMBER_MAX = 20          # digits of 2**64 - 1
    LINE_REPLY_MAX = 96      # bytes: no fixed line and no number line is longer
    VALUE_HEAD_MAX = 320     # bytes: "VALUE ", a key of KEY_MAX, flags, length, cas, CRLF
    META_HEAD_MAX = 640      # bytes: "VA <bytes>", a key of KEY_MAX in base64, an opaque, every flag there is, CRLF

cdef enum Status:
    # The order is that of `lines` below; reply.pyx refuses to be imported if they drift apart.
    REPLY_STORED, REPLY_NOT_STORED, REPLY_EXISTS, REPLY_NOT_FOUND
    REPLY_DELETED, REPLY_TOUCHED, REPLY_OK, REPLY_END, REPLY_ERROR
    REPLY_BAD_FORMAT         # the line cannot be read
    REPLY_BAD_DELETE         # delete with arguments it does not have
    REPLY_BAD_EXPTIME
    REPLY_BAD_DELTA
    REPLY_BAD_CHUNK          # a data block without its CRLF
    REPLY_NON_NUMERIC        # incr, decr of something else than a number
    REPLY_DUPLICATE_FLAG     # meta commands
    REPLY_UNKNOWN_FLAG
    REPLY_BAD_FLAG           # ma: any of the mistakes around
    REPLY_MANY_FLAGS
    REPLY_BAD_TOKEN
    REPLY_LONG_OPAQUE
    REPLY_BAD_KEY            # no base64
    REPLY_BAD_INITIAL
    REPLY_BAD_STEP
    REPLY_BAD_SET_MODE
    REPLY_BAD_ARITHMETIC_MODE
    REPLY_TOO_LARGE
    REPLY_NO_MEMORY
    REPLY_NO_MEMORY_READING  # no room to answer a get
    REPLY_FLUSH_REFUSED
    REPLY_UNAUTHENTICATED    # anything but a login from a client that must log in first
    REPLY_LOGIN_FAILED       # no such user, or another password
    REPLY_BAD_LOGIN          # a login without a space between user and password
    REPLY_BAD_LOGIN_END      # a login whose data block is not followed by CRLF
    REPLY_TOO_MANY           # connections
    REPLY_STATUS_COUNT

# A C table and not a Cython global: each module that cimports this file gets its own constant copy, so that a
# reply costs no lookup through another module.
cdef extern from *:
    """
    typedef struct { const char *text; size_t len; } protocol_line;
    #define PROTOCOL_LINE(s) { s "\\r\\n", sizeof(s "\\r\\n") - 1 }
    static const protocol_line protocol_lines[] = {
        PROTOCOL_LINE("STORED"),
        PROTOCOL_LINE("NOT_STORED"),
        PROTOCOL_LINE("EXISTS"),
        PROTOCOL_LINE("NOT_FOUND"),
        PROTOCOL_LINE("DELETED"),
        PROTOCOL_LINE("TOUCHED"),
        PROTOCOL_LINE("OK"),
        PROTOCOL_LINE("END"),
        PROTOCOL_LINE("ERROR"),
        PROTOCOL_LINE("CLIENT_ERROR bad command line format"),
        PROTOCOL_LINE("CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"),
        PROTOCOL_LINE("CLIENT_ERROR invalid exptime argument"),
        PROTOCOL_LINE("CLIENT_ERROR invalid numeric delta argument"),
        PROTOCOL_LINE("CLIENT_ERROR bad data chunk"),
        PROTOCOL_LINE("CLIENT_ERROR cannot increment or decrement non-numeric value"),
        PROTOCOL_LINE("CLIENT_ERROR duplicate flag"),
        PROTOCOL_LINE("CLIENT_ERROR invalid flag"),
        PROTOCOL_LINE("CLIENT_ERROR invalid or duplicate flag"),
        PROTOCOL_LINE("CLIENT_ERROR options flags are too long"),
        PROTOCOL_LINE("CLIENT_ERROR bad token in command line format"),
        PROTOCOL_LINE("CLIENT_ERROR opaque token too long"),
        PROTOCOL_LINE("CLIENT_ERROR error decoding key"),
        PROTOCOL_LINE("CLIENT_ERROR invalid numeric initial value"),
        PROTOCOL_LINE("CLIENT_ERROR invalid numeric delta value"),
        PROTOCOL_LINE("CLIENT_ERROR invalid mode for ms M token"),
        PROTOCOL_LINE("CLIENT_ERROR invalid mode for ma M token"),
        PROTOCOL_LINE("SERVER_ERROR object too large for cache"),
        PROTOCOL_LINE("SERVER_ERROR out of memory storing object"),
        PROTOCOL_LINE("SERVER_ERROR out of memory writing get response"),
        PROTOCOL_LINE("CLIENT_ERROR flush_all not allowed"),
        PROTOCOL_LINE("CLIENT_ERROR unauthenticated"),
        PROTOCOL_LINE("CLIENT_ERROR authentication failure"),
        PROTOCOL_LINE("CLIENT_ERROR bad authentication token format"),
        PROTOCOL_LINE("CLIENT_ERROR bad command line termination"),
        PROTOCOL_LINE("ERROR Too many open connections"),
    };
    #define PROTOCOL_LINES (sizeof(protocol_lines) / sizeof(protocol_lines[0]))
    static const char protocol_pairs[] =
        "00010203040506070809" "10111213141516171819" "20212223242526272829" "30313233343536373839"
        "40414243444546474849" "50515253545556575859" "60616263646566676869" "70717273747576777879"
        "80818283848586878889" "90919293949596979899";
    """
    ctypedef struct Line "protocol_line":
        const char *text
        size_t len           # bytes, CRLF included
    const Line lines "protocol_lines"[]
    const size_t NLINES "PROTOCOL_LINES"
    const char pairs "protocol_pairs"[]


cdef inline void put_status(WriteBuffer *b, Status status) noexcept nogil:
    """Write one fixed line, CRLF included."""
    memcpy(b.data + b.len, lines[<int>status].text, lines[<int>status].len)
    b.len += lines[<int>status].len

cdef inline void put_end(WriteBuffer *b) noexcept nogil:
    """Write the "END" that closes every get."""
    memcpy(b.data + b.len, b"END\r\n", 5)
    b.len += 5

cdef inline void put_crlf(WriteBuffer *b) noexcept nogil:
    """Write the end of a line or of a data block."""
    memcpy(b.data + b.len, b"\r\n", 2)
    b.len += 2

cdef inline uint32_t format_u64(char *out, uint64_t value) noexcept nogil:
    """Write `value` in decimal at `out` (room for NUMBER_MAX bytes, no NUL); returns the digits written."""
    cdef char digits[NUMBER_MAX]
    cdef uint32_t at = NUMBER_MAX, pair
    # Two digits a division: a division costs more than everything else here.
    while value >= 100:
        pair = <uint32_t>(value % 100) * 2
        value //= 100
        at -= 2
        memcpy(digits + at, pairs + pair, 2)
    if value >= 10:
        at -= 2
        memcpy(digits + at, pairs + value * 2, 2)
    else:
        at -= 1
        digits[at] = <char>(0x30 + value)
    memcpy(out, digits + at, NUMBER_MAX - at)
    return NUMBER_MAX - at

cdef inline void put_u64(WriteBuffer *b, uint64_t value) noexcept nogil:
    """Write a number in decimal, without CRLF."""
    if value < 10:
        b.data[b.len] = <char>(0x30 + value)
        b.len += 1
    else:
        b.len += format_u64(b.data + b.len, value)

cdef inline void put_number(WriteBuffer *b, uint64_t value) noexcept nogil:
    """Write a number and CRLF: the reply of incr and decr."""
    put_u64(b, value)
    put_crlf(b)

cdef inline void put_value(WriteBuffer *b, const char *key, uint32_t nkey, uint32_t flags, uint64_t nbytes,
                           bint with_cas, uint64_t cas) noexcept nogil:
    """Write "VALUE <key> <flags> <bytes>[ <cas unique>]" and CRLF; needs VALUE_HEAD_MAX bytes, nkey <= KEY_MAX."""
    memcpy(b.data + b.len, b"VALUE ", 6)
    memcpy(b.data + b.len + 6, key, nkey)
    b.len += 6 + nkey
    b.data[b.len] = 0x20
    b.len += 1
    put_u64(b, flags)
    b.data[b.len] = 0x20
    b.len += 1
    put_u64(b, nbytes)
    if with_cas:
        b.data[b.len] = 0x20
        b.len += 1
        put_u64(b, cas)
    put_crlf(b)

cdef inline void put_version(WriteBuffer *b, const char *version, size_t n) noexcept nogil:
    """Write "VERSION <version>" and CRLF; needs n + 10 bytes."""
    memcpy(b.data + b.len, b"VERSION ", 8)
    memcpy(b.data + b.len + 8, version, n)
    b.len += 8 + n
    put_crlf(b)

cdef inline void put_code(WriteBuffer *b, const char *code) noexcept nogil:
    """Write the two letters that begin a meta reply: HD, EN, NF ..."""
    memcpy(b.data + b.len, code, 2)
    b.len += 2

cdef inline void put_size(WriteBuffer *b, uint64_t nbytes) noexcept nogil:
    """Write " <bytes>": what follows the code of a reply with a value."""
    b.data[b.len] = 0x20
    b.len += 1
    put_u64(b, nbytes)

cdef inline void put_mark(WriteBuffer *b, char letter) noexcept nogil:
    """Write " <letter>": W, X or Z, or the beginning of a return flag."""
    b.data[b.len] = 0x20
    b.data[b.len + 1] = letter
    b.len += 2

cdef inline void put_flag(WriteBuffer *b, char letter, uint64_t value) noexcept nogil:
    """Write the return flag " <letter><number>"."""
    put_mark(b, letter)
    put_u64(b, value)

cdef inline void put_unlimited(WriteBuffer *b) noexcept nogil:
    """Write the return flag t of an item that never expires."""
    memcpy(b.data + b.len, b" t-1", 4)
    b.len += 4

cdef inline void put_key(WriteBuffer *b, const char *key, uint32_t nkey, bint encoded) noexcept nogil:
    """Write a key of at most KEY_MAX bytes as it is, or in base64."""
    if encoded:
        b.len += base64_encode(key, nkey, b.data + b.len)
    else:
        memcpy(b.data + b.len, key, nkey)
        b.len += nkey

cdef inline void put_key_flag(WriteBuffer *b, const char *key, uint32_t nkey, bint encoded) noexcept nogil:
    """Write the return flag " k<key>", with " b" behind it where the key is in base64."""
    put_mark(b, 0x6b)
    put_key(b, key, nkey, encoded)
    if encoded:
        put_mark(b, 0x62)

cdef inline void put_opaque(WriteBuffer *b, const Echo *echo) noexcept nogil:
    """Write the return flag " O<token>"."""
    b.data[b.len] = 0x20
    memcpy(b.data + b.len + 1, echo.opaque, echo.nopaque)
    b.len += 1 + echo.nopaque

cdef inline void put_echo(WriteBuffer *b, const Echo *echo, const char *key, uint32_t nkey, bint encoded) noexcept nogil:
    """Write what every meta reply repeats, a miss included: the opaque token and the key."""
    cdef uint32_t i
    for i in range(echo.nreturns):
        if echo.returns[i] == 0x4f:
            put_opaque(b, echo)
        elif echo.returns[i] == 0x6b:
            put_key_flag(b, key, nkey, encoded)
