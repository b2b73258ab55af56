# cython: language_level=3
"""The system calls the reactor and the listener use, as declarations only: sockets, epoll, eventfd, a mutex,
atomics.

Knows: libc. Must not know: connections, the engine.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t alignment, size_t n)

cdef extern from "<sys/types.h>" nogil:
    ctypedef long ssize_t

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t readv(int fd, const iovec *iov, int count)

cdef extern from "<sys/socket.h>" nogil:
    cdef struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    ssize_t recv(int fd, void *buf, size_t n, int flags)
    ssize_t send(int fd, const void *buf, size_t n, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    int shutdown(int fd, int how)
    ctypedef unsigned int socklen_t
    cdef struct sockaddr_storage:
        pass
    int setsockopt(int fd, int level, int name, const void *value, unsigned int size)
    int MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK, SHUT_RD, SHUT_WR, SHUT_RDWR

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/socket.h>
    static inline int net_accept(int fd) { return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); }
    """
    int net_accept(int fd) nogil

# By hand, because their address is a transparent union in C and a plain pointer here.
cdef extern from *:
    """
    #include <sys/socket.h>
    #define net_recvfrom(fd, buf, n, flags, from, nfrom) \
        recvfrom(fd, buf, n, flags, (struct sockaddr *)(from), nfrom)
    #define net_sendto(fd, buf, n, flags, to, nto) \
        sendto(fd, buf, n, flags, (const struct sockaddr *)(to), nto)
    """
    ssize_t recvfrom "net_recvfrom"(int fd, void *buf, size_t n, int flags, sockaddr_storage *peer,
                                    socklen_t *npeer) nogil
    ssize_t sendto "net_sendto"(int fd, const void *buf, size_t n, int flags, const sockaddr_storage *peer,
                                socklen_t npeer) nogil

cdef extern from "<netinet/tcp.h>" nogil:
    int TCP_NODELAY, TCP_NOTSENT_LOWAT

cdef extern from "<netinet/in.h>" nogil:
    int IPPROTO_TCP

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)
    unsigned long FIONREAD

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef extern from "<fcntl.h>" nogil:
    int fcntl(int fd, int command, ...)
    int F_DUPFD_CLOEXEC

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <poll.h>
    """
    cdef struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long n, int timeout) nogil
    short POLLIN, POLLOUT, POLLRDHUP, POLLHUP, POLLERR

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        void *ptr
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int count, int timeout)
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL
    uint32_t EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int value, int flags)
    int eventfd_read(int fd, uint64_t *value)
    int eventfd_write(int fd, uint64_t value)
    int EFD_CLOEXEC, EFD_NONBLOCK

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)

cdef extern from "<time.h>" nogil:
    ctypedef int clockid_t
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(clockid_t clock, timespec *now)
    clockid_t CLOCK_MONOTONIC

cdef inline long long net_now_us() noexcept nogil:
    """Microseconds of a clock that never goes back."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <long long>now.tv_sec * 1000000 + now.tv_nsec // 1000

cdef extern from *:
    """
    typedef long long net_count;
    static inline net_count net_atomic_add(net_count *p, net_count n) {
        return __atomic_add_fetch(p, n, __ATOMIC_RELAXED);
    }
    static inline void net_atomic_set(net_count *p, net_count n) { __atomic_store_n(p, n, __ATOMIC_RELAXED); }
    static inline net_count net_atomic_get(net_count *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
    """
    void net_atomic_set(long long *p, long long n) nogil
    long long net_atomic_add(long long *p, long long n) nogil
    long long net_atomic_get(long long *p) nogil
