# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Parked connections: see park.pxd (and park.pyi for the docstrings of the Python face)."""
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stddef cimport size_t
from libc.stdlib cimport free

cimport cython

from cacheserver.net.conn cimport DEAD, PARKED, RESUME, conn_destroy, line_put
from cacheserver.net.linux cimport (
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLIN, F_DUPFD_CLOEXEC, MSG_DONTWAIT, MSG_NOSIGNAL, POLLERR, POLLHUP, POLLOUT,
    POLLRDHUP, SHUT_RDWR,
    close, epoll_ctl, epoll_event, eventfd_write, fcntl, net_atomic_add, net_now_us, poll, pollfd,
    pthread_mutex_lock, pthread_mutex_unlock, send, shutdown, ssize_t,
)
from cacheserver.net.transport cimport RECORD_MAX, TLS_AGAIN, Tls, tls_close, tls_send, tls_unsent

cdef enum:
    LOOK_MS = 1000           # longest wait for the client before the clock is looked at again
    PORTION = 65536          # bytes that the client must take in the time of its patience; README.md names it


cdef Parked lend(object owner, ReactorC *r, Conn *c):
    """What a job needs to have a connection for itself; None if the system has no file descriptor left.

    The job may begin with it at once. Then comes park(), or, where no job has begun, Parked.withdraw().
    """
    cdef Parked parked
    cdef int fd = fcntl(c.fd, F_DUPFD_CLOEXEC, 3)
    if fd < 0:
        return None
    parked = Parked.__new__(Parked)
    parked.owner = owner
    parked.r = r
    parked.c = c
    parked.fd = fd
    return parked


cdef void park(ReactorC *r, Conn *c) noexcept nogil:
    """Leave a connection to the job that has begun with it. The reactor's thread sees it come back only later."""
    cdef epoll_event event
    # Not watched for nothing: a client that hung up would wake the set for ever.
    epoll_ctl(r.epoll_fd, EPOLL_CTL_DEL, c.fd, &event)
    c.flags |= PARKED


cdef void park_end(ReactorC *r, Conn *c) noexcept nogil:
    """A connection is back: go on with what its client has sent meanwhile, or close it."""
    cdef epoll_event event
    c.flags &= ~<unsigned int>PARKED
    if c.flags & DEAD:
        if c.tls != NULL:
            tls_close(c.tls)
            c.tls = NULL
        c.next = r.dead
        r.dead = c
        return
    event.events = EPOLLIN
    event.data.ptr = c
    if c.ending or epoll_ctl(r.epoll_fd, EPOLL_CTL_ADD, c.fd, &event) != 0:
        conn_destroy(r, c)
        return
    c.watched = EPOLLIN
    c.last = r.clock
    c.flags |= RESUME
    line_put(&r.resume, c)


cdef void park_free(ReactorC *r) noexcept nogil:
    """The reactor goes: free the connections that came back after it was shut."""
    cdef Conn *c
    while r.returned != NULL:
        c = r.returned
        r.returned = c.next
        if c.tls != NULL:
            tls_close(c.tls)
        free(c)


cdef ssize_t send_some(int fd, const char *p, size_t n, long long until) noexcept nogil:
    """Send what the client takes; 0 when the time is up, negative when it is gone."""
    cdef pollfd watched
    cdef ssize_t sent
    watched.fd = fd
    watched.events = POLLOUT
    while True:
        sent = send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT)
        if sent >= 0:
            return sent
        if errno == EINTR:
            continue
        if errno != EAGAIN:
            return -1
        if net_now_us() >= until:
            return 0
        poll(&watched, 1, LOOK_MS)


cdef ssize_t send_record(Tls *t, int fd, const char *p, size_t n, long long until) noexcept nogil:
    """send_some() for a TLS connection."""
    cdef pollfd watched
    cdef ssize_t sent
    cdef size_t left
    watched.fd = fd
    watched.events = POLLOUT
    if n > RECORD_MAX:
        n = RECORD_MAX
    left = n
    while True:
        sent = tls_send(t, p, left)
        if sent >= 0:
            left = 0
            if not tls_unsent(t):
                return <ssize_t>n
        elif sent != TLS_AGAIN:
            return sent
        if net_now_us() >= until:
            return 0
        poll(&watched, 1, LOOK_MS)


@cython.no_gc_clear  # giving the connection back needs its reactor
cdef class Parked:
    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        self.give_back(True)

    cdef void withdraw(self) noexcept:
        close(self.fd)
        self.fd = -1

    def send(self, const unsigned char[::1] data not None, *, double patience=20.0):
        cdef size_t done = 0, n = data.shape[0]
        cdef ssize_t sent
        cdef long long begun, until
        while done < n:
            if self.fd < 0:
                raise ConnectionError("the connection has been given back")
            with nogil:
                begun = net_now_us()
                until = begun - self.waited + <long long>(patience * 1000000)
                if self.c.tls == NULL:
                    sent = send_some(self.fd, <const char *>&data[done], n - done, until)
                else:
                    sent = send_record(self.c.tls, self.fd, <const char *>&data[done], n - done, until)
            if sent <= 0:
                self.broken = True   # it may have gone out in part
                raise ConnectionError("the client does not read" if sent == 0 else "the client is gone")
            done += sent
            self.waited += net_now_us() - begun
            self.taken += sent
            if self.taken >= PORTION:
                self.taken = self.waited = 0
            net_atomic_add(&self.r.parked_written, sent)

    def gone(self, double timeout=0.0):
        cdef pollfd watched
        cdef int ready
        if self.fd < 0:
            return True
        watched.fd = self.fd
        watched.events = POLLRDHUP
        watched.revents = 0
        with nogil:
            ready = poll(&watched, 1, <int>(timeout * 1000))
        return ready > 0 and watched.revents & (POLLRDHUP | POLLHUP | POLLERR) != 0

    def resume(self):
        self.give_back(False)

    def close(self):
        self.give_back(True)

    def hang_up(self):
        pthread_mutex_lock(&self.r.lock)
        if self.fd >= 0:
            shutdown(self.fd, SHUT_RDWR)
        pthread_mutex_unlock(&self.r.lock)

    cdef int give_back(self, bint ending) except -1:
        if self.fd < 0:
            return 0
        pthread_mutex_lock(&self.r.lock)
        close(self.fd)
        self.fd = -1
        self.c.ending = ending or self.broken
        self.c.next = self.r.returned
        self.r.returned = self.c
        if not self.r.inbox_shut:
            eventfd_write(self.r.wake_fd, 1)
        pthread_mutex_unlock(&self.r.lock)
        return 0
