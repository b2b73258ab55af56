# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Who is connected: see seats.pxd."""
from libc.stdint cimport uint32_t

from cacheserver.engine cimport session_receiving, session_swallowing
from cacheserver.net.conn cimport CLOSING, COMMAND, LINGER, PARKED, RESUME, UNSENT, Conn, ReactorC

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        pass
    enum:
        AF_INET, AF_INET6, AF_UNIX
    int getpeername(int fd, sockaddr *address, socklen_t *n)
    int getsockname(int fd, sockaddr *address, socklen_t *n)

cdef extern from "<netdb.h>" nogil:
    enum:
        NI_NUMERICHOST, NI_NUMERICSERV
    int getnameinfo(const sockaddr *address, socklen_t n, char *host, socklen_t nhost, char *port, socklen_t nport,
                    int flags)

cdef extern from "<sys/un.h>" nogil:
    struct sockaddr_un:
        char sun_path[108]

cdef enum:
    HOST_MAX = 64            # bytes of a numeric host with its zone
    PORT_MAX = 8


cdef str address_text(sockaddr_storage *where, socklen_t n):
    """memcached's form: tcp:host:port, tcp6:[host]:port, unix:path (nothing behind it for a client's own)."""
    cdef sockaddr *address = <sockaddr *>where
    cdef char host[HOST_MAX]
    cdef char port[PORT_MAX]
    cdef bytes path
    if address.sa_family == AF_UNIX:
        path = (<sockaddr_un *>where).sun_path[:max(0, <int>n - <int>sizeof(unsigned short))]
        return "unix:" + path.split(b"\0")[0].decode(errors="replace")
    if getnameinfo(address, n, host, HOST_MAX, port, PORT_MAX, NI_NUMERICHOST | NI_NUMERICSERV) != 0:
        return "unknown"
    if address.sa_family == AF_INET6:
        return f"tcp6:[{host.decode()}]:{port.decode()}"
    return f"tcp:{host.decode()}:{port.decode()}"


cdef str side_text(int fd, bint peer):
    """The address of one side of a connection."""
    cdef sockaddr_storage where
    cdef socklen_t n = sizeof(where)
    cdef int failed = getpeername(fd, <sockaddr *>&where, &n) if peer else getsockname(fd, <sockaddr *>&where, &n)
    return "unknown" if failed else address_text(&where, n)


cdef str state_text(Conn *c):
    """memcached's name for what the connection is about."""
    if c.flags & (CLOSING | LINGER):
        return "conn_closing"
    if c.flags & UNSENT:
        return "conn_mwrite"
    if c.flags & (COMMAND | PARKED | RESUME):
        return "conn_parse_cmd"
    if session_receiving(&c.session):
        return "conn_nread"
    return "conn_swallow" if session_swallowing(&c.session) else "conn_read"


cdef list seat_list(ReactorC *r, uint32_t first, uint32_t most):
    """(fd, the peer's address, the server's, state, seconds since bytes last moved) of the connections from number
    `first` on, `most` at most. Their order changes when one closes."""
    cdef list found = []
    cdef Conn *c
    cdef double idle
    while first < r.count and <uint32_t>len(found) < most:
        c = r.table[first]
        idle = r.clock - c.last
        found.append((c.fd, side_text(c.fd, True), side_text(c.fd, False), state_text(c), <int>idle))
        first += 1
    return found
