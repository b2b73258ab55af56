# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The epoll loop: see loop.pxd.

Knows: when something is due, which connection has room. Must not know: bytes of requests and replies. Memory: the
loop's rings; the rest belongs to its parts. Threads: the caller's, without the GIL.

Closed loop: a connection that has room asks as many requests as it has room for, and sends them at once. Open loop:
requests fall due evenly spaced, whether or not a connection has room; those that cannot be sent yet keep the time at
which they were due. As they are due in a known order, the queue of them is nothing but that of the oldest. A process
that sleeps until a request is due sends it 40 to 70 us late, which its latency would show as the server's; so
it sleeps less and polls for the rest, giving way to whoever wants the processor meanwhile.
"""
from libc.errno cimport EAGAIN, EINTR, ETIMEDOUT, errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

from loadtest.engine.ask cimport ask_get, ask_set
from loadtest.engine.conn cimport CLOSED, CONNECTING, OPEN, conn_close, conn_flush, conn_open, conn_opened
from loadtest.engine.desk cimport FILL, GET, GONE, MEMORY, NONE, SILENT, SYSTEM, Verb, oldest, ring_grow
from loadtest.engine.judge cimport LINE_MAX, judge
from loadtest.engine.linux cimport (
    EPOLLOUT, MSG_DONTWAIT, TFD_TIMER_ABSTIME,
    clock_ns, epoll_event, epoll_wait, itimerspec, recv, sched_yield, timerfd_settime,
)
from loadtest.engine.source cimport MULTIGET_MAX, source_next

cdef enum:
    WAITS_FIRST = 1024
    EVENTS_MAX = 512
    BATCH = 1 << 20             # bytes of requests after which they are sent
    NS = 1000000000

cdef int64_t TICK_NS = NS // 20
cdef int64_t RETRY_NS = NS // 10                # before a connection that was lost is opened again
cdef int64_t CONNECT_NS = <int64_t>5 * NS
cdef int64_t REPLY_NS = <int64_t>30 * NS
cdef int64_t LATE_NS = <int64_t>60 * NS         # the histograms end there
cdef int64_t WAKING_NS = NS // 12500            # what a sleeper's wake-up takes at most, as a rule, on a virtual machine


cdef inline bint has_room(Loop *l, Conn *c) noexcept nogil:
    return (c.state == OPEN and c.index < l.active and not c.retires and c.unsent_end == 0
            and <int>c.talk.asked_count + c.waiting < l.depth)


cdef inline bint starved(Loop *l) noexcept nogil:
    return l.source.traced and l.source.at == l.source.count and not l.source.last


cdef inline void advance(Loop *l) noexcept nogil:
    """Open loop: the time at which the next request is due."""
    l.due += l.interval
    while l.step < l.nsteps and l.due >= l.steps[l.step].at:
        l.interval = NS / l.steps[l.step].value
        l.step += 1


cdef int compose(Loop *l, Conn *c, int most, int64_t now) noexcept nogil:
    """Ask up to `most` requests on a connection with room, as far as they are due; returns how many."""
    cdef Key keys[MULTIGET_MAX]
    cdef Verb verb
    cdef int64_t due = now
    cdef int count
    cdef int asked = 0
    cdef int room = l.depth - <int>c.talk.asked_count - c.waiting
    if most > room:
        most = room
    while asked < most and not c.retires and l.desk.nout < BATCH and l.desk.trouble == NONE:
        if l.desk.open_loop:
            due = l.start + <int64_t>l.due
            if due > now:
                break
        count = source_next(&l.source, &l.desk.dice, keys, &verb)
        if count == 0:
            break
        if l.desk.open_loop:
            advance(l)
        if verb == GET:
            ask_get(&l.desk, &c.talk, keys, count, due, now)
        else:
            ask_set(&l.desk, &c.talk, verb, keys, due, now)
        asked += 1
        c.requests += 1
        if c.requests == l.churn:
            c.retires = True
    return asked


cdef void lost(Loop *l, Conn *c, int64_t now) noexcept nogil:
    """A connection has ended; what was asked on it has no reply."""
    l.desk.tally.errors += c.talk.asked_count
    l.desk.nout = 0
    conn_close(&l.net, c, now + RETRY_NS)


cdef void reopen(Loop *l, Conn *c, int64_t now) noexcept nogil:
    if not conn_open(&l.net, c, now):
        conn_close(&l.net, c, now + RETRY_NS)


cdef void enlist(Loop *l, Conn *c) noexcept nogil:
    """Open loop: put a connection that has room behind the free ones."""
    cdef uint32_t at = l.free_head + l.free_count
    if c.listed or not has_room(l, c):
        return
    l.free_ones[at if at < l.nconns else at - l.nconns] = c.index
    l.free_count += 1
    c.listed = True


cdef void settle(Loop *l, Conn *c, int64_t now) noexcept nogil:
    """Send what is to be sent on a connection, and let it go or take it in again."""
    while l.desk.trouble == NONE:
        if l.begun and not l.desk.open_loop and has_room(l, c):
            compose(l, c, l.depth, now)
        if l.desk.nout == 0:
            break
        if not conn_flush(&l.net, &l.desk, c):
            lost(l, c, now)
            return
    if c.state == OPEN and (c.retires or c.index >= l.active):
        if c.talk.asked_count == 0 and c.waiting == 0 and c.unsent_end == 0:
            conn_close(&l.net, c, now)
            if c.index < l.active:
                reopen(l, c, now)
    elif l.desk.open_loop:
        enlist(l, c)


cdef void dispatch(Loop *l, int64_t now) noexcept nogil:
    """Open loop: share what is due among the connections that have room."""
    cdef Conn *c
    cdef double late = <double>(now - l.start) - l.due
    cdef int share
    if late < 0 or l.free_count == 0 or l.source.ended:
        return
    late = late / l.interval / l.free_count
    share = <int>late + 1 if late < l.depth else l.depth
    while l.free_count and l.start + <int64_t>l.due <= now and l.desk.trouble == NONE:
        c = &l.conns[l.free_ones[l.free_head]]
        l.free_head = l.free_head + 1 if l.free_head + 1 < l.nconns else 0
        l.free_count -= 1
        c.listed = False
        if not has_room(l, c):
            continue
        now = clock_ns()
        if compose(l, c, share, now) == 0:
            enlist(l, c)
            return
        settle(l, c, now)


# -- fills behind a simulated back end --


cdef bint wait(Loop *l, Conn *c, const Key *key, int64_t due) noexcept nogil:
    """Keep a fill until its back end has answered; False where there is no memory."""
    cdef Wait *w
    if l.waits_count == l.waits_room and not ring_grow(<void **>&l.waits, sizeof(Wait), &l.waits_head, l.waits_count,
                                                       &l.waits_room, l.waits_count + 1, WAITS_FIRST):
        return False
    w = &l.waits[(l.waits_head + l.waits_count) & (l.waits_room - 1)]
    w.due = due
    w.conn = c.index
    w.epoch = c.epoch
    w.key = key[0]
    l.waits_count += 1
    c.waiting += 1
    return True


cdef void answer_waits(Loop *l, int64_t now) noexcept nogil:
    """Send the fills whose back end has answered; those of a connection that has ended are forgotten."""
    cdef Wait *w
    cdef Conn *c
    while l.waits_count and l.desk.trouble == NONE:
        w = &l.waits[l.waits_head & (l.waits_room - 1)]
        if w.due > now:
            return
        l.waits_head += 1
        l.waits_count -= 1
        c = &l.conns[w.conn]
        if c.epoch == w.epoch:
            c.waiting -= 1
            ask_set(&l.desk, &c.talk, FILL, &w.key, now, now)
            if not conn_flush(&l.net, &l.desk, c):
                lost(l, c, now)


cdef void fill(Loop *l, Conn *c, int64_t now) noexcept nogil:
    """Set what the gets of a connection have missed, now or when the back end has answered."""
    cdef uint32_t i
    for i in range(l.desk.nmissed):
        if l.backend:
            if not wait(l, c, &l.desk.missed[i], now + l.backend):
                l.desk.trouble = MEMORY
                break
        else:
            ask_set(&l.desk, &c.talk, FILL, &l.desk.missed[i], now, now)
            if l.desk.nout >= BATCH and not conn_flush(&l.net, &l.desk, c):
                lost(l, c, now)
                break
    l.desk.nmissed = 0


# -- what epoll tells --


cdef void readable(Loop *l, Conn *c) noexcept nogil:
    """Read once, judge what came, ask more."""
    cdef uint8_t *p = l.input + LINE_MAX - c.carried
    cdef const uint8_t *rest
    cdef const uint8_t *end
    cdef int64_t now
    cdef ssize_t got = recv(c.fd, l.input + LINE_MAX, INPUT_MAX, MSG_DONTWAIT)
    if got < 0 and (errno == EAGAIN or errno == EINTR):
        return
    now = clock_ns()
    if got <= 0:
        lost(l, c, now)
        return
    l.desk.tally.bytes_in += got
    memcpy(p, c.carry, c.carried)
    end = l.input + LINE_MAX + got
    rest = judge(&l.desk, &c.talk, p, end, now)
    if l.desk.trouble != NONE:
        return
    c.carried = end - rest
    memcpy(c.carry, rest, c.carried)
    if l.desk.nmissed:
        fill(l, c, now)
    if c.state == OPEN:
        settle(l, c, now)


cdef void ready(Loop *l, Conn *c, uint32_t events) noexcept nogil:
    """Something can be done on a connection."""
    if c.state == CONNECTING:
        if not conn_opened(&l.net, &l.desk, c):
            conn_close(&l.net, c, clock_ns() + RETRY_NS)
            return
        l.away_since = 0
        if c.epoch:
            l.desk.tally.reconnects += 1
        settle(l, c, clock_ns())
    elif c.state == OPEN:
        if events & EPOLLOUT and not conn_flush(&l.net, &l.desk, c):
            lost(l, c, clock_ns())
        elif events & ~<uint32_t>EPOLLOUT:
            readable(l, c)
        else:
            settle(l, c, clock_ns())


cdef void look_at(Loop *l, Conn *c, int64_t now) noexcept nogil:
    """What a connection's times ask for."""
    if c.state == CLOSED:
        if c.index < l.active and c.since <= now:
            reopen(l, c, now)
    elif c.state == CONNECTING:
        if now - c.since > CONNECT_NS:
            l.net.refusal = ETIMEDOUT
            conn_close(&l.net, c, now + RETRY_NS)
    elif c.talk.asked_count and now - oldest(&c.talk).sent > REPLY_NS:
        l.desk.trouble = SILENT
    elif has_room(l, c) or c.index >= l.active:
        settle(l, c, now)


