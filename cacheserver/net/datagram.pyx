# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""UDP: receive a datagram, have the engine execute its text, send the reply in datagrams; a bounded time at once.

Knows: the frame header, sockets, the engine. Must not know: the event loop, requests, items.
Memory and threads: see datagram.pxd.

Whoever sends datagrams can write any source address on them, so a reply may go to somebody who asked for nothing.
That is why a reply is short, why the work for one is bounded, and why a server's error line is not answered: two
servers would otherwise answer each other for ever.
"""
import logging
from socket import socket as Socket

cimport cython
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from cacheserver.engine cimport (
    FEED_CLOSE, FEED_COMMAND, FEED_PAUSED, RAN_CLOSE, RAN_JOB, Engine, Feed, Span,
    engine_feed, engine_tick, engine_unpin, output_free, output_reset, session_close, session_open,
)
from cacheserver.net.linux cimport (
    MSG_DONTWAIT, MSG_NOSIGNAL, net_now_us, recvfrom, sendto, ssize_t,
)
from cacheserver.net.serve cimport COMMANDS_US

log = logging.getLogger("cacheserver.net")

cdef enum:
    TURN_DATAGRAMS = 64      # datagrams received in one turn
    TURN_US = 2000           # microseconds of one turn, after which stream clients come first
    OUTPUT_KEPT = 65536      # bytes of the engine's output buffer kept from one datagram to the next

cdef enum Turn:
    IDLE                     # nothing waits
    SPENT                    # the turn is over, something may wait
    PYTHON                   # a command waits for Python

cdef const char *TOO_LARGE = b"SERVER_ERROR reply too large for UDP, use TCP\r\n"
cdef size_t NTOO_LARGE = 47


cdef inline uint32_t get_u16(const char *p) noexcept nogil:
    return <uint32_t>(<unsigned char>p[0]) << 8 | <unsigned char>p[1]


cdef inline void put_u16(char *p, size_t value) noexcept nogil:
    p[0] = <char>(value >> 8)
    p[1] = <char>value


cdef inline bint is_request(const char *p, size_t n) noexcept nogil:
    """Whether a datagram is the only one of a request, and no server's word."""
    if n <= FRAME or get_u16(p + 2) != 0 or get_u16(p + 4) != 1:
        return False
    return n < FRAME + 5 or memcmp(p + FRAME, b"ERROR", 5) != 0


cdef bint receive(DatagramsC *d) noexcept nogil:
    """Take the next datagram; it is `open` if it is to be answered. False: none waits."""
    cdef ssize_t got
    d.npeer = sizeof(d.peer)
    got = recvfrom(d.fd, d.input, INPUT_MAX, MSG_DONTWAIT, &d.peer, &d.npeer)
    if got < 0:
        # Anything but EAGAIN tells of an earlier datagram (a peer that is gone), or passes.
        return errno != EAGAIN
    d.bytes_read += <size_t>got
    d.received += 1
    if not is_request(d.input, <size_t>got):
        d.dropped += 1
        return True
    d.length = <size_t>got
    d.pos = FRAME
    d.nreply = 0
    session_open(d.engine, &d.session)
    d.session.whole = True
    d.open = True
    return True


cdef bint take_output(DatagramsC *d) noexcept nogil:
    """Copy what the engine had to say to the reply and give its pins back. False: it is too much for one reply."""
    cdef bint fits = d.out.bytes <= REPLY_MAX - d.nreply
    cdef Span *span
    cdef uint32_t i
    for i in range(d.out.nspans):
        span = &d.out.spans[i]
        if fits:
            memcpy(d.reply + d.nreply, d.out.text.data + span.offset if span.base == NULL else span.base, span.len)
            d.nreply += span.len
        if span.pin:
            engine_unpin(d.engine, span.pin)
    output_reset(&d.out)
    if d.out.text.cap > OUTPUT_KEPT:
        output_free(&d.out)
    return fits


cdef void send_reply(DatagramsC *d) noexcept nogil:
    cdef char packet[DATAGRAM_MAX]
    cdef size_t total = (d.nreply + PAYLOAD - 1) // PAYLOAD
    cdef size_t i = 0, part
    cdef ssize_t sent
    memcpy(packet, d.input, 2)
    put_u16(packet + 4, total)
    put_u16(packet + 6, 0)
    while i < total:
        part = d.nreply - i * PAYLOAD
        if part > PAYLOAD:
            part = PAYLOAD
        put_u16(packet + 2, i)
        memcpy(packet + FRAME, d.reply + i * PAYLOAD, part)
        sent = sendto(d.fd, packet, FRAME + part, MSG_DONTWAIT | MSG_NOSIGNAL, &d.peer, d.npeer)
        if sent < 0:
            if errno == EINTR:
                continue
            d.unsent += total - i    # a reply with a part missing is worth nothing
            return
        d.bytes_written += <size_t>sent
        i += 1


