# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""One batch: take the ready connections, receive and execute for all of them, then send for all.

Knows: when to read, when not to, and how much work one connection gets in one batch; level-triggered
events bring back what is left over. Must not know: requests, items, asyncio.
Memory: see conn.pxd. Threads: the reactor's own, without the GIL.
"""
from libc cimport errno as system
from libc.errno cimport EAGAIN, EINTR, EIO, errno
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from cacheserver.engine cimport (
    CARRY_MAX, CLOSE_ERROR, CLOSE_NORMAL, CLOSE_SHUTDOWN, FEED_CLOSE, FEED_COMMAND, FEED_MORE, FEED_PAUSED, Feed,
    STRANGER_MAX, engine_feed, engine_fetch, engine_foresee, engine_received, engine_target, engine_tick,
    session_between, session_at_line,
)
from cacheserver.net.conn cimport (
    CLOSING, COMMAND, DEAD, DIRECT_MAX, DIRECT_TURNS, EVENTS_MAX, INPUT_ALONE, INPUT_SHARED, LINE_BYTES, LINGER, RESUME,
    UNREAD, UNSENT,
    Conn, Line, ReactorC, carry_drop, carry_keep, conn_destroy, conn_secure, conn_side, conn_watch, line_put,
    line_return, line_take,
)
from cacheserver.net.flush cimport flush_all, flush_more, flush_note
from cacheserver.net.inbox cimport inbox_take
from cacheserver.net.linux cimport (
    EPOLLERR, EPOLLHUP, EPOLLOUT, FIONREAD, MSG_DONTWAIT, epoll_event, epoll_wait, ioctl, iovec, net_now_us, readv, recv, ssize_t,
)
from cacheserver.net.transport cimport RECEIVE_ROOM, TLS_AGAIN, tls_partial, tls_recv, tls_unsent

cdef enum:
    GROUP = 16               # connections received from before the first is executed
    STAY_US = 500            # microseconds of one wake-up after which no further batch begins
    SECURE_TURNS = 4         # calls of tls_recv() for one connection in one batch
    LINGER_MAX = 1048576     # bytes discarded from a client that goes on sending to a closing connection


cdef struct Received:        # what a connection of a group has sent
    Conn *conn
    const char *input
    size_t n
    uint64_t hash            # of the key it asks for, most likely


cdef void clock_set(ReactorC *r) noexcept nogil:
    """Bring the clock up to date. Sweeps are too far apart to tell who has been idle for a second or two."""
    r.clock = r.swept_clock + <double>(net_now_us() - r.swept_us) / 1000000


cdef void settle(ReactorC *r, Conn *c, Feed answer, const char *rest, size_t n,
                 uint32_t first) noexcept nogil:
    """Do as the engine said after a feed: keep the unconsumed `rest`, queue the output from span `first`
    on."""
    if answer == FEED_CLOSE:
        c.flags |= CLOSING
        c.why = CLOSE_ERROR if c.session.broken else CLOSE_NORMAL
        if n:
            c.flags |= UNREAD
        carry_drop(r, c)
    elif (answer == FEED_MORE and n > CARRY_MAX) or not carry_keep(r, c, rest, n):
        conn_destroy(r, c)
    elif answer == FEED_PAUSED:
        c.flags |= RESUME
        r.conn_yields += 1
        line_put(&r.resume, c)
    elif answer == FEED_COMMAND:
        c.flags |= COMMAND
        conn_side(r, c)
        line_put(&r.command, c)
    flush_note(r, c, first)


cdef void feed_carry(ReactorC *r, Conn *c) noexcept nogil:
    """Feed what the connection kept, in place; the engine may have output waiting even where that is
    nothing."""
    cdef uint32_t first = r.out.nspans
    cdef size_t used = 0, n = c.ncarry
    cdef const char *input = c.carry if n else r.input
    cdef Feed answer
    c.flags &= ~<uint32_t>RESUME
    c.last = r.clock             # what it asked for is being done: that is not idling
    answer = engine_feed(r.engine, &c.session, input, n, &used, &r.out)
    settle(r, c, answer, input + used, n - used, first)


cdef void feed_input(ReactorC *r, Conn *c, const char *input, size_t n) noexcept nogil:
    cdef uint32_t first = r.out.nspans
    cdef size_t used = 0
    cdef Feed answer = engine_feed(r.engine, &c.session, input, n, &used, &r.out)
    if answer == FEED_MORE and used == n and c.carry == NULL:
        flush_note(r, c, first)
    else:
        settle(r, c, answer, input + used, n - used, first)


cdef void no_input(ReactorC *r, Conn *c, ssize_t got) noexcept nogil:
    """A receive brought nothing: end of the client's input (0), nothing there, or a broken connection
    (negative)."""
    if got < 0:
        if errno != EAGAIN and errno != EINTR:
            conn_destroy(r, c)
        return
    c.flags |= CLOSING
    c.why = CLOSE_NORMAL
    carry_drop(r, c)
    flush_note(r, c, r.out.nspans)


cdef inline void count_input(ReactorC *r, Conn *c, ssize_t got) noexcept nogil:
    r.bytes_read += <size_t>got
    c.last = r.clock


cdef ssize_t recv_secure(ReactorC *r, Conn *c, char *p, size_t n) noexcept nogil:
    """recv() for a TLS connection."""
    cdef ssize_t got = tls_recv(c.tls, p, n)
    conn_secure(r, c)
    if tls_unsent(c.tls):
        c.flags |= UNSENT
        if not conn_watch(r, c, EPOLLOUT):
            return broken(r)
    if got >= 0:
        return got
    if got != TLS_AGAIN:
        return broken(r)
    system.errno = EAGAIN
    return -1


cdef ssize_t broken(ReactorC *r) noexcept nogil:
    r.tls_errors += 1
    system.errno = EIO
    return -1


cdef void receive(ReactorC *r, Conn *c, size_t limit) noexcept nogil:
    """Receive once, or a few times into a large value, and execute."""
    cdef char *end = r.input + CARRY_MAX
    cdef ssize_t got
    cdef size_t kept
    if c.ncarry == 0 and c.tls == NULL and receive_direct(r, c):
        return
    if c.ncarry > CARRY_MAX:
        conn_destroy(r, c)
        return
    if not c.session.trusted:    # what it sends while its password is checked is kept
        limit = STRANGER_MAX if c.tls == NULL else RECEIVE_ROOM
    got = recv(c.fd, end, limit, MSG_DONTWAIT) if c.tls == NULL else recv_secure(r, c, end, limit)
    if got <= 0:
        no_input(r, c, got)
        return
    count_input(r, c, got)
    if <size_t>got == limit:
        r.conn_yields += 1
    kept = c.ncarry
    if kept:
        memcpy(end - kept, c.carry, kept)
    feed_input(r, c, end - kept, kept + <size_t>got)


cdef void receive_secure(ReactorC *r, Conn *c) noexcept nogil:
    """receive() for a TLS connection, of which a call gives a few records: as many as have arrived, within bounds."""
    cdef int turn
    for turn in range(SECURE_TURNS):
        receive(r, c, INPUT_SHARED)
        if c.flags or not c.tls.more:
            return
    r.conn_yields += 1


cdef bint receive_direct(ReactorC *r, Conn *c) noexcept nogil:
    """Receive into the value that the engine is being sent, if there is one; False if there was none at all.

    What follows the value in the stream goes into the read buffer with the same call.
    """
    cdef iovec iov[2]
    cdef char *target
    cdef size_t room, part
    cdef uint32_t first
    cdef int turn
    cdef ssize_t got
    cdef Feed answer
    for turn in range(DIRECT_TURNS):
        target = engine_target(r.engine, &c.session, &room)
        if target == NULL or room == 0:
            return turn > 0
        part = room if room < DIRECT_MAX else DIRECT_MAX
        iov[0].iov_base = target
        iov[0].iov_len = part
        iov[1].iov_base = r.input
        iov[1].iov_len = INPUT_SHARED
        got = readv(c.fd, iov, 2 if part == room else 1)
        if got <= 0:
            no_input(r, c, got)
            return True
        count_input(r, c, got)
        first = r.out.nspans
        answer = engine_received(r.engine, &c.session, part if <size_t>got > part else <size_t>got, &r.out)
        if <size_t>got > part:
            if answer == FEED_MORE:
                flush_note(r, c, first)
                if not c.flags & DEAD:
                    feed_input(r, c, r.input, <size_t>got - part)
            else:
                settle(r, c, answer, r.input, <size_t>got - part, first)
            return True
        settle(r, c, answer, r.input, 0, first)
        if c.flags or <size_t>got < part:
            return True
    r.conn_yields += 1
    return True


cdef void discard(ReactorC *r, Conn *c) noexcept nogil:
    """Input of a lingering connection."""
    cdef ssize_t got = recv(c.fd, r.input, INPUT_SHARED, MSG_DONTWAIT)
    if got < 0 and (errno == EAGAIN or errno == EINTR):
        return
    if got > 0:
        r.bytes_read += <size_t>got
        c.discarded += <size_t>got
    if got <= 0 or c.discarded > LINGER_MAX:
        conn_destroy(r, c)


cdef void resume(ReactorC *r, Line *line) noexcept nogil:
    """Feed connections that the engine paused in earlier batches and that have no output left: at least one,
    and as many as there is time for. The others stay first in the line."""
    cdef long long until = net_now_us() + TURN_US
    cdef Conn *c = line_take(r, line)
    while c != NULL:
        if not c.flags & UNSENT:
            feed_carry(r, c)
        if net_now_us() >= until:
            break
        c = line_take(r, line)
    line_return(&r.resume, line)


cdef inline bint is_plain(Conn *c) noexcept nogil:
    """Whether nothing about a connection is out of the ordinary: its next bytes begin a request."""
    return c.flags == 0 and c.ncarry == 0 and c.tls == NULL and session_at_line(&c.session)


cdef uint32_t receive_group(ReactorC *r, const epoll_event *events, int n, Received *group, int *taken) noexcept nogil:
    """Receive for the plain connections among the `n` events, as far as they come first, one after the other into the
    read buffer. What they ask for comes from memory while the next ones are received. `taken`: events done with; returns
    how many connections have sent something."""
    cdef char *to = r.input + CARRY_MAX
    cdef char *end = to + INPUT_ALONE
    cdef uint32_t count = 0
    cdef ssize_t got
    cdef Conn *c
    cdef int i = 0
    while i < n and count < GROUP and end - to >= INPUT_SHARED:
        c = <Conn *>events[i].data.ptr
        if c == NULL or not is_plain(c):
            break
        i += 1
        got = recv(c.fd, to, INPUT_SHARED, MSG_DONTWAIT)
        if got <= 0:
            no_input(r, c, got)
            continue
        count_input(r, c, got)
        if got == INPUT_SHARED:
            r.conn_yields += 1
        group[count].conn = c
        group[count].input = to
        group[count].n = <size_t>got
        group[count].hash = engine_foresee(r.engine, to, <size_t>got)
        count += 1
        to += (got + LINE_BYTES - 1) & ~(LINE_BYTES - 1)
    taken[0] = i
    return count


cdef int serve_group(ReactorC *r, const epoll_event *events, int n) noexcept nogil:
    """Receive and execute for the plain connections that come first among the events; returns how many of these
    that were."""
    cdef Received group[GROUP]
    cdef int taken
    cdef uint32_t count = receive_group(r, events, n, group, &taken), i
    if count > 1:
        for i in range(count):
            engine_fetch(r.engine, group[i].hash)
    for i in range(count):
        if not group[i].conn.flags & DEAD:   # a full batch is sent at once, which may end any connection
            feed_input(r, group[i].conn, group[i].input, group[i].n)
    return taken


cdef int serve(ReactorC *r) noexcept nogil:
    """One batch: take the ready connections, receive and execute for all, then send for all. Those who were
    paused for the others' sake follow after them. Returns how many events there were."""
    cdef Line paused = r.resume
    cdef int n, taken, i = 0
    engine_tick(r.engine)
    clock_set(r)
    n = epoll_wait(r.epoll_fd, r.events, EVENTS_MAX, 0)
    r.resume.head = r.resume.tail = NULL
    while i < n:
        taken = serve_group(r, r.events + i, n - i) if n > 1 else 0
        if taken == 0:
            serve_one(r, &r.events[i], INPUT_ALONE if n == 1 else INPUT_SHARED)
            taken = 1
        i += taken
    flush_all(r)
    if paused.head != NULL:
        resume(r, &paused)
        flush_all(r)
    return n


