# cython: language_level=3
"""What one batch of requests has to say, in the order of the wire: text, and spans of items that are sent from where they lie.

Knows: bytes, spans, pins as opaque numbers, fixed reply lines. Must not know: requests, items, sockets.
Memory: an Output is owned by the reactor (or transport) that passes it in; the bytes of a span with a pin are the store's
until the pin is given back. Not thread-safe: one batch at a time.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from protocol.buffer cimport WriteBuffer
from protocol.reply cimport LINE_REPLY_MAX, Status, put_status

cdef struct Span:
    const char *base         # NULL: the bytes stand in Output.text at `offset`; else the bytes themselves
    size_t offset
    size_t len
    uint64_t pin             # 0, or the pin to give to engine_unpin() when the bytes have been sent or copied

cdef struct Output:
    WriteBuffer text
    Span *spans              # in the order of the wire; text runs of one session are merged
    uint32_t nspans
    uint32_t cap
    size_t bytes             # sum of the spans' lengths

cdef struct Writer:          # one feed's way to the Output
    Output *out
    size_t run               # where the text that is not in a span yet begins
    size_t begin             # bytes that were in the Output before
    bint failed              # no memory for the reply: the connection must close

cdef bint output_room(Output *out, size_t text, uint32_t spans) noexcept nogil
cdef void output_reset(Output *out) noexcept nogil
cdef void output_free(Output *out) noexcept nogil

cdef inline void writer_open(Writer *w, Output *out) noexcept nogil:
    w.out = out
    w.run = out.text.len
    w.begin = out.bytes
    w.failed = False

cdef inline bint writer_room(Writer *w, size_t text) noexcept nogil:
    """Room for that much more text and a few spans; False (and `failed`) if memory is out."""
    if not output_room(w.out, text, 3):
        w.failed = True
    return not w.failed

cdef inline void add_span(Output *out, const char *base, size_t offset, size_t n, uint64_t pin) noexcept nogil:
    """The caller has made room."""
    cdef Span *sp = &out.spans[out.nspans]
    sp.base = base
    sp.offset = offset
    sp.len = n
    sp.pin = pin
    out.nspans += 1
    out.bytes += n

cdef inline void writer_close_run(Writer *w) noexcept nogil:
    """Make a span of the text written since the last one."""
    if w.out.text.len > w.run:
        add_span(w.out, NULL, w.run, w.out.text.len - w.run, 0)
        w.run = w.out.text.len

cdef inline size_t writer_fed(Writer *w) noexcept nogil:
    """Bytes of reply since the feed began, the text that is not in a span yet included."""
    return w.out.bytes + (w.out.text.len - w.run) - w.begin

cdef inline void put_line(Writer *w, Status status) noexcept nogil:
    """Write one of the fixed replies."""
    if writer_room(w, LINE_REPLY_MAX):
        put_status(&w.out.text, status)