cdef void tick(Loop *l, int64_t now) noexcept nogil:
    """What need not be looked at more often."""
    cdef uint32_t i
    cdef double late
    l.next_tick = now + TICK_NS
    while (l.begun and not l.desk.open_loop and l.step < l.nsteps
            and now - l.start >= l.steps[l.step].at):
        l.active = <uint32_t>l.steps[l.step].value
        l.step += 1
    for i in range(l.nconns):
        look_at(l, &l.conns[i], now)
    if l.net.open:
        l.away_since = 0
    elif l.away_since == 0 and l.active:
        l.away_since = now
    elif l.begun and l.away_since and now - l.away_since > l.patience:
        l.desk.trouble = GONE
    if l.begun and l.desk.open_loop:
        late = <double>(now - l.start - LATE_NS) - l.due
        while late > 0:
            late -= l.interval
            l.dropped += 1
            advance(l)


cdef int64_t wake_at(Loop *l, int64_t until) noexcept nogil:
    """When there is something to do even if no connection is ready."""
    cdef int64_t wake = until if until < l.next_tick else l.next_tick
    cdef int64_t due
    if l.waits_count:
        due = l.waits[l.waits_head & (l.waits_room - 1)].due
        wake = due if due < wake else wake
    if l.begun and l.desk.open_loop and l.free_count and not l.source.ended:
        due = l.start + <int64_t>l.due
        wake = due if due < wake else wake
    return wake


