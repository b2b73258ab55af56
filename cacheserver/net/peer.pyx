# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Whom a socket talks to: see peer.pxd."""
from libc.stdint cimport uint16_t
from libc.string cimport memcpy, memset, strlen

cdef extern from *:
    """
    #include <arpa/inet.h>
    #include <netinet/in.h>
    #include <sys/socket.h>
    typedef union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage room;
    } net_address;
    static inline int net_peer(int fd, net_address *a) {
        socklen_t n = sizeof(*a);
        return getpeername(fd, &a->any, &n);
    }
    static inline int net_family(const net_address *a) { return a->any.sa_family; }
    static inline const void *net_v4(const net_address *a) { return &a->v4.sin_addr; }
    static inline const void *net_v6(const net_address *a) { return &a->v6.sin6_addr; }
    static inline unsigned short net_v4_port(const net_address *a) { return ntohs(a->v4.sin_port); }
    static inline unsigned short net_v6_port(const net_address *a) { return ntohs(a->v6.sin6_port); }
    """
    ctypedef struct net_address:
        pass
    int net_peer(int fd, net_address *a) nogil
    int net_family(const net_address *a) nogil
    const void *net_v4(const net_address *a) nogil
    const void *net_v6(const net_address *a) nogil
    uint16_t net_v4_port(const net_address *a) nogil
    uint16_t net_v6_port(const net_address *a) nogil
    const char *inet_ntop(int family, const void *address, char *out, unsigned int n) nogil
    int AF_INET, AF_INET6


cdef void peer_of(int fd, Peer *peer) noexcept nogil:
    """Fill in the client of a connected socket."""
    cdef net_address a
    memset(peer, 0, sizeof(Peer))
    if net_peer(fd, &a) != 0:
        return
    if net_family(&a) == AF_INET:
        peer.family = 4
        peer.port = net_v4_port(&a)
        memcpy(peer.address, net_v4(&a), 4)
    elif net_family(&a) == AF_INET6:
        peer.family = 6
        peer.port = net_v6_port(&a)
        memcpy(peer.address, net_v6(&a), 16)


cdef unsigned int peer_text(const Peer *peer, char *out) noexcept nogil:
    """Write the address without its port at `out` (PEER_TEXT bytes), "unix" where there is none; returns its bytes."""
    if peer.family == 0 or inet_ntop(AF_INET if peer.family == 4 else AF_INET6, peer.address, out, PEER_TEXT) == NULL:
        memcpy(out, b"unix", 4)
        return 4
    return <unsigned int>strlen(out)
