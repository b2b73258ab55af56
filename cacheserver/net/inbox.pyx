# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The inbox: accepted sockets on their way from the accepting thread to the reactor that serves them.

Knows: a mutex, an eventfd. Must not know: what is done with the sockets.
Memory: ReactorC.inbox, under ReactorC.lock. Threads: inbox_put() any, the others the reactor's own.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, realloc

from cacheserver.net.conn cimport Arrival, Conn, ReactorC, arrival_drop, conn_open
from cacheserver.net.linux cimport (
    eventfd_read, eventfd_write, net_atomic_add, pthread_mutex_lock, pthread_mutex_unlock,
)
from cacheserver.net.park cimport park_end


cdef bint inbox_put(ReactorC *r, int fd) noexcept nogil:
    """Hand over an accepted non-blocking socket, from any thread. False: the reactor is closed or memory is
    out; fd is closed."""
    cdef Arrival a
    a.fd = fd
    a.tls = NULL
    return inbox_put_secure(r, a)


cdef bint inbox_put_secure(ReactorC *r, Arrival a) noexcept nogil:
    """inbox_put() for a socket with its TLS."""
    cdef Arrival *inbox
    cdef uint32_t cap
    cdef bint taken = False
    pthread_mutex_lock(&r.lock)
    if not r.inbox_shut:
        taken = True
        if r.ninbox == r.inbox_cap:
            cap = r.inbox_cap * 2 if r.inbox_cap else 64
            inbox = <Arrival *>realloc(r.inbox, cap * sizeof(Arrival))
            if inbox == NULL:
                taken = False
            else:
                r.inbox = inbox
                r.inbox_cap = cap
        if taken:
            r.inbox[r.ninbox] = a
            r.ninbox += 1
            net_atomic_add(&r.open, 1)
            # Under the lock, because the eventfd lives as long as the inbox is open.
            if r.ninbox == 1:
                eventfd_write(r.wake_fd, 1)
    pthread_mutex_unlock(&r.lock)
    if not taken:
        arrival_drop(&a)
    return taken


cdef void inbox_take(ReactorC *r) noexcept nogil:
    """Open a connection for every socket that was handed over; go on with those back from their jobs."""
    cdef Arrival *arrivals
    cdef Conn *back
    cdef Conn *c
    cdef uint32_t n, i
    cdef uint64_t ignored
    eventfd_read(r.wake_fd, &ignored)
    pthread_mutex_lock(&r.lock)
    arrivals = r.inbox
    n = r.ninbox
    r.inbox = NULL
    r.ninbox = r.inbox_cap = 0
    back = r.returned
    r.returned = NULL
    pthread_mutex_unlock(&r.lock)
    for i in range(n):
        conn_open(r, arrivals[i])
    free(arrivals)
    while back != NULL:
        c = back
        back = c.next
        park_end(r, c)


cdef void inbox_shut(ReactorC *r) noexcept nogil:
    """Take nothing over any more and close what was not taken over yet."""
    cdef Arrival *arrivals
    cdef uint32_t n, i
    pthread_mutex_lock(&r.lock)
    r.inbox_shut = True
    arrivals = r.inbox
    n = r.ninbox
    r.inbox = NULL
    r.ninbox = r.inbox_cap = 0
    pthread_mutex_unlock(&r.lock)
    for i in range(n):
        arrival_drop(&arrivals[i])
    net_atomic_add(&r.open, -<long long>n)
    free(arrivals)