cdef int poll(Loop *l, epoll_event *events, int64_t until, int64_t now) noexcept nogil:
    """Wait for events; a timer wakes the set, because epoll's own time-out counts in milliseconds."""
    cdef itimerspec when
    cdef int64_t wake = wake_at(l, until)
    cdef int count
    if l.desk.open_loop:
        wake -= WAKING_NS
    if wake <= now:
        count = epoll_wait(l.net.epoll, events, EVENTS_MAX, 0)
        if l.desk.open_loop and (count == 0 or (count == 1 and events[0].data.ptr == NULL)):
            sched_yield()
        return count
    if wake != l.armed:
        when.it_interval.tv_sec = when.it_interval.tv_nsec = 0
        when.it_value.tv_sec = wake // NS
        when.it_value.tv_nsec = wake % NS
        timerfd_settime(l.timer, TFD_TIMER_ABSTIME, &when, NULL)
        l.armed = wake
    return epoll_wait(l.net.epoll, events, EVENTS_MAX, -1)


cdef bint idle(Loop *l) noexcept nogil:
    """Whether all that was asked has its reply."""
    cdef uint32_t i
    for i in range(l.nconns):
        if l.conns[i].talk.asked_count or l.conns[i].waiting:
            return False
    return True


cdef Outcome loop_run(Loop *l, int64_t until) noexcept nogil:
    """Load the server until the clock shows `until`, or until there is a reason to return earlier."""
    cdef epoll_event events[EVENTS_MAX]
    cdef int64_t now
    cdef int count, i
    cdef bint hungry
    while True:
        now = clock_ns()
        if now >= l.next_tick:
            tick(l, now)
        if l.begun and l.desk.open_loop:
            dispatch(l, now)
        if l.waits_count:
            answer_waits(l, now)
        if l.desk.trouble != NONE:
            return TROUBLED
        if not l.begun:
            if l.net.refusal:
                return REFUSED
            if l.net.open == l.active:
                return CONNECTED
        elif l.source.ended and idle(l):
            return ENDED
        if now >= until:
            return TIME
        hungry = l.begun and starved(l) and not l.source.ended
        count = poll(l, events, now if hungry else until, now)
        if count < 0 and errno != EINTR:
            l.desk.code = errno
            l.desk.trouble = SYSTEM
            return TROUBLED
        for i in range(count):
            if events[i].data.ptr != NULL and l.desk.trouble == NONE:
                ready(l, <Conn *>events[i].data.ptr, events[i].events)
        if hungry:
            return STARVED