cdef void serve_on(ReactorC *r) noexcept nogil:
    """One wake-up: batches as long as each finds several connections ready, for a short time. The way through the event
    loop costs as much as some requests."""
    cdef long long until = net_now_us() + STAY_US
    while serve(r) > 1 and r.command.head == NULL and not r.draining:
        if net_now_us() >= until:
            return


cdef void serve_one(ReactorC *r, const epoll_event *event, size_t limit) noexcept nogil:
    cdef Conn *c = <Conn *>event.data.ptr
    if c == NULL:
        inbox_take(r)
    elif c.flags == 0:
        if c.tls == NULL:
            receive(r, c, limit)
        else:
            receive_secure(r, c)
    elif c.flags & DEAD:
        pass
    elif c.flags & LINGER:
        discard(r, c)
    elif c.flags & UNSENT and event.events & (c.watched | EPOLLERR | EPOLLHUP):
        flush_more(r, c)


cdef void end_drained(ReactorC *r) noexcept nogil:
    """While draining: close every connection that waits for a request and has sent no part of one."""
    cdef uint32_t i = r.count
    cdef Conn *c
    cdef int unread
    while i > 0:
        i -= 1
        c = r.table[i]
        if c.flags or c.ncarry or not session_between(&c.session) or (c.tls != NULL and tls_partial(c.tls)):
            continue
        unread = 0
        ioctl(c.fd, FIONREAD, &unread)
        if unread == 0:
            c.why = CLOSE_SHUTDOWN
            conn_destroy(r, c)
