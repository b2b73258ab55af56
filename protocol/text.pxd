# cython: language_level=3
"""The classic text grammar: one request from the head of a buffer.

Knows: the command words, their arguments, which error each mistake earns. Must not know: sockets, clocks, the store,
the meaning of a command. Memory: nothing is allocated or copied; every pointer in the Request is a span into `buf`,
or a constant of the program (`error`).
Threads: no state; any thread.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp

from protocol.request cimport KEY_MAX, Parsed, Request
from protocol.scan cimport scan_word

cdef Parsed parse(const char *buf, size_t n, Request *r) noexcept nogil
# Read the request at `buf`; looks at no byte beyond `n`.
#
# Only these fields are set, the others keep whatever they held (clearing the struct would cost more than parsing):
#   NEED_DATA      none. Nothing is remembered: call again with the same bytes and more behind them.
#   GOT_REQUEST    op, noreply, length; and by op
#                    get family       key, nkey (its true length: it may exceed KEY_MAX, as may every further key,
#                                     the caller answers that), keys, nkeys; gat and gats also exptime
#                    storage          key, nkey, flags, exptime, nbytes; cas also number
#                    delete           key, nkey
#                    incr, decr       key, nkey, number
#                    touch            key, nkey, exptime
#                    flush_all        has_exptime, exptime (0 without one), error (NULL, or the reply to an exptime
#                                     that cannot be read), nerror
#                    command          line, nline
#                    meta commands    see protocol/meta.pxd
#   GOT_KEYS       op (OP_GET or OP_GETS), noreply (False), key, nkey, keys, nkeys, length == n. The line goes on: the
#                  last token of `keys` may be unfinished, and its last byte may be the CR of the line's end.
#   BAD_REQUEST    error, nerror, noreply, swallow, close, length. With `noreply` the error is not to be sent.

cdef bint read_login(const char *line, const char *end, uint64_t *nbytes) noexcept nogil
# Whether the line [line, end) may begin a login, "set <any> <any> <any> <bytes> ...": `nbytes` is the length of its data
# block, 0..2**31-3. Whatever stands behind the length is ignored.

cdef inline const char *read_get(const char *p, const char *end, const char **key, uint32_t *nkey) noexcept nogil:
    """Read the request that most of a cache's are, "get <key>" and no more, from the head of [p, end): where the next one
    begins. NULL for any other request, for a mistake, and for a line that is not whole: parse() knows what that is."""
    cdef const char *stop
    if end - p < 6 or memcmp(p, b"get ", 4) != 0:
        return NULL
    p += 4
    stop = scan_word(p, end)
    if stop == end or stop == p or stop[0] == 0x20:
        return NULL
    key[0] = p
    nkey[0] = <uint32_t>(stop - p) - ((stop - 1)[0] == 0x0d)
    return stop + 1 if 0 < nkey[0] <= KEY_MAX else NULL
