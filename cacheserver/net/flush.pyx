# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Sending: one send or sendmsg a connection a batch, and what becomes of the bytes the kernel does not take.

Knows: spans, pins, pieces. Must not know: reading, asyncio, requests.
Memory: every pin that comes in with a span is given back here exactly once: when its bytes were sent, when
they were copied, or when the connection went away; or it moves into a piece, and piece_done() gives it back.
An item of several spans carries its pin on the last of them, so its spans are copied all or none.
"""
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from cacheserver.engine cimport Span, engine_unpin, output_free, output_reset
from cacheserver.net.conn cimport (
    CLOSING, COMMAND, DEAD, HELD, HELD_MAX, IOV_COUNT, LINGER, QUEUE_MAX, RESUME, UNREAD, UNSENT,
    Conn, Piece, Queued, ReactorC, budget_enforce, carry_drop, conn_destroy, conn_part, conn_secure, conn_watch, line_put,
    conn_side, piece_done, piece_hold, piece_pin, piece_shrink,
)
from cacheserver.net.linux cimport (
    EPOLLIN, EPOLLOUT, FIONREAD, MSG_DONTWAIT, MSG_NOSIGNAL,
    ioctl, msghdr, net_atomic_get, send, sendmsg, ssize_t,
)
from cacheserver.net.transport cimport RECORD_MAX, TLS_AGAIN, tls_send, tls_unsent

cdef enum:
    FLUSH_TEXT = 1048576     # bytes of reply text that end a batch early
    FLUSH_BYTES = 8388608    # bytes of reply that do, so that pins stay short
    OUTPUT_KEPT = 4194304    # bytes of text buffer kept from batch to batch
    RECORDS_TURN = 64        # records encrypted for one connection in one turn


cdef void flush_note(ReactorC *r, Conn *c, uint32_t first) noexcept nogil:
    """Queue what `c` added to the output, from span `first` on. May flush: `c` may be dead or unsent
    afterwards."""
    cdef uint32_t count = r.out.nspans - first
    cdef Queued *q
    if count == 0 and not c.flags & CLOSING:
        return
    q = &r.queue[r.queued - 1] if r.queued else NULL
    if q != NULL and q.conn == c and q.first + q.count == first:
        q.count += count
    else:
        q = &r.queue[r.queued]
        q.conn = c
        q.first = first
        q.count = count
        r.queued += 1
    if r.queued == QUEUE_MAX or r.out.text.len > FLUSH_TEXT or r.out.bytes > FLUSH_BYTES:
        flush_all(r)


cdef void flush_all(ReactorC *r) noexcept nogil:
    """Send every queued reply and empty the output."""
    cdef uint32_t i
    for i in range(r.queued):
        deliver(r, r.queue[i].conn, r.out.spans + r.queue[i].first, r.queue[i].count)
    r.queued = 0
    output_reset(&r.out)
    if r.out.text.cap > OUTPUT_KEPT:
        output_free(&r.out)
    budget_enforce(r)


cdef void deliver(ReactorC *r, Conn *c, Span *spans, uint32_t n) noexcept nogil:
    """Send one connection's spans, keep what the kernel does not take, close if that was asked for."""
    cdef uint32_t done = 0
    cdef size_t skip = 0
    if c.flags & (DEAD | LINGER):
        give_back(r, spans, n)
        return
    if n and not c.flags & UNSENT:
        if not (transmit if c.tls == NULL else transmit_secure)(r, c, spans, n, &done, &skip):
            give_back(r, spans, n)
            conn_destroy(r, c)
            return
        give_back(r, spans, done)
    if done < n or (c.tls != NULL and tls_unsent(c.tls)):
        c.flags |= UNSENT
        if not retain(r, c, spans + done, n - done, skip) or not conn_watch(r, c, EPOLLOUT):
            conn_destroy(r, c)
        else:
            conn_side(r, c)
    elif c.flags & CLOSING and not c.flags & UNSENT:
        finish(r, c)


