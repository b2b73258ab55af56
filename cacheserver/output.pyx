# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The output of a batch: see output.pxd."""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from protocol.buffer cimport buffer_free, buffer_reserve


cdef bint output_room(Output *out, size_t text, uint32_t spans) noexcept nogil:
    """Room for that many more bytes of text and spans; False if memory is out."""
    cdef uint32_t cap
    cdef Span *more
    if not buffer_reserve(&out.text, text):
        return False
    if out.cap - out.nspans < spans:
        cap = out.cap * 2 if out.cap else 256
        while cap - out.nspans < spans:
            cap *= 2
        more = <Span *>realloc(out.spans, cap * sizeof(Span))
        if more == NULL:
            return False
        out.spans = more
        out.cap = cap
    return True


cdef void output_reset(Output *out) noexcept nogil:
    """Forget the content; its pins have been given back."""
    out.text.len = 0
    out.nspans = 0
    out.bytes = 0


cdef void output_free(Output *out) noexcept nogil:
    buffer_free(&out.text)
    free(out.spans)
    memset(out, 0, sizeof(Output))
