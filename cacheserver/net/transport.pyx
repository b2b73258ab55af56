# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""The encrypted bytes of a connection: see transport.pxd."""
import ssl

from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport calloc, free

from cacheserver.net.linux cimport EPOLLIN, EPOLLOUT

cdef extern from *:
    """
    #include <stdlib.h>
    #ifdef __GLIBC__
    #include <malloc.h>
    static inline void net_trim(void) { malloc_trim(0); }
    #else
    static inline void net_trim(void) { }
    #endif
    """
    void net_trim() nogil

WANT_READ = ssl.SSLWantReadError
WANT_WRITE = ssl.SSLWantWriteError


cdef Tls *tls_wrap(object sock, size_t base):
    """A Tls that owns `sock`; NULL if memory is out (`sock` stays the caller's)."""
    cdef Tls *t = <Tls *>calloc(1, sizeof(Tls))
    if t != NULL:
        Py_INCREF(sock)
        t.sock = <PyObject *>sock
        t.base = base
    return t


cdef ssize_t tls_recv(Tls *t, char *p, size_t n) noexcept nogil:
    """Receive one record, or what is left of one; `n` is RECORD_MAX or more. 0: the client will send no more.

    One at a time, since what follows then stays in the kernel, where an event tells of it when it may be read.
    """
    with gil:
        return receive(t, p, n)


cdef ssize_t receive(Tls *t, char *p, size_t n) noexcept:
    cdef ssize_t got
    if t.ended:
        return TLS_BROKEN
    try:
        got = (<object>t.sock).recv_into(PyMemoryView_FromMemory(p, <Py_ssize_t>n, PyBUF_WRITE), <Py_ssize_t>n)
        t.partial = False
        return got
    except WANT_READ:
        t.partial = True
        t.wants = EPOLLIN
        return TLS_AGAIN
    except WANT_WRITE:       # it must answer before it can go on, such as with a key of its own
        t.wants = EPOLLOUT
        return TLS_AGAIN
    except Exception:
        t.ended = True
        return TLS_BROKEN


cdef ssize_t tls_send(Tls *t, const char *p, size_t n) noexcept nogil:
    """Send `n` bytes, RECORD_MAX at most, all of them or (TLS_AGAIN) none that count yet: the same are to be sent again."""
    with gil:
        return send(t, p, n)


cdef ssize_t send(Tls *t, const char *p, size_t n) noexcept:
    if t.ended:
        return TLS_BROKEN
    try:
        (<object>t.sock).send(PyMemoryView_FromMemory(<char *>p, <Py_ssize_t>n, PyBUF_READ))
        t.retry = 0
        return <ssize_t>n
    except WANT_WRITE:
        t.wants = EPOLLOUT
    except WANT_READ:        # half of a message that must be read first has come in
        t.wants = EPOLLIN
    except Exception:
        t.ended = True
        return TLS_BROKEN
    t.retry = n
    return TLS_AGAIN


cdef void tls_bye(Tls *t) noexcept nogil:
    """Tell the client that nothing more will be sent, if that works at once; no waiting for its answer."""
    if t.ended:
        return
    t.ended = True
    with gil:
        say_bye(t)


cdef void say_bye(Tls *t) noexcept:
    try:
        (<object>t.sock).unwrap()
    except Exception:        # mostly WANT_READ: the client's own word is still out
        pass


cdef void tls_close(Tls *t) noexcept nogil:
    """Close the socket, with a last word where there was none, and free `t`."""
    tls_bye(t)
    with gil:
        shut(t)
    free(t)


cdef void shut(Tls *t) noexcept:
    cdef object sock = <object>t.sock
    t.sock = NULL
    Py_DECREF(sock)
    try:
        sock.close()
    except Exception:        # a reset that nobody had noticed yet: the descriptor is closed all the same
        pass


def trim_heap() -> None:
    """Have the heap give back to the host what it keeps of connections that are gone; any thread.

    Measured: 15 KB for each of a thousand TLS connections stayed without it, 2 KB with it; 3 ms. Nothing happens where
    the C library has no such call.
    """
    with nogil:
        net_trim()
