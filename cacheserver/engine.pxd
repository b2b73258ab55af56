# cython: language_level=3
"""parse -> execute -> format, in one noexcept nogil loop. With its parts (storage, retrieval) the only one that knows
protocol AND store.

Knows: requests, items, replies, the state of one client's conversation. Must not know: sockets, asyncio, pressure.
Memory: see session and output, whose structs this face passes on. Threads: one Engine belongs to one worker; a Session is
fed by that worker only.
"""
from libc.stdint cimport int32_t, uint32_t, uint64_t

from cacheserver.foresight cimport engine_fetch, engine_foresee
from cacheserver.output cimport Output, Span, output_free, output_reset, output_room
from cacheserver.session cimport (
    CARRY_MAX,
    CLOSE_ERROR,
    CLOSE_IDLE,
    CLOSE_NORMAL,
    CLOSE_SHUTDOWN,
    FEED_CLOSE,
    FEED_COMMAND,
    FEED_MORE,
    FEED_PAUSED,
    TRANSPORT_LOCAL,
    TRANSPORT_TCP,
    TRANSPORT_UDP,
    CloseReason,
    EngineC,
    Feed,
    Session,
    STRANGER_MAX,
    Transport,
    session_between,
    session_at_line,
    session_receiving,
    session_swallowing,
)
from cacheserver.prefixes cimport Prefixes
from cacheserver.store.store cimport Store

cdef enum Ran:
    RAN_CLOSE                # the command ends the connection
    RAN_ON                   # its reply, if any, is in the output
    RAN_JOB                  # it goes on as Engine.job, which has the connection for itself meanwhile

cdef void session_open(EngineC *e, Session *s) noexcept nogil
cdef bint engine_sees_connections(EngineC *e) noexcept nogil
cdef void engine_saw_connection(EngineC *e, int32_t cfd, bint closed, CloseReason reason, Transport transport,
                                const char *address, uint32_t naddress, uint32_t port) noexcept nogil
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
    cdef readonly Prefixes prefixes
    cdef public object handler
    cdef object job
    cdef object check
    cdef int run_command(self, Session *s, Output *out) except -1
    cdef int log_in(self, Session *s, Output *out, bytes token) except -1
    cdef bint say(self, Output *out, bytes reply) except -1
