# cython: language_level=3
"""The loop's state: connections, schedule, what waits."""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t

from loadtest.engine.conn cimport Conn, Net
from loadtest.engine.desk cimport Desk, Key
from loadtest.engine.source cimport Source

cdef enum Outcome:
    TIME                        # it is as late as was asked for
    CONNECTED                   # all connections are open; only before the load begins
    REFUSED                     # one is not; only before the load begins
    STARVED                     # the trace's next block is needed
    ENDED                       # all was asked and answered
    TROUBLED

cdef enum:
    INPUT_MAX = 1 << 18         # bytes read at once

cdef struct Wait:               # a fill, until the simulated back end has answered
    int64_t due
    uint32_t conn
    uint32_t epoch
    Key key

cdef struct Step:
    int64_t at                  # nanoseconds since the start
    double value                # of the rate or of the connections

cdef struct Loop:
    Desk desk
    Net net
    Source source
    Conn *conns
    uint32_t nconns
    uint32_t active             # of them, the first ones take part
    int depth
    int64_t churn
    int64_t patience            # nanoseconds
    int64_t backend
    bint begun
    int64_t start
    Step *steps
    int nsteps
    int step                    # the next one
    double interval             # open loop: nanoseconds between two requests
    double due                  # and when the next one is due, since the start
    int64_t dropped             # requests that were overdue by more than LATE_NS and are not sent any more
    uint32_t *free_ones         # open loop: a ring of connections that have room
    uint32_t free_head
    uint32_t free_count
    Wait *waits                 # a ring; all wait equally long, so the oldest is due first
    uint32_t waits_head
    uint32_t waits_count
    uint32_t waits_room
    int timer
    int64_t armed
    int64_t next_tick
    int64_t away_since          # since when there is no connection; 0: there is one
    uint8_t *input

cdef Outcome loop_run(Loop *l, int64_t until) noexcept nogil
