# cython: language_level=3
"""parse -> execute -> format, in one noexcept nogil loop. The only module that knows protocol AND store.

Knows: requests, items, replies, the state of one client's conversation. Must not know: sockets, asyncio, pressure.
Memory: Session lives inside its connection and is owned by it; Output is owned by the reactor (or transport) that
passes it in; a Span's bytes belong to the store until its pin is given back.
Threads: one Engine belongs to one worker; a Session is fed by that worker only.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from cacheserver.store.receive cimport Reservation
from cacheserver.store.shard cimport StoreC
from cacheserver.store.store cimport Store
from protocol.buffer cimport WriteBuffer

cdef enum:
    OUTPUT_PAUSE = 1048576   # bytes of reply for one session in one feed before FEED_PAUSED
    CARRY_MAX = 131072 + 512 # most unconsumed bytes a FEED_MORE may leave for the connection to keep

cdef enum Feed:
    FEED_MORE                # all that is complete was executed; keep the unconsumed rest and add to it
    FEED_PAUSED              # enough output for now: send it, then feed the unconsumed rest again (even with no new bytes)
    FEED_COMMAND             # a rare command for Python: see Engine.run_command(); then feed the unconsumed rest
    FEED_CLOSE               # send the output, then close; whatever is unconsumed is dropped

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

cdef struct Session:
    uint8_t mode
    uint8_t storing          # VALUE: which PutMode
    bint noreply             # VALUE
    bint with_cas            # KEYS: gets, gats
    bint touching            # KEYS: gat, gats
    bint warm                # KEYS: replies to the line's first keys are out already
    bint owes_error          # a revoked value's error line has not been sent yet
    uint32_t exptime         # KEYS: for gat, store clock
    uint32_t tail            # VALUE: bytes of the closing CRLF seen
    int64_t remaining        # VALUE, SWALLOW: bytes still to come
    uint64_t cas             # VALUE
    Reservation reservation  # VALUE
    WriteBuffer command      # COMMAND: the line for Python

cdef struct EngineC:
    StoreC *store
    uint32_t now             # store clock, seconds; engine_tick() sets it
    int64_t wall             # Unix time when the store clock showed 0
    bint flush_enabled
    char version[32]         # "VERSION a.b.c\r\n"
    uint32_t nversion
    uint64_t counters[32]

cdef bint output_room(Output *out, size_t text, uint32_t spans) noexcept nogil
cdef void output_reset(Output *out) noexcept nogil
cdef void output_free(Output *out) noexcept nogil

cdef void session_open(Session *s) noexcept nogil
cdef void session_close(EngineC *e, Session *s) noexcept nogil

cdef Feed engine_feed(EngineC *e, Session *s, const char *buf, size_t n, size_t *consumed, Output *out) noexcept nogil
cdef char *engine_target(EngineC *e, Session *s, size_t *room) noexcept nogil
cdef Feed engine_received(EngineC *e, Session *s, size_t n, Output *out) noexcept nogil
cdef bint engine_revoked(EngineC *e, Session *s) noexcept nogil
cdef void engine_tick(EngineC *e) noexcept nogil
cdef void engine_unpin(EngineC *e, uint64_t pin) noexcept nogil

cdef class Engine:
    cdef EngineC c
    cdef readonly Store store
    cdef public object handler
    cdef bint run_command(self, Session *s, Output *out) except -1
