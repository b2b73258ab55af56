# cython: language_level=3
"""One client's connection, the reactor's state, and what either may hold.

Knows: file descriptors, the bytes a connection keeps (carry and unsent output), the budgets they count
against, and that an engine session lives inside a connection. Must not know: asyncio, requests, items.
Memory: ReactorC lives inside its Reactor object. It owns every Conn; a Conn owns its fd (with TLS: the Tls that
owns it), its carry and its pieces. A piece either owns a heap block or holds an engine pin; it gives up exactly one of them exactly once.
Threads: everything belongs to the reactor's own thread, except what stands under `lock`, `open` and the
budgets (atomic).
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from cacheserver.engine cimport EngineC, Output, Session
from cacheserver.net.budget cimport BudgetC
from cacheserver.net.linux cimport epoll_event, iovec, pthread_mutex_t
from cacheserver.net.peer cimport Peer
from cacheserver.net.transport cimport Tls

cdef enum:
    INPUT_ALONE = 262144     # bytes of one recv when one connection is ready
    INPUT_SHARED = 65536 + 512  # bytes of one recv when several are: a value of 64 KiB comes whole, with its line
    LINE_BYTES = 64          # of the processor's cache: where each input begins, the kernel copies faster
    DIRECT_MAX = 262144      # bytes of one recv straight into a value
    DIRECT_TURNS = 4         # such recvs for one connection in one batch
    EVENTS_MAX = 1024        # events taken in one batch
    QUEUE_MAX = 2048         # replies waiting for the end of the batch
    IOV_COUNT = 1024         # entries of one sendmsg (the kernel's UIO_MAXIOV)
    HELD_MAX = 1048576       # unsent bytes one connection copies before it keeps pins instead

cdef enum Flag:
    UNSENT = 1               # output is kept: the fd is watched for room, nothing is read
    RESUME = 2               # the engine paused: feed the carry again once the output is gone
    COMMAND = 4              # a command waits for Python
    CLOSING = 8              # close as soon as the output is gone
    UNREAD = 16              # with CLOSING: the client is still sending, so linger
    LINGER = 32              # the write side is shut: discard input until the client closes
    DEAD = 64                # destroyed; the struct stays until no event, queue or line can name it
    LISTED = 128             # stands in a Line
    PARKED = 256             # a job has the socket for itself: see park.pxd

cdef struct Piece:
    char *base               # first unsent byte
    char *block              # heap block to free when sent; NULL where the bytes are the engine's
    size_t len               # unsent bytes
    size_t size              # bytes of the block
    uint64_t pin             # 0, or the pin to give back when sent

cdef struct Conn:
    int fd
    Tls *tls                 # NULL: plaintext
    uint32_t slot            # index in ReactorC.table
    uint32_t flags
    uint32_t watched         # events the epoll set holds for the fd
    double last              # ReactorC.clock when bytes last moved
    char *carry              # input that the engine has not consumed
    size_t ncarry            # bytes of it
    size_t carry_cap
    Piece *pieces            # unsent output in the order of the wire: pieces[head:npieces]
    uint32_t head
    uint32_t npieces
    uint32_t pieces_cap
    size_t held              # bytes of heap blocks in pieces
    size_t pinned            # unsent bytes that pieces leave in the store
    size_t side              # bytes counted in ReactorC.side_bytes
    size_t discarded         # LINGER: bytes thrown away
    bint ending              # PARKED: close instead of going on
    uint8_t why              # a CloseReason: what to tell watchers should it be closed now
    Peer peer
    Conn *next               # in a Line, in the list of the dead, or of those back from being parked
    Session session

cdef struct Line:            # connections that wait for their turn, first come first served
    Conn *head
    Conn *tail

cdef struct Queued:          # Output.spans[first:first + count] belong to conn
    Conn *conn
    uint32_t first
    uint32_t count

cdef enum:                   # kinds: what a budget bounds
    HELD                     # unsent output copied to the heap
    PINNED                   # unsent output left in the store
    CARRY                    # unfinished input
    SECURE                   # what OpenSSL holds for a connection
    KINDS

cdef struct Arrival:         # an accepted socket
    int fd
    Tls *tls                 # NULL: plaintext

cdef struct ReactorC:
    EngineC *engine
    int epoll_fd
    int wake_fd              # eventfd in the epoll set: the inbox has something, or a Line has
    Conn **table             # every open connection, dense
    uint32_t count
    uint32_t table_cap
    Conn *dead
    Line resume
    Line command
    char *input              # CARRY_MAX bytes of room, then INPUT_ALONE bytes
    Output out               # of all connections of this batch
    Queued *queue
    uint32_t queued
    iovec *iov
    char *record             # RECORD_MAX bytes: a record before it is encrypted; NULL before the first
    epoll_event *events
    BudgetC *budgets[4]      # by kind
    long long bytes[4]       # by kind: what this reactor's connections hold of it
    long long side_bytes     # memory of connections that no budget counts: see conn_side()
    double clock             # seconds the reactor has lived, at the begin of the batch or sweep that runs
    double swept             # the `now` of the last sweep; negative before the first
    double swept_clock       # what `clock` was at the last sweep
    long long swept_us       # net_now_us() at the last sweep, or when the reactor was made
    bint draining
    bint closed
    pthread_mutex_t lock     # guards inbox, ninbox, inbox_cap, inbox_shut, returned
    Arrival *inbox           # sockets that this thread has not taken over yet
    uint32_t ninbox
    uint32_t inbox_cap
    bint inbox_shut
    Conn *returned           # parked connections that their jobs are done with
    long long open           # connections of the table and the inbox, atomic
    uint64_t bytes_read
    uint64_t bytes_written
    long long parked_written # bytes that jobs sent, atomic
    uint64_t conn_yields
    uint64_t idle_kicks
    uint64_t budget_kicks
    uint64_t pressure_kicks
    uint64_t tls_errors      # TLS connections that ended in an error
    long long tls_open       # TLS connections of the table

cdef bint conn_open(ReactorC *r, Arrival a) noexcept nogil
cdef void conn_part(Conn *c) noexcept nogil
cdef void conn_destroy(ReactorC *r, Conn *c) noexcept nogil
cdef void conn_reap(ReactorC *r) noexcept nogil
cdef void conn_side(ReactorC *r, Conn *c) noexcept nogil
cdef void conn_secure(ReactorC *r, Conn *c) noexcept nogil
cdef void arrival_drop(Arrival *a) noexcept nogil
cdef bint conn_watch(ReactorC *r, Conn *c, uint32_t events) noexcept nogil

cdef void line_put(Line *line, Conn *c) noexcept nogil
cdef Conn *line_take(ReactorC *r, Line *line) noexcept nogil
cdef void line_return(Line *line, Line *first) noexcept nogil

cdef bint carry_keep(ReactorC *r, Conn *c, const char *p, size_t n) noexcept nogil
cdef void carry_drop(ReactorC *r, Conn *c) noexcept nogil

cdef Piece *piece_hold(ReactorC *r, Conn *c, size_t n) noexcept nogil
cdef bint piece_pin(ReactorC *r, Conn *c, const char *base, size_t n, uint64_t pin) noexcept nogil
cdef void piece_shrink(ReactorC *r, Conn *c, size_t n) noexcept nogil
cdef void piece_done(ReactorC *r, Conn *c, Piece *p) noexcept nogil

cdef Conn *largest_holder(ReactorC *r, int kind) noexcept nogil
cdef void budget_enforce(ReactorC *r) noexcept nogil
