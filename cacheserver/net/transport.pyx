# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The encrypted bytes of a connection: see transport.pxd (and transport.pyi for the docstrings of the Python face)."""
import contextlib
import ssl

from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc cimport errno as system
from libc.errno cimport EAGAIN, EINTR, EIO, errno
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from cacheserver.net.linux cimport MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK, SHUT_RD, recv, send, shutdown

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

cdef enum:
    FEED_MAX = 16384         # encrypted bytes received by one call
    FEED_RECORDS = 8         # records that it ends after: each may hold a change of keys instead of data
    IDLE_RECORDS = 256       # records without data, one after the other, that end a connection
    PIECE = 4096             # bytes that cross a MemoryBIO at once
    SHORT = 1024             # bytes of a piece for which a MemoryBIO has room after the shortest handshake
    FLIGHT = 2048            # bytes of what the server says in one
    SEND_ROOM = 20480        # bytes of a record's data encrypted, in pieces, and of answers that OpenSSL adds

WANT_READ = ssl.SSLWantReadError
WANT_WRITE = ssl.SSLWantWriteError


cdef size_t pass_records(Records *s, const unsigned char *p, size_t n, uint32_t most, uint32_t *ends) noexcept nogil:
    """Follow the records in the `n` bytes at `p` up to the end of the `most`th; returns the bytes that takes, in `ends` the
    number of records that end in them. A header: type, version (two bytes), length (two bytes)."""
    cdef size_t at = 0, part
    ends[0] = 0
    while at < n and ends[0] < most:
        if s.head < 5:
            s.head += 1
            if s.head == 4:
                s.left = <uint32_t>p[at] << 8
            elif s.head == 5:
                s.left |= p[at]
            at += 1
        else:
            part = s.left if s.left < n - at else n - at
            s.left -= <uint32_t>part
            at += part
        if s.head == 5 and s.left == 0:
            s.head = 0
            ends[0] += 1
    return at


cdef ssize_t take(int fd, Records *s, char *p, size_t size, uint32_t most, uint32_t *ends, bint *more) noexcept nogil:
    """recv() of `size` bytes, but not beyond the end of the `most`th record; `more`: the kernel has more.

    What is left there an event tells of; kept here it would be forgotten.
    """
    cdef ssize_t got = recv(fd, p, size, MSG_PEEK | MSG_DONTWAIT)
    cdef size_t n
    more[0] = False
    if got <= 0:
        return got
    n = pass_records(s, <const unsigned char *>p, <size_t>got, most, ends)
    more[0] = n < <size_t>got or <size_t>got == size
    if recv(fd, p, n, MSG_DONTWAIT) != <ssize_t>n:
        system.errno = EIO
        return -1
    return <ssize_t>n


cdef class Secure:
    def __init__(self, sock, context):
        self.sock = sock
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.unsent = b""

    def do_handshake(self):
        cdef int turn
        self.push()
        for turn in range(FEED_RECORDS):
            try:
                self.tls.do_handshake()
            except WANT_READ:
                self.push()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self.push()          # it says why
                raise
            else:
                self.push()
                return
            self.pull()
        raise WANT_READ("others have their turn")

    def fileno(self):
        return self.sock.fileno()

    def close(self):
        self.sock.close()

    cdef int push(self) except -1:
        """Send what OpenSSL has to say. Raises SSLWantWriteError."""
        self.long_out |= self.outgoing.pending > FLIGHT
        self.unsent += self.outgoing.read()
        while self.unsent:
            try:
                self.unsent = self.unsent[self.sock.send(self.unsent):]
            except BlockingIOError:
                raise WANT_WRITE("the client does not read") from None
        return 0

    cdef int pull(self) except -1:
        """Let OpenSSL have one record, or what has come of it. Raises SSLWantReadError.

        Not more: what follows the handshake would be inside OpenSSL, where no event tells of it.
        """
        cdef char p[PIECE]
        cdef uint32_t ends
        cdef bint more
        cdef ssize_t got = take(self.sock.fileno(), &self.records, p, PIECE, 1, &ends, &more)
        if got < 0 and (errno == EAGAIN or errno == EINTR):
            raise WANT_READ("nothing has come")
        self.records.idle += ends
        if got <= 0 or self.records.idle > IDLE_RECORDS:
            raise ConnectionError("the client is gone" if got <= 0 else "the client sends too many records")
        self.long_in |= got > SHORT
        self.incoming.write(PyMemoryView_FromMemory(p, got, PyBUF_READ))
        return 0