cdef void end_datagram(DatagramsC *d) noexcept nogil:
    """Give up what the datagram holds; harmless to repeat."""
    if d.open:
        session_close(d.engine, &d.session)
        d.open = False


cdef void refuse(DatagramsC *d) noexcept nogil:
    """The reply is too large: say so instead, and execute no more of the datagram. What it did is done."""
    d.too_large += 1
    memcpy(d.reply, TOO_LARGE, NTOO_LARGE)
    d.nreply = NTOO_LARGE
    send_reply(d)
    end_datagram(d)


cdef bint execute(DatagramsC *d) noexcept nogil:
    """Feed the engine once with what is left of the datagram, and answer when nothing is. True: a command waits."""
    cdef size_t used = 0
    cdef Feed feed = engine_feed(d.engine, &d.session, d.input + d.pos, d.length - d.pos, &used, &d.out)
    d.pos += used
    if not take_output(d):
        refuse(d)
    elif feed == FEED_COMMAND:
        return True
    elif feed != FEED_PAUSED:
        d.dropped += feed == FEED_CLOSE and d.nreply == 0
        send_reply(d)
        end_datagram(d)
    return False


cdef Turn take_turn(DatagramsC *d, long long until, int *left) noexcept nogil:
    """Answer datagrams until `until`, and receive at most `left` of them."""
    while True:
        if d.open:
            if execute(d):
                return PYTHON
        elif left[0] == 0:
            return SPENT
        else:
            left[0] -= 1
            if not receive(d):
                return IDLE
        if net_now_us() >= until:
            return SPENT


@cython.no_gc_clear  # closing gives a reservation back to the engine, so the engine must outlive it
cdef class Datagrams:
    """Answers what arrives at one bound UDP socket, with one worker's engine. All but counters() belongs to
    that worker's thread.

    A request is one datagram; several commands in it are answered together, by at most 4 datagrams of 1400
    bytes. A larger reply becomes one line that says so: the commands before it in its datagram have been
    executed, those behind it may not have been.
    """

    def __cinit__(self) -> None:
        self.c.fd = -1

    def __init__(self, socket: Socket, engine: Engine) -> None:
        if self.c.input != NULL:
            raise RuntimeError("a socket's datagrams are set up once")
        self.c.input = <char *>malloc(INPUT_MAX)
        self.c.reply = <char *>malloc(REPLY_MAX)
        if self.c.input == NULL or self.c.reply == NULL:
            raise MemoryError("no memory for a UDP socket's buffers")
        self.engine = engine
        self.c.engine = &engine.c
        self.socket = socket
        self.c.fd = socket.fileno()

    def __dealloc__(self) -> None:
        end_datagram(&self.c)
        output_free(&self.c.out)
        free(self.c.input)
        free(self.c.reply)

    def fileno(self) -> int:
        """The socket to watch for input; -1 once closed."""
        return self.c.fd

    def on_ready(self) -> bool:
        """Answer what waits, for a bounded time. True: a datagram is half answered; call again after others had
        their turn, whether or not the socket is ready."""
        cdef long long begun = net_now_us()
        cdef int left = TURN_DATAGRAMS
        cdef Turn turn
        if self.c.fd < 0 or self.busy:
            return False
        self.busy = True
        try:
            while True:
                with nogil:
                    engine_tick(self.c.engine)
                    turn = take_turn(&self.c, begun + TURN_US, &left)
                if turn != PYTHON:
                    break
                self.run_command()
                if net_now_us() >= begun + COMMANDS_US:
                    break
        finally:
            self.busy = False
            if self.close_asked:
                self.close()
        return self.c.open

    cdef int run_command(self) except -1:
        """Have the engine run the command that waits. A job needs a connection to go to, which there is none of here:
        that is an error, wherever in the datagram it stands."""
        cdef DatagramsC *d = &self.c
        cdef int ran
        d.session.behind = False
        try:
            ran = self.engine.run_command(&d.session, &d.out)
            if ran == RAN_JOB:
                self.engine.job = None
                if not self.engine.say(&d.out, b"ERROR\r\n"):
                    ran = RAN_CLOSE
        except Exception:
            log.exception("a command failed; its datagram is dropped")
            end_datagram(d)
            return 0
        except BaseException:
            end_datagram(d)
            raise
        if not take_output(d):
            refuse(d)
        elif ran == RAN_CLOSE:
            send_reply(d)
            end_datagram(d)
        return 0

    def close(self) -> None:
        """Close the socket and drop what is half answered; harmless to repeat."""
        if self.busy:
            self.close_asked = True
            return
        end_datagram(&self.c)
        self.c.fd = -1
        if self.socket is not None:
            self.socket.close()

    def counters(self) -> dict[str, int]:
        """Counts; any thread."""
        return {
            "bytes_read": self.c.bytes_read,
            "bytes_written": self.c.bytes_written,
            "udp_datagrams": self.c.received,
            "udp_dropped": self.c.dropped,
            "udp_too_large": self.c.too_large,
            "udp_unsent": self.c.unsent,
        }
