# cython: language_level=3
"""The grammar of the meta commands mg ms md ma me mn: a line's flags, whatever their order, into the shared Request.

Knows: the flags, their tokens, which error each mistake earns. Must not know: sockets, clocks, the store, the meaning of a
flag. Memory: nothing is allocated; see protocol/request.pxd. Threads: no state; any thread.
"""
from protocol.request cimport Parsed, Request

cdef Parsed read_meta(Request *r, char word, const char *p, const char *end) noexcept nogil
# Read the line of the command 'm' + `word` (one of g s d a e n) whose arguments stand in [p, end); `r.length` is set.
#
#   GOT_REQUEST    op, noreply (q); all but mn also key, nkey, meta.encoded
#                    mg, ms, md, ma   meta (all but `key`), number (C), flags (F), exptime (T); each 0 without its flag
#                    ms               nbytes
#   BAD_REQUEST    error, nerror, noreply (False: an error is always sent), swallow, close