cdef Tls *tls_wrap(Secure secure, size_t base):
    """A Tls that owns `secure`, whose handshake is done; NULL if memory is out (`secure` stays the caller's)."""
    cdef Tls *t = <Tls *>calloc(1, sizeof(Tls))
    if t != NULL:
        Py_INCREF(secure)
        t.secure = <PyObject *>secure
        t.fd = secure.sock.fileno()
        t.base = base
        t.long_in = secure.long_in
        t.long_out = secure.long_out
    return t


cdef ssize_t tls_recv(Tls *t, char *p, size_t n) noexcept nogil:
    """Receive what a few records hold; `n` is RECEIVE_ROOM or more. 0: the client will send no more.

    TLS_AGAIN: nothing of them is whole yet, or they hold no data. It may have an answer for the client all the same: see
    tls_unsent().
    """
    cdef char wire[FEED_MAX]
    cdef uint32_t ends
    cdef ssize_t got
    if t.over and not t.ended:
        return 0
    got = put_more(t)
    if got < 0:
        return got
    got = take(t.fd, &t.records, wire, FEED_MAX, FEED_RECORDS, &ends, &t.more)
    if got == 0:
        return 0
    if got < 0:
        if errno == EAGAIN or errno == EINTR:
            return TLS_AGAIN
        t.ended = True
        return TLS_BROKEN
    with gil:
        got = decrypt(t, wire, <size_t>got, p, n)
    if t.over or t.ended:
        shutdown(t.fd, SHUT_RD)      # it came with data, and comes once: from now on an event tells of it
    if got > 0:
        t.records.idle = 0
        return got
    if t.ended:
        return TLS_BROKEN
    if t.over:
        return 0
    t.records.idle += ends
    if t.records.idle > IDLE_RECORDS:
        t.ended = True
        return TLS_BROKEN
    return TLS_AGAIN


cdef ssize_t decrypt(Tls *t, const char *wire, size_t size, char *p, size_t n) noexcept:
    """Let OpenSSL have `size` encrypted bytes; returns the bytes of data that came of them, at `p`."""
    cdef Secure s = <Secure>t.secure
    cdef size_t at = 0, part, done = 0
    cdef ssize_t got
    try:
        while at < size and not t.over:
            part = size - at if size - at < PIECE else PIECE
            t.long_in |= part > SHORT
            s.incoming.write(PyMemoryView_FromMemory(<char *>wire + at, <Py_ssize_t>part, PyBUF_READ))
            at += part
            while s.incoming.pending and not t.over:
                got = read_record(s, p + done, n - done)
                if got == TLS_AGAIN:
                    break
                done += <size_t>got
                t.over = got == 0
    except Exception:
        t.ended = True           # it may say why
    say(t)
    return <ssize_t>done


cdef ssize_t read_record(Secure s, char *p, size_t n) except -1:
    try:
        return s.tls.read(<Py_ssize_t>n, PyMemoryView_FromMemory(p, <Py_ssize_t>n, PyBUF_WRITE))
    except WANT_READ:
        return TLS_AGAIN


cdef void say(Tls *t) noexcept:
    """Send what OpenSSL has to say of itself, such as a key of its own; nothing may wait before it."""
    cdef Secure s = <Secure>t.secure
    cdef bytes words
    try:
        if s.outgoing.pending:
            words = s.outgoing.read()
            put(t, words, <size_t>len(words))
    except Exception:
        t.ended = True


