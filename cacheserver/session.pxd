# cython: language_level=3
"""The state of one client's conversation, and of the engine that holds it: the structs the engine's modules share.

Knows: the shapes. Must not know: sockets, asyncio. Memory: a Session lives inside its connection; its reservation and its
command line are given up by session_close(). Threads: an EngineC, and the sessions it feeds, belong to one worker.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from cacheserver.prefixes cimport PrefixTable
from cacheserver.store.journal cimport Journal
from cacheserver.store.operations cimport Put
from cacheserver.store.receive cimport Reservation
from cacheserver.store.shard cimport StoreC
from protocol.buffer cimport WriteBuffer
from protocol.request cimport Echo

cdef enum:
    OUTPUT_PAUSE = 1048576   # bytes of reply for one session in one feed before FEED_PAUSED
    TURN_NS = 500000         # nanoseconds of one feed before FEED_PAUSED: others wait for their turn
    TURN_STEPS = 16          # steps from one look at the clock to the next
    CARRY_MAX = 131072 + 512 # most unconsumed bytes a FEED_MORE may leave for the connection to keep
    STRANGER_MAX = 4096      # bytes received at once from, and bytes of reply to, a client that has not logged in

cdef enum Feed:
    FEED_MORE                # all that is complete was executed; keep the unconsumed rest and add to it
    FEED_PAUSED              # enough output or time for now: send the output, serve others, then feed the unconsumed rest
                             # again (even with no new bytes)
    FEED_COMMAND             # a rare command for Python: see Engine.run_command(); then feed the unconsumed rest
    FEED_CLOSE               # send the output, then close; whatever is unconsumed is dropped

cdef enum Mode:
    LINE                     # at the beginning of a request
    VALUE                    # in a data block that goes to an item
    SWALLOW                  # in a data block that goes nowhere
    KEYS                     # in a get line whose first keys have been answered
    SKIP                     # in a line that is dropped up to its LF
    COMMAND                  # a command waits for Python, or the token of a login
    LOGIN                    # at the beginning of a request of a client that must log in first

cdef enum CloseReason:       # why a connection ended, as watchers are told
    CLOSE_ERROR, CLOSE_NORMAL, CLOSE_IDLE, CLOSE_SHUTDOWN

cdef enum Transport:
    TRANSPORT_LOCAL, TRANSPORT_TCP, TRANSPORT_UDP

cdef enum:
    CMD_GET, CMD_SET, CMD_TOUCH, CMD_FLUSH, GET_HITS, GET_MISSES, GET_EXPIRED, DELETE_HITS, DELETE_MISSES
    INCR_HITS, INCR_MISSES, DECR_HITS, DECR_MISSES, CAS_HITS, CAS_MISSES, CAS_BADVAL, TOUCH_HITS, TOUCH_MISSES
    STORE_TOO_LARGE, STORE_NO_MEMORY
    CMD_META, AUTH_CMDS, AUTH_ERRORS
    COUNTERS

cdef struct Session:
    uint8_t mode
    bint trusted             # may do everything: it has logged in, or need not
    bint noreply             # VALUE
    bint is_meta             # VALUE: of ms, with `echo`
    bint with_cas            # KEYS: gets, gats
    bint touching            # KEYS: gat, gats
    bint warm                # KEYS: replies to the line's first keys are out already
    bint behind              # an earlier command of this input has not been followed by a send yet
    bint after_command       # the next feed goes on with the same input
    bint owes_error          # a revoked value's error line has not been sent yet
    bint whole               # all its input is here: what is unfinished is an error and not waited for (a datagram)
    bint broken              # the client was sent away for what it said
    int32_t cfd              # how watchers name the connection: its file descriptor
    uint32_t exptime         # KEYS: for gat, store clock
    uint32_t tail            # VALUE: bytes of the closing CRLF seen
    int64_t remaining        # VALUE, SWALLOW: bytes still to come
    Put put                  # VALUE
    Echo echo                # VALUE
    Reservation reservation  # VALUE
    WriteBuffer command      # COMMAND: the line for Python, or the token

cdef struct EngineC:
    StoreC *store
    uint32_t now             # store clock, seconds; engine_tick() sets it
    int64_t wall             # Unix time when the store clock showed 0
    bint flush_enabled
    bint guarded             # clients must log in
    uint32_t cost            # steps that the one which runs counts as: TURN_STEPS where it may have moved a lot of memory
    char version[32]         # "VERSION a.b.c\r\n"
    uint32_t nversion
    uint64_t counters[32]
    int64_t watched          # Kinds of records somebody watches, and COUNT_PREFIXES; atomic
    int32_t cfd              # of the session that is fed
    Journal journal          # open while somebody watches
    PrefixTable *prefixes    # or NULL; the server's

cdef inline Mode session_start(Session *s) noexcept nogil:
    """The mode in which the session's requests begin."""
    return LINE if s.trusted else LOGIN

cdef inline bint session_between(Session *s) noexcept nogil:
    """Whether the session waits for a new request."""
    return s.mode == LINE or s.mode == LOGIN

cdef inline bint session_at_line(Session *s) noexcept nogil:
    """Whether the session waits for a new request of a client that may do everything."""
    return s.mode == LINE and s.trusted

cdef inline bint session_receiving(Session *s) noexcept nogil:
    return s.mode == VALUE

cdef inline bint session_swallowing(Session *s) noexcept nogil:
    return s.mode == SWALLOW or s.mode == SKIP

cdef enum:
    MONTH = 2592000          # seconds: larger exptimes are absolute Unix times

cdef inline uint32_t store_exptime(EngineC *e, int32_t exptime) noexcept nogil:
    """A client's exptime in the store's clock: 0 never; negative, or a past absolute time, expired already."""
    cdef int64_t when
    if exptime == 0:
        return 0
    if exptime < 0:
        return 1
    if exptime <= MONTH:
        return e.now + <uint32_t>exptime
    when = exptime - e.wall
    return <uint32_t>when if when > 1 else 1
