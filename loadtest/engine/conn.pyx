# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Sockets: see conn.pxd.

Knows: connecting without waiting, epoll, sends that take only a part. Must not know: requests, replies. Memory: a
connection owns what it could not send. Threads: the caller's.
"""
from libc.errno cimport EAGAIN, EINPROGRESS, EINTR, errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from loadtest.engine.desk cimport MEMORY, SYSTEM, Desk, talk_clear, talk_free
from loadtest.engine.linux cimport (
    AF_UNIX, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLIN, EPOLLOUT, IPPROTO_TCP, MSG_DONTWAIT, MSG_NOSIGNAL, SO_ERROR,
    SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, TCP_NODELAY,
    close, connect, epoll_ctl, epoll_event, getsockopt, send, setsockopt, sockaddr, socket, socklen_t,
)


cdef bint watch(Net *n, Conn *c, int op, bint out) noexcept nogil:
    cdef epoll_event event
    event.events = EPOLLIN | (EPOLLOUT if out else 0)
    event.data.ptr = c
    c.wants_out = out
    return epoll_ctl(n.epoll, op, c.fd, &event) == 0


cdef bint conn_open(Net *n, Conn *c, int64_t now) noexcept nogil:
    """Begin to connect; False where it fails at once, with the errno in `refusal`."""
    cdef const sockaddr *address = <const sockaddr *>n.address
    cdef int one = 1
    c.fd = socket(address.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if c.fd < 0:
        n.refusal = errno
        return False
    if address.sa_family != AF_UNIX:
        setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
    if connect(c.fd, address, n.address_size) < 0 and errno != EINPROGRESS or not watch(n, c, EPOLL_CTL_ADD, True):
        if errno != EAGAIN:     # a Unix socket whose queue is full for now
            n.refusal = errno
        close(c.fd)
        c.fd = -1
        return False
    c.state = CONNECTING
    c.since = now
    return True


cdef bint conn_opened(Net *n, Desk *d, Conn *c) noexcept nogil:
    """Connecting has ended: whether well; else the errno is in `refusal`."""
    cdef int code = 0
    cdef socklen_t size = sizeof(code)
    if getsockopt(c.fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0:
        code = errno
    if code:
        n.refusal = code
        return False
    c.state = OPEN
    n.open += 1
    if not watch(n, c, EPOLL_CTL_MOD, False):
        d.trouble = SYSTEM
        d.code = errno
    return True


cdef void conn_close(Net *n, Conn *c, int64_t again) noexcept nogil:
    """Forget the socket and the conversation; it may be opened again from `again` on."""
    if c.state == OPEN:
        n.open -= 1
    if c.fd >= 0:
        close(c.fd)
    c.fd = -1
    c.state = CLOSED
    c.since = again
    c.epoch += 1
    c.waiting = 0
    c.requests = 0
    c.retires = False
    c.unsent_at = c.unsent_end = 0
    c.carried = 0
    talk_clear(&c.talk)


cdef bint keep(Conn *c, const uint8_t *p, size_t n) noexcept nogil:
    """Put bytes behind those that have not been sent; False where there is no memory."""
    cdef size_t room
    cdef uint8_t *larger
    if c.unsent_room - c.unsent_end < n:
        room = c.unsent_room * 2 if c.unsent_room else 1 << 16
        while room - c.unsent_end < n:
            room *= 2
        larger = <uint8_t *>realloc(c.unsent, room)
        if larger == NULL:
            return False
        c.unsent = larger
        c.unsent_room = room
    memcpy(c.unsent + c.unsent_end, p, n)
    c.unsent_end += n
    return True


cdef inline int64_t push(Desk *d, Conn *c, const uint8_t *p, size_t n) noexcept nogil:
    """Send; returns the bytes that the kernel took, 0 where it takes none now, -1 where the connection has ended."""
    cdef ssize_t sent = send(c.fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT)
    if sent < 0:
        return 0 if errno == EAGAIN or errno == EINTR else -1
    d.tally.bytes_out += sent
    return sent


cdef bint conn_flush(Net *n, Desk *d, Conn *c) noexcept nogil:
    """Send what was left and then the desk's output, which is empty afterwards; False: the connection has ended."""
    cdef int64_t sent
    cdef size_t count = d.nout
    d.nout = 0
    if c.unsent_end:
        if count and not keep(c, d.out, count):
            d.trouble = MEMORY
            return True
        sent = push(d, c, c.unsent + c.unsent_at, c.unsent_end - c.unsent_at)
        if sent < 0:
            return False
        c.unsent_at += sent
        if c.unsent_at == c.unsent_end:
            c.unsent_at = c.unsent_end = 0
    elif count:
        sent = push(d, c, d.out, count)
        if sent < 0:
            return False
        if <size_t>sent < count and not keep(c, d.out + sent, count - sent):
            d.trouble = MEMORY
            return True
    if (c.unsent_end != 0) != c.wants_out and not watch(n, c, EPOLL_CTL_MOD, c.unsent_end != 0):
        d.trouble = SYSTEM
        d.code = errno
    return True


cdef void conn_free(Conn *c) noexcept nogil:
    if c.fd >= 0:
        close(c.fd)
    free(c.unsent)
    talk_free(&c.talk)