cdef void put(Tls *t, const char *p, size_t n) noexcept nogil:
    """Send encrypted bytes, and keep those that the kernel does not take; there are no such already."""
    cdef ssize_t sent = send(t.fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT)
    if sent < 0:
        if errno != EAGAIN and errno != EINTR:
            t.ended = True
            return
        sent = 0
    n -= <size_t>sent
    if n == 0:
        return
    t.block = <char *>malloc(n)
    if t.block == NULL:
        t.ended = True
        return
    memcpy(t.block, p + sent, n)
    t.nblock = n
    t.sent = 0


cdef ssize_t put_more(Tls *t) noexcept nogil:
    """Send what the kernel did not take before: 0 when all of it is gone."""
    cdef ssize_t sent
    if t.ended:
        return TLS_BROKEN
    if t.block == NULL:
        return 0
    sent = send(t.fd, t.block + t.sent, t.nblock - t.sent, MSG_NOSIGNAL | MSG_DONTWAIT)
    if sent < 0:
        if errno == EAGAIN or errno == EINTR:
            return TLS_AGAIN
        t.ended = True
        return TLS_BROKEN
    t.sent += <size_t>sent
    if t.sent < t.nblock:
        return TLS_AGAIN
    free(t.block)
    t.block = NULL
    t.nblock = 0
    return 0


cdef ssize_t tls_send(Tls *t, const char *p, size_t n) noexcept nogil:
    """Send `n` bytes, RECORD_MAX at most: all of them, or (TLS_AGAIN) none.

    Those that are sent may still wait for room in the kernel: see tls_unsent(). Nothing follows them before they are gone;
    `n` 0 does no more than send them.
    """
    cdef char wire[SEND_ROOM]
    cdef ssize_t size = put_more(t)
    if size < 0 or n == 0:
        return size
    with gil:
        size = encrypt(t, p, n, wire)
    if size >= 0:
        put(t, wire, <size_t>size)
    else:
        t.ended = True
    return TLS_BROKEN if t.ended else <ssize_t>n


cdef ssize_t encrypt(Tls *t, const char *p, size_t n, char *wire) noexcept:
    """Encrypt `n` bytes into the SEND_ROOM bytes at `wire`; negative if that fails."""
    cdef Secure s = <Secure>t.secure
    cdef size_t at = 0, part, size = 0
    cdef bytes made
    try:
        while at < n:
            part = n - at if n - at < PIECE else PIECE
            t.long_out |= part > SHORT
            if s.tls.write(PyMemoryView_FromMemory(<char *>p + at, <Py_ssize_t>part, PyBUF_READ)) != part:
                return TLS_BROKEN
            made = s.outgoing.read()
            if size + <size_t>len(made) > SEND_ROOM:
                return TLS_BROKEN
            memcpy(wire + size, <const char *>made, <size_t>len(made))
            size += <size_t>len(made)
            at += part
        return <ssize_t>size
    except Exception:            # also where half of a handshake message would have to be read first
        return TLS_BROKEN


cdef void tls_bye(Tls *t) noexcept nogil:
    """Tell the client that nothing more will be sent, if that works at once; no waiting for its answer."""
    if t.ended:
        return
    if t.block == NULL:
        with gil:
            say_bye(t)
    t.ended = True


cdef void say_bye(Tls *t) noexcept:
    try:
        (<Secure>t.secure).tls.unwrap()
    except Exception:        # mostly WANT_READ: the client's own word is still out
        pass
    say(t)


cdef void tls_close(Tls *t) noexcept nogil:
    """Close the socket, with a last word where there was none, and free `t`."""
    tls_bye(t)
    with gil:
        shut(t)
    free(t.block)
    free(t)


cdef void shut(Tls *t) noexcept:
    cdef Secure secure = <Secure>t.secure
    t.secure = NULL
    Py_DECREF(secure)
    try:
        secure.close()
    except Exception:        # a reset that nobody had noticed yet: the descriptor is closed all the same
        pass


def trim_heap() -> None:
    """Have the heap give back to the host what it keeps of connections that are gone; any thread.

    Measured: 15 KB for each of a thousand TLS connections stayed without it, 2 KB with it; 3 ms. Nothing happens where
    the C library has no such call.
    """
    with nogil:
        net_trim()
