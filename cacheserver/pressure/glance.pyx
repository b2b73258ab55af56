# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The watch beside a cache at rest, without the interpreter: wait a tick, read the usage, compare, again.

Knows: poll, and how numbers stand in a cgroup's files and in /proc/meminfo. Must not know: why a usage is quiet.
Memory: the caller's descriptors; one that is closed or used anew meanwhile only ends the watch. Threads: the
calling thread's, without the GIL.

A tick of the monitor costs about 100 us of Python; beside a full cache it would come some hundred times a
second to find nothing. A glance costs three system calls.
"""
import os

from libc.errno cimport EINTR, errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport strchr, strncmp, strstr

cdef extern from "<poll.h>" nogil:
    enum:
        POLLIN
    struct pollfd:
        int fd
        short events
        short revents
    int ppoll(pollfd *fds, unsigned long nfds, const timespec *timeout, const void *sigmask)

cdef extern from "<time.h>" nogil:
    enum:
        CLOCK_MONOTONIC
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *now)

cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int fd, void *buf, size_t n, int64_t offset)

cdef enum:
    LIMITS_MAX = 4
    TEXT = 512               # bytes of a file; in meminfo the two fields are in the first three lines
    STAT_TEXT = 16384        # of memory.stat; it has about 4 KiB
    TERMS_MAX = 8
    NONE = -1                # "max"
    BAD = -2

cdef double SECONDS_MAX = 1e9
cdef int64_t UNLIMITED_V1 = <int64_t>1 << 62
cdef int64_t SANE_MAX = <int64_t>1 << 52  # what is added up or multiplied: no sum of such can overflow

cdef struct Term:
    const char *key
    size_t length
    int weight

cdef struct Watched:
    int usage_fd
    int nlimits
    int limit_fds[LIMITS_MAX]
    bint meminfo
    int stat_fd
    int nterms
    Term terms[TERMS_MAX]
    double share
    int64_t limit
    int64_t low
    int64_t high


cdef double clock() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + t.tv_nsec * 1e-9


cdef int64_t digits(const char *p) noexcept nogil:
    """The number at `p`, leading blanks skipped; BAD where there is none, or more than a number."""
    cdef int64_t value = 0
    cdef int n = 0
    while p[0] == c" ":
        p += 1
    while c"0" <= p[n] <= c"9":
        if n == 18:          # v1's "no limit" has 19 digits
            return UNLIMITED_V1
        value = value * 10 + (p[n] - c"0")
        n += 1
    return value if n and (p[n] == c"\n" or p[n] == c" " or p[n] == 0) else BAD


cdef ssize_t slurp(int fd, char *text, size_t size) noexcept nogil:
    """Read the file's beginning, up to `size` - 1 bytes, as a string; how many, 0 where there is nothing."""
    cdef ssize_t n = pread(fd, text, size - 1, 0)
    if n <= 0:
        return 0
    text[n] = 0
    return n


cdef int64_t number(int fd) noexcept nogil:
    """The number in a file; NONE for "max", BAD when it cannot be read or says something else."""
    cdef char text[TEXT]
    if not slurp(fd, text, TEXT):
        return BAD
    if strncmp(text, b"max", 3) == 0:
        return NONE
    return digits(text)


cdef int64_t kibibytes(const char *text, const char *key) noexcept nogil:
    """A field of meminfo in bytes, or BAD."""
    cdef const char *at = strstr(text, key)
    cdef int64_t value
    if at == NULL:
        return BAD
    while at[0] != c":":     # a key ends with it
        at += 1
    value = digits(at + 1)
    return value << 10 if 0 <= value < SANE_MAX else BAD


cdef bint host_is_quiet(Watched *w) noexcept nogil:
    cdef char text[TEXT]
    cdef int64_t total, available
    if not slurp(w.usage_fd, text, TEXT):
        return False
    total = kibibytes(text, b"MemTotal:")
    available = kibibytes(text, b"MemAvailable:")
    return total == w.limit and 0 <= available <= total and w.low <= total - available <= w.high


