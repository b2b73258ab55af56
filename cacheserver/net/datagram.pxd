# cython: language_level=3
"""The datagrams of one UDP socket: what is being answered, and what that may hold.

Knows: one file descriptor, the 8-byte frame header, one session of the engine. Must not know: asyncio, requests, items.
Memory: DatagramsC lives inside its Datagrams object, which owns the buffers and the socket. Nothing of the store is held
from one turn to the next: a reply is copied, at most REPLY_MAX bytes of it, and its pins are given back at once.
Threads: everything belongs to the worker's thread; the counters may be read by any.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from cacheserver.engine cimport Engine, EngineC, Output, Session
from cacheserver.net.linux cimport sockaddr_storage, socklen_t

cdef enum:
    FRAME = 8                # bytes of header: request id, sequence number, number of datagrams, reserved
    INPUT_MAX = 65536        # bytes: no datagram is larger
    DATAGRAM_MAX = 1400      # bytes of one datagram of a reply, its header included
    REPLY_DATAGRAMS = 4      # most datagrams of one reply; README.md names it
    PAYLOAD = DATAGRAM_MAX - FRAME
    REPLY_MAX = REPLY_DATAGRAMS * PAYLOAD

cdef struct DatagramsC:
    EngineC *engine
    int fd
    bint open                # a datagram has been received and not been dealt with yet
    char *input              # INPUT_MAX bytes: the datagram, header and text
    size_t length            # bytes of it
    size_t pos               # the first one that has not been executed
    sockaddr_storage peer
    socklen_t npeer
    Session session
    Output out               # of one feed or command
    char *reply              # REPLY_MAX bytes: the text for the client so far
    size_t nreply
    uint64_t bytes_read
    uint64_t bytes_written
    uint64_t received
    uint64_t dropped
    uint64_t too_large
    uint64_t unsent

cdef class Datagrams:
    cdef DatagramsC c
    cdef readonly Engine engine
    cdef readonly object socket
    cdef bint busy
    cdef bint close_asked
    cdef int run_command(self) except -1
