# cython: language_level=3
"""The parsed form of one request, shared by every grammar (classic text, meta).

Knows: the field layout and the limits of the protocol. Must not know: sockets, clocks, the store.
Memory: every pointer is a span into the buffer the caller handed to parse(); it is valid only as long as that buffer.
"""
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef enum:
    KEY_MAX = 250            # bytes, after decoding
    LINE_MAX = 2048          # bytes of a line without its LF before the connection is closed (not get, gets)
    KEYS_MAX = 131072        # bytes of a get/gets line without its LF before its keys are handed out piecemeal

cdef enum Op:
    OP_GET, OP_GETS, OP_GAT, OP_GATS
    OP_SET, OP_ADD, OP_REPLACE, OP_APPEND, OP_PREPEND, OP_CAS
    OP_DELETE, OP_INCR, OP_DECR, OP_TOUCH
    OP_FLUSH_ALL, OP_VERSION, OP_QUIT
    OP_COMMAND               # rare: looked up by name in cacheserver.commands; `line` holds it whole

cdef enum Parsed:
    GOT_REQUEST              # one whole request line; a data block, if any, follows it
    NEED_DATA                # no LF yet and the line may still become valid
    GOT_KEYS                 # a get/gets line longer than KEYS_MAX without its LF: `keys` holds what is here
    BAD_REQUEST              # `error` is the reply; drop `swallow` more bytes; `close` ends the connection

cdef struct Request:
    Op op
    bint noreply
    bint close               # BAD_REQUEST: close the connection (after `error`, if any, went out)
    const char *key          # first key (all but get family: the only one)
    uint32_t nkey            # bytes, 1..KEY_MAX
    const char *keys         # get family: every key, from the first byte of the first to the end of the line's content
    size_t nkeys             # bytes in `keys` (not a count)
    uint32_t flags           # client flags
    int32_t exptime          # seconds as sent: relative, absolute, 0 or negative
    int64_t nbytes           # storage: length of the data block without its CRLF
    uint64_t number          # cas: the unique; incr/decr: the delta
    bint has_exptime         # flush_all: a delay was given
    const char *line         # OP_COMMAND: the whole line without its CR LF
    size_t nline
    size_t length            # bytes of the line with its LF: where the data block or the next request begins
    const char *error        # BAD_REQUEST, flush_all: the whole error reply with CRLF, or NULL for none
    size_t nerror
    int64_t swallow          # BAD_REQUEST: bytes after the line (data block and its CRLF) that must be dropped


cdef inline bint next_key(const char **cursor, const char *end, const char **key, uint32_t *nkey) noexcept nogil:
    """Step to the next space-separated token of a key list; False at the end.

    `nkey` is the token's true length (it may exceed KEY_MAX: the caller answers that).
    """
    cdef const char *p = cursor[0]
    while p < end and p[0] == 0x20:
        p += 1
    if p == end:
        cursor[0] = p
        return False
    key[0] = p
    while p < end and p[0] != 0x20:
        p += 1
    nkey[0] = <uint32_t>(p - key[0])
    cursor[0] = p
    return True