cdef inline void give_back(ReactorC *r, Span *spans, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if spans[i].pin:
            engine_unpin(r.engine, spans[i].pin)


cdef bint transmit(ReactorC *r, Conn *c, Span *spans, uint32_t n, uint32_t *done,
                   size_t *skip) noexcept nogil:
    """Hand spans to the kernel: `done` of them went whole, `skip` bytes of the next. False: the connection
    is broken."""
    cdef msghdr message
    cdef uint32_t count, i
    cdef size_t asked
    cdef ssize_t sent
    memset(&message, 0, sizeof(message))
    message.msg_iov = r.iov
    while done[0] < n:
        count = n - done[0]
        if count > IOV_COUNT:
            count = IOV_COUNT
        asked = 0
        for i in range(count):
            r.iov[i].iov_base = span_bytes(r, &spans[done[0] + i])
            r.iov[i].iov_len = spans[done[0] + i].len
            asked += r.iov[i].iov_len
        if count == 1:
            sent = send(c.fd, r.iov[0].iov_base, asked, MSG_NOSIGNAL | MSG_DONTWAIT)
        else:
            message.msg_iovlen = count
            sent = sendmsg(c.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)
        if sent < 0:
            if errno == EINTR:
                continue
            return errno == EAGAIN
        r.bytes_written += <size_t>sent
        c.last = r.clock
        if <size_t>sent == asked:
            done[0] += count
            continue
        while <size_t>sent >= spans[done[0]].len:
            sent -= <ssize_t>spans[done[0]].len
            done[0] += 1
        skip[0] = <size_t>sent
        return True
    return True


cdef ssize_t send_record(ReactorC *r, Conn *c, size_t n) noexcept nogil:
    """Encrypt and send the `n` bytes at ReactorC.record; see tls_send()."""
    cdef ssize_t sent = tls_send(c.tls, r.record, n)
    conn_secure(r, c)
    if sent > 0:
        r.bytes_written += <size_t>sent
        c.last = r.clock
    elif sent < 0 and sent != TLS_AGAIN:
        r.tls_errors += 1
    return sent


cdef bint transmit_secure(ReactorC *r, Conn *c, Span *spans, uint32_t n, uint32_t *done,
                          size_t *skip) noexcept nogil:
    """transmit() for a TLS connection: records filled from one span after the other, a bounded number."""
    cdef size_t size, part, room
    cdef ssize_t sent
    cdef uint32_t i
    cdef int turn
    for turn in range(RECORDS_TURN):
        i = done[0]
        part = skip[0]
        size = 0
        while i < n and size < RECORD_MAX:
            room = RECORD_MAX - size
            if spans[i].len - part > room:
                memcpy(r.record + size, <char *>span_bytes(r, &spans[i]) + part, room)
                part += room
                size += room
            else:
                memcpy(r.record + size, <char *>span_bytes(r, &spans[i]) + part, spans[i].len - part)
                size += spans[i].len - part
                part = 0
                i += 1
        if size == 0:
            return True
        sent = send_record(r, c, size)
        if sent < 0:
            return sent == TLS_AGAIN
        done[0] = i
        skip[0] = part
    return True


cdef void flush_secure(ReactorC *r, Conn *c) noexcept nogil:
    """flush_more() for a TLS connection."""
    cdef size_t size, part
    cdef ssize_t sent
    cdef Piece *p
    cdef uint32_t i
    cdef int turn
    for turn in range(RECORDS_TURN):
        size = 0
        for i in range(c.head, c.npieces):
            p = &c.pieces[i]
            part = p.len if p.len < RECORD_MAX - size else RECORD_MAX - size
            memcpy(r.record + size, p.base, part)
            size += part
            if size == RECORD_MAX:
                break
        sent = send_record(r, c, size)
        if sent == TLS_AGAIN:
            break
        if sent < 0:
            conn_destroy(r, c)
            return
        advance(r, c, <size_t>sent)
        if c.head == c.npieces and not tls_unsent(c.tls):
            emptied(r, c)
            return


cdef inline void *span_bytes(ReactorC *r, Span *s) noexcept nogil:
    if s.base == NULL:
        return r.out.text.data + s.offset
    return <void *>s.base


cdef bint retain(ReactorC *r, Conn *c, Span *spans, uint32_t n, size_t skip) noexcept nogil:
    """Keep spans less the first `skip` bytes: runs that may be copied as one block each, other items by
    their pins.

    False if memory is out; every pin is then given back or in a piece.
    """
    cdef uint32_t i = 0, end
    cdef size_t total
    while i < n:
        end = copy_run(r, c, spans, i, n, skip, &total)
        if end > i:
            if not copy(r, c, spans + i, end - i, skip, total):
                give_back(r, spans + i, n - i)
                return False
        else:
            end = item_end(spans, i, n)
            while i < end:
                if not piece_pin(r, c, spans[i].base + skip, spans[i].len - skip, spans[i].pin):
                    give_back(r, spans + i, n - i)
                    return False
                skip = 0
                i += 1
        skip = 0
        i = end
    return True


cdef inline uint32_t item_end(Span *spans, uint32_t i, uint32_t n) noexcept nogil:
    """Index after the last span of the item whose bytes begin at span `i`: the one that carries the pin."""
    while i < n and spans[i].base != NULL:
        i += 1
        if spans[i - 1].pin:
            break
    return i


cdef uint32_t copy_run(ReactorC *r, Conn *c, Span *spans, uint32_t i, uint32_t n, size_t skip,
                       size_t *total) noexcept nogil:
    """End of the longest run from span `i` to copy: all text, and items while connection and budget have
    room."""
    cdef long long used = net_atomic_get(&r.budgets[HELD].used)
    cdef long long limit = net_atomic_get(&r.budgets[HELD].limit)
    cdef uint32_t end, k
    cdef size_t size
    total[0] = 0
    while i < n:
        if spans[i].base == NULL:
            total[0] += spans[i].len - skip
            i += 1
        else:
            end = item_end(spans, i, n)
            size = 0
            for k in range(i, end):
                size += spans[k].len
            size -= skip
            if c.held + total[0] + size > HELD_MAX:
                break
            if used + <long long>(total[0] + size) > limit:
                break
            total[0] += size
            i = end
        skip = 0
    return i


cdef bint copy(ReactorC *r, Conn *c, Span *spans, uint32_t n, size_t skip, size_t total) noexcept nogil:
    """Copy spans into one new block of `total` bytes and give their pins back; False (nothing changed) if
    memory is out."""
    cdef Piece *p = piece_hold(r, c, total)
    cdef char *to
    cdef uint32_t i
    if p == NULL:
        return False
    to = p.base
    for i in range(n):
        memcpy(to, <char *>span_bytes(r, &spans[i]) + skip, spans[i].len - skip)
        to += spans[i].len - skip
        skip = 0
    give_back(r, spans, n)
    return True


cdef void flush_more(ReactorC *r, Conn *c) noexcept nogil:
    """The fd of an UNSENT connection has room: send on. When all is gone, read again, or close if that was
    asked for."""
    cdef msghdr message
    cdef Piece *p
    cdef uint32_t count = 0
    cdef ssize_t sent
    if c.tls != NULL:
        flush_secure(r, c)
        return
    while c.head + count < c.npieces and count < IOV_COUNT:
        p = &c.pieces[c.head + count]
        r.iov[count].iov_base = p.base
        r.iov[count].iov_len = p.len
        count += 1
    memset(&message, 0, sizeof(message))
    message.msg_iov = r.iov
    message.msg_iovlen = count
    sent = sendmsg(c.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)
    if sent < 0:
        if errno != EAGAIN and errno != EINTR:
            conn_destroy(r, c)
        return
    r.bytes_written += <size_t>sent
    c.last = r.clock
    advance(r, c, <size_t>sent)
    if c.head == c.npieces:
        emptied(r, c)


cdef void advance(ReactorC *r, Conn *c, size_t sent) noexcept nogil:
    """Drop the first `sent` bytes of the pieces."""
    cdef Piece *p
    while c.head < c.npieces and sent >= c.pieces[c.head].len:
        sent -= c.pieces[c.head].len
        piece_done(r, c, &c.pieces[c.head])
        c.head += 1
    if sent:
        p = &c.pieces[c.head]
        p.base += sent
        p.len -= sent
        if p.block == NULL:
            piece_shrink(r, c, sent)


cdef void emptied(ReactorC *r, Conn *c) noexcept nogil:
    """The last kept byte went out."""
    free(c.pieces)
    c.pieces = NULL
    c.head = c.npieces = c.pieces_cap = 0
    conn_side(r, c)
    c.flags &= ~<uint32_t>UNSENT
    if c.flags & CLOSING:
        finish(r, c)
    elif not conn_watch(r, c, EPOLLIN):
        conn_destroy(r, c)
    elif c.flags & COMMAND:
        line_put(&r.command, c)
    elif c.flags & RESUME:
        line_put(&r.resume, c)


cdef void finish(ReactorC *r, Conn *c) noexcept nogil:
    """Close a connection whose output is gone.

    Closing with input unread makes the kernel send a reset, which may overtake the reply: such a connection
    only shuts its write side and discards input until the client closes, or sweep() or the discarded bytes
    end it.
    """
    cdef int unread = 0
    ioctl(c.fd, FIONREAD, &unread)
    if unread == 0 and not c.flags & UNREAD:
        conn_destroy(r, c)
        return
    conn_part(c)
    c.flags |= LINGER
    carry_drop(r, c)
    if not conn_watch(r, c, EPOLLIN):
        conn_destroy(r, c)