cdef int64_t page_cache(Watched *w) noexcept nogil:
    """Half the weighted sum of the terms in memory.stat, not below 0; BAD when one that adds to it is missing."""
    cdef char text[STAT_TEXT]
    cdef const char *line = text
    cdef int64_t twice = 0, value
    cdef int i, missing = 0
    cdef ssize_t length = slurp(w.stat_fd, text, STAT_TEXT)
    if length == 0 or length == STAT_TEXT - 1:  # a longer one may be cut in the middle of a number
        return BAD
    for i in range(w.nterms):
        missing += w.terms[i].weight > 0
    while line != NULL:
        for i in range(w.nterms):
            if strncmp(line, w.terms[i].key, w.terms[i].length) == 0:
                value = digits(line + w.terms[i].length)
                if value < 0 or value >= SANE_MAX:
                    return BAD
                twice += value * w.terms[i].weight
                missing -= w.terms[i].weight > 0
                break
        line = strchr(line, c"\n")
        if line != NULL:
            line += 1
    if missing:
        return BAD
    return twice >> 1 if twice > 0 else 0


cdef bint is_quiet(Watched *w) noexcept nogil:
    """Whether the limit is the known one and the usage within the window; False for all that needs a closer look."""
    cdef int64_t usage, limit, cache, lowest = NONE
    cdef int i
    if w.meminfo:
        return host_is_quiet(w)
    usage = number(w.usage_fd)
    if usage < 0:
        return False
    if w.share > 0:
        cache = page_cache(w)
        if cache < 0:
            return False
        usage -= <int64_t>(cache * w.share)
    if usage < w.low or usage > w.high:
        return False
    for i in range(w.nlimits):
        limit = number(w.limit_fds[i])
        if limit == BAD:
            return False
        if 0 <= limit < UNLIMITED_V1 and (lowest < 0 or limit < lowest):
            lowest = limit
    return lowest == w.limit


cdef double watch(Watched *w, pollfd *fds, int n, double deaf, double tick, double seconds, int *nready) noexcept nogil:
    """See glance(). fds[n - 1] is the one to be deaf to. `nready`: below 0 it is the error's number."""
    cdef double start = clock(), now = start, end = start + seconds, rested = -1.0, wait
    cdef timespec t
    while True:
        wait = min(deaf if deaf > 0 else tick, end - now)
        if wait < 0:
            wait = 0
        t.tv_sec = <long>wait
        t.tv_nsec = <long>((wait - t.tv_sec) * 1e9)
        nready[0] = ppoll(fds, n - 1 if deaf > 0 else n, &t, NULL)
        deaf = 0
        if nready[0] < 0:
            nready[0] = 0 if errno == EINTR else -errno
        now = clock()
        if nready[0] != 0 or not is_quiet(w):
            break
        rested = now - start
        if now >= end:
            break
    return rested


def glance(
    list watches, int wake_fd, double deaf, double tick, double seconds,
    gauge, int64_t limit, int64_t low, int64_t high, double share,
):
    """Watch until something is to be looked at: see glance.pyi."""
    cdef pollfd *polled
    cdef Watched w
    cdef int n = len(watches), i, ready = 0
    cdef double rested
    cdef bytes key
    cdef tuple limit_fds = gauge.limit_fds, terms = gauge.terms
    if not (tick > 0 and seconds < SECONDS_MAX):
        raise ValueError(f"a tick of {tick} seconds would never wait, or {seconds} seconds never end")
    if len(limit_fds) > LIMITS_MAX or len(terms) > TERMS_MAX:
        raise ValueError(f"{len(limit_fds)} limits or {len(terms)} terms are too many")
    w.usage_fd = gauge.usage_fd
    w.nlimits = len(limit_fds)
    for i in range(w.nlimits):
        w.limit_fds[i] = limit_fds[i]
    w.meminfo = gauge.meminfo
    w.stat_fd = gauge.stat_fd
    w.nterms = len(terms)
    for i in range(w.nterms):
        key, w.terms[i].weight = terms[i]
        w.terms[i].key = key  # alive as long as `gauge`
        w.terms[i].length = len(key)
    w.share = share
    w.limit, w.low, w.high = limit, low, high
    polled = <pollfd *>calloc(n + 1, sizeof(pollfd))
    if polled == NULL:
        raise MemoryError
    try:
        for i in range(n):
            polled[i].fd, polled[i].events = watches[i]
        polled[n].fd, polled[n].events = wake_fd, POLLIN
        with nogil:
            rested = watch(&w, polled, n + 1, deaf, tick, seconds, &ready)
        if ready < 0:
            raise OSError(-ready, os.strerror(-ready))
        if ready == 0:
            return [], rested
        return [(polled[i].fd, polled[i].revents) for i in range(n + 1) if polled[i].revents], rested
    finally:
        free(polled)
