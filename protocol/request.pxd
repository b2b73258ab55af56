# cython: language_level=3
"""The parsed form of one request, shared by every grammar (classic text, meta).

Knows: the field layout and the limits of the protocol. Must not know: sockets, clocks, the store.
Memory: every pointer is a span into the buffer the caller handed to parse(), valid only as long as that buffer; but the
decoded key of a meta command lies in the Request itself, which therefore must not be copied.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from protocol.scan cimport scan_space

cdef enum:
    KEY_MAX = 250            # bytes, after decoding
    LINE_MAX = 2048          # bytes of a line without its LF before the connection is closed (not get, gets)
    KEYS_MAX = 131072        # bytes of a get/gets line without its LF before its keys are handed out piecemeal
    OPAQUE_MAX = 32          # bytes of a meta command's opaque token, its letter included
    RETURNS_MAX = 12         # there are 11 return flags, none of them twice

cdef enum Op:
    OP_GET, OP_GETS, OP_GAT, OP_GATS
    OP_SET, OP_ADD, OP_REPLACE, OP_APPEND, OP_PREPEND, OP_CAS
    OP_MS                    # with those above: a data block follows the line
    OP_DELETE, OP_INCR, OP_DECR, OP_TOUCH
    OP_FLUSH_ALL, OP_VERSION, OP_QUIT
    OP_COMMAND               # rare: looked up by name in cacheserver.commands; `line` holds it whole
    OP_MG, OP_MD, OP_MA, OP_ME, OP_MN

cdef enum Parsed:
    GOT_REQUEST              # one whole request line; a data block, if any, follows it
    NEED_DATA                # no LF yet and the line may still become valid
    GOT_KEYS                 # a get/gets line longer than KEYS_MAX without its LF: `keys` holds what is here
    BAD_REQUEST              # `error` is the reply; drop `swallow` more bytes; `close` ends the connection

cdef struct Echo:            # what the reply to a meta command says again
    uint8_t nreturns
    uint8_t nopaque          # 0: no opaque token
    char returns[RETURNS_MAX]  # in the order of the request: O k s t c f h l, and T N R, which act at their place
    char opaque[OPAQUE_MAX]  # its letter included

cdef struct Meta:            # a meta command's flags; C is `number`, F `flags`, T `exptime`, q `noreply` of the Request
    uint64_t seen            # a bit for each letter: see has_flag()
    Echo echo
    bint encoded             # b: the key came in base64
    char mode                # M: the first letter of its token, 0 without one
    int32_t vivify           # N: seconds as sent
    int32_t recache          # R: seconds as sent
    uint64_t cas             # E
    uint64_t delta           # D, 1 without one
    uint64_t initial         # J, 0 without one
    char key[252]            # the decoded key

cdef struct Request:
    Op op
    bint noreply             # meta commands: q
    bint close               # BAD_REQUEST: close the connection (after `error`, if any, went out)
    const char *key          # first key (all but get family: the only one)
    uint32_t nkey            # bytes, 1..KEY_MAX
    const char *keys         # get family: every key, from the first byte of the first to the end of the line's content
    size_t nkeys             # bytes in `keys` (not a count)
    uint32_t flags           # client flags
    int32_t exptime          # seconds as sent: relative, absolute, 0 or negative
    int64_t nbytes           # storage: length of the data block without its CRLF
    uint64_t number          # cas, C of a meta command: the unique; incr/decr: the delta
    bint has_exptime         # flush_all: a delay was given
    const char *line         # OP_COMMAND: the whole line without its CR LF
    size_t nline
    size_t length            # bytes of the line with its LF: where the data block or the next request begins
    const char *error        # BAD_REQUEST, flush_all: the whole error reply with CRLF, or NULL for none
    size_t nerror
    int64_t swallow          # BAD_REQUEST: bytes after the line (data block and its CRLF) that must be dropped
    Meta meta                # meta commands


cdef inline bint has_flag(const Meta *m, char letter) noexcept nogil:
    """Whether a flag, 'A' to 'z', stands in the line."""
    return m.seen >> (letter - 0x41) & 1

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
    p = scan_space(p, end)
    nkey[0] = <uint32_t>(p - key[0])
    cursor[0] = p
    return True
