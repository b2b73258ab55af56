# cython: language_level=3
"""A connection: its socket, what it has not sent yet, what it has not understood yet."""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t

from loadtest.engine.desk cimport Desk, Talk
from loadtest.engine.judge cimport LINE_MAX

cdef enum State:
    CLOSED
    CONNECTING
    OPEN

cdef enum:
    ADDRESS_MAX = 128           # bytes of a sockaddr

cdef struct Net:
    int epoll
    uint32_t open               # connections
    int refusal                 # errno of the last attempt to connect that failed
    uint32_t address_size
    uint8_t address[ADDRESS_MAX]

cdef struct Conn:
    int fd                      # -1: none
    State state
    uint32_t index
    uint32_t epoch              # grows when it closes
    int64_t since               # connecting: when that began. closed: when it may be opened again
    int waiting                 # fills whose back end has not answered yet; each takes a place
    int64_t requests            # since it was opened
    bint retires                # it closes when its last reply has come
    bint listed                 # among the free ones
    bint wants_out              # epoll tells when it can send
    Talk talk
    uint8_t *unsent
    size_t unsent_at
    size_t unsent_end           # 0: there is none
    size_t unsent_room
    int64_t carried             # bytes of an unfinished line
    uint8_t carry[LINE_MAX]

cdef bint conn_open(Net *n, Conn *c, int64_t now) noexcept nogil
cdef bint conn_opened(Net *n, Desk *d, Conn *c) noexcept nogil
cdef void conn_close(Net *n, Conn *c, int64_t again) noexcept nogil
cdef bint conn_flush(Net *n, Desk *d, Conn *c) noexcept nogil
cdef void conn_free(Conn *c) noexcept nogil
