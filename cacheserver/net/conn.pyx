# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Connections: opening, destroying, the input and output they keep, and who goes where that is too much.

Knows: epoll, the heap, engine pins. Must not know: when to read or to send, asyncio, requests.
Memory and threads: see conn.pxd.
"""
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from cacheserver.engine cimport (
    TRANSPORT_LOCAL, TRANSPORT_TCP, CloseReason,
    engine_saw_connection, engine_sees_connections, engine_unpin, session_close, session_open,
)
from cacheserver.net.budget cimport budget_exceeded
from cacheserver.net.linux cimport (
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLIN, IPPROTO_TCP, SHUT_RDWR, SHUT_WR, TCP_NODELAY,
    TCP_NOTSENT_LOWAT, close, epoll_ctl, net_atomic_add, setsockopt, shutdown,
)
from cacheserver.net.peer cimport PEER_TEXT, peer_of, peer_text
from cacheserver.net.transport cimport RECORD_MAX, tls_bye, tls_bytes, tls_close

cdef enum:
    NOTSENT_LOWAT = 131072   # bytes the kernel takes beyond what the peer's window allows


cdef inline void charge(ReactorC *r, int kind, long long n) noexcept nogil:
    r.bytes[kind] += n
    net_atomic_add(&r.budgets[kind].used, n)


cdef inline size_t holding(Conn *c, int kind) noexcept nogil:
    if kind == CARRY:
        return c.carry_cap
    if kind == SECURE:
        return c.tls.charged if c.tls != NULL else 0
    return c.held if kind == HELD else c.pinned


cdef Conn *largest_holder(ReactorC *r, int kind) noexcept nogil:
    """The connection that holds most; there is at least one."""
    cdef Conn *worst = r.table[0]
    cdef uint32_t i
    for i in range(1, r.count):
        if holding(r.table[i], kind) > holding(worst, kind):
            worst = r.table[i]
    return worst


cdef Conn *stalest_carry(ReactorC *r) noexcept nogil:
    """Of the connections with half an average carry or more, the one that has been silent longest, and of
    several the largest: whoever is sending a request right now is spared, and so is who holds next to nothing.
    Half, since one large carry lifts the average above many stale ones of equal size."""
    cdef Conn *worst = NULL
    cdef Conn *c
    cdef long long holders = 0
    cdef uint32_t i
    for i in range(r.count):
        holders += r.table[i].carry_cap > 0
    for i in range(r.count):
        c = r.table[i]
        if c.carry_cap == 0 or 2 * <long long>c.carry_cap * holders < r.bytes[CARRY]:
            continue
        if worst == NULL or c.last < worst.last or (c.last == worst.last and c.carry_cap > worst.carry_cap):
            worst = c
    return worst


cdef Conn *stalest_secure(ReactorC *r) noexcept nogil:
    """The TLS connection that has been silent longest, and of several the one that costs most; NULL for none. Who has a job
    waits for it, and is not counted as silent."""
    cdef Conn *worst = NULL
    cdef Conn *c
    cdef uint32_t i
    for i in range(r.count):
        c = r.table[i]
        if c.tls == NULL or c.flags & PARKED:
            continue
        if worst == NULL or c.last < worst.last or (c.last == worst.last and c.tls.charged > worst.tls.charged):
            worst = c
    return worst


cdef void budget_enforce(ReactorC *r) noexcept nogil:
    """Close connections of this reactor while it exceeds its share of an exceeded budget."""
    cdef int kind
    cdef Conn *worst
    for kind in range(KINDS):
        while budget_exceeded(r.budgets[kind], r.bytes[kind]):
            if kind == CARRY:
                worst = stalest_carry(r)
            else:
                worst = stalest_secure(r) if kind == SECURE else largest_holder(r, kind)
            if worst == NULL:
                break
            r.budget_kicks += 1
            conn_destroy(r, worst)


cdef void tell_watchers(ReactorC *r, Conn *c, bint closed) noexcept nogil:
    """Whoever watches connections learns that one has begun, or ends."""
    cdef char address[PEER_TEXT]
    if engine_sees_connections(r.engine):
        engine_saw_connection(r.engine, c.fd, closed, <CloseReason>c.why,
                              TRANSPORT_TCP if c.peer.family else TRANSPORT_LOCAL,
                              address, peer_text(&c.peer, address), c.peer.port)


cdef void conn_secure(ReactorC *r, Conn *c) noexcept nogil:
    """Count anew what OpenSSL holds for a TLS connection."""
    cdef size_t now = tls_bytes(c.tls)
    if now != c.tls.charged:
        charge(r, SECURE, <long long>now - <long long>c.tls.charged)
        c.tls.charged = now


cdef void arrival_drop(Arrival *a) noexcept nogil:
    """Close a socket that nobody serves. May take the GIL, so no lock may be held."""
    if a.tls != NULL:
        tls_close(a.tls)
    else:
        close(a.fd)


cdef bint conn_open(ReactorC *r, Arrival a) noexcept nogil:
    """Take over a non-blocking socket. False: it could not be served and is closed; `open` is corrected."""
    cdef int fd = a.fd
    cdef Conn *c = <Conn *>malloc(sizeof(Conn))
    cdef Conn **table
    cdef epoll_event event
    cdef uint32_t cap
    cdef int on = 1
    cdef int lowat = NOTSENT_LOWAT
    if c != NULL and r.count == r.table_cap:
        cap = r.table_cap * 2 if r.table_cap else 64
        table = <Conn **>realloc(r.table, cap * sizeof(Conn *))
        if table == NULL:
            free(c)
            c = NULL
        else:
            r.table = table
            r.table_cap = cap
    if c != NULL and a.tls != NULL and r.record == NULL:
        r.record = <char *>malloc(RECORD_MAX)
        if r.record == NULL:
            free(c)
            c = NULL
    if c == NULL:
        arrival_drop(&a)
        net_atomic_add(&r.open, -1)
        return False
    memset(c, 0, sizeof(Conn))
    # A Unix socket refuses both; nothing depends on the answer.
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof(lowat))
    event.events = EPOLLIN
    event.data.ptr = c
    if epoll_ctl(r.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0:
        free(c)
        arrival_drop(&a)
        net_atomic_add(&r.open, -1)
        return False
    c.fd = fd
    c.watched = EPOLLIN
    c.last = r.clock
    c.slot = r.count
    session_open(r.engine, &c.session)
    c.session.cfd = fd
    peer_of(fd, &c.peer)
    r.table[r.count] = c
    r.count += 1
    tell_watchers(r, c, False)
    if a.tls != NULL:
        c.tls = a.tls
        r.tls_open += 1
        conn_secure(r, c)
    return True


cdef void conn_part(Conn *c) noexcept nogil:
    """Tell the client that nothing more will be sent. Closing alone does not where a forked child has the socket, too."""
    if c.tls != NULL:
        tls_bye(c.tls)
    shutdown(c.fd, SHUT_WR)


cdef void conn_destroy(ReactorC *r, Conn *c) noexcept nogil:
    """Close the socket and give back all that the connection holds. The struct itself waits for
    conn_reap()."""
    cdef Conn *last
    cdef epoll_event event
    if c.flags & DEAD:
        return
    tell_watchers(r, c, True)
    session_close(r.engine, &c.session)
    carry_drop(r, c)
    while c.head < c.npieces:
        piece_done(r, c, &c.pieces[c.head])
        c.head += 1
    free(c.pieces)
    c.pieces = NULL
    c.pieces_cap = 0
    conn_side(r, c)
    # Explicitly: a forked child that still has the fd would keep its events, and this address, in the set.
    epoll_ctl(r.epoll_fd, EPOLL_CTL_DEL, c.fd, &event)
    net_atomic_add(&r.open, -1)      # before the client sees the end: from there on it may count on a place
    if c.flags & PARKED:
        shutdown(c.fd, SHUT_RDWR)    # its job has the socket open, too
    else:
        conn_part(c)
    if c.tls != NULL:
        charge(r, SECURE, -<long long>c.tls.charged)
        r.tls_open -= 1
        if not c.flags & PARKED:     # else it is in its job's hands: see park_end()
            tls_close(c.tls)
            c.tls = NULL
    else:
        close(c.fd)
    c.fd = -1
    r.count -= 1
    last = r.table[r.count]
    last.slot = c.slot
    r.table[c.slot] = last
    c.flags |= DEAD
    if not c.flags & (LISTED | PARKED):
        c.next = r.dead
        r.dead = c


cdef void conn_reap(ReactorC *r) noexcept nogil:
    """Free the destroyed connections; called where no event and no queue entry of a batch can name them."""
    cdef Conn *c
    while r.dead != NULL:
        c = r.dead
        r.dead = c.next
        free(c)


cdef void conn_side(ReactorC *r, Conn *c) noexcept nogil:
    """Count anew what the connection holds beside the budgets: its table of pieces and a waiting command's
    line, both of bounded length."""
    cdef size_t side = c.pieces_cap * sizeof(Piece) + c.session.command.cap
    r.side_bytes += <long long>side - <long long>c.side
    c.side = side


cdef bint conn_watch(ReactorC *r, Conn *c, uint32_t events) noexcept nogil:
    """Watch for `events` from now on; False when the system refuses."""
    cdef epoll_event event
    if c.watched == events:
        return True
    event.events = events
    event.data.ptr = c
    if epoll_ctl(r.epoll_fd, EPOLL_CTL_MOD, c.fd, &event) != 0:
        return False
    c.watched = events
    return True


cdef void line_put(Line *line, Conn *c) noexcept nogil:
    """Put a connection at the line's end, unless it stands in one."""
    if c.flags & LISTED:
        return
    c.flags |= LISTED
    c.next = NULL
    if line.tail == NULL:
        line.head = c
    else:
        line.tail.next = c
    line.tail = c


cdef Conn *line_take(ReactorC *r, Line *line) noexcept nogil:
    """The first living connection of the line, or NULL."""
    cdef Conn *c
    while line.head != NULL:
        c = line.head
        line.head = c.next
        if line.head == NULL:
            line.tail = NULL
        c.next = NULL
        c.flags &= ~<uint32_t>LISTED
        if not c.flags & DEAD:
            return c
        c.next = r.dead
        r.dead = c
    return NULL


cdef void line_return(Line *line, Line *first) noexcept nogil:
    """Put those of `first` before those of `line`: they have waited longer."""
    if first.head == NULL:
        return
    first.tail.next = line.head
    if line.tail == NULL:
        line.tail = first.tail
    line.head = first.head


cdef bint carry_keep(ReactorC *r, Conn *c, const char *p, size_t n) noexcept nogil:
    """Make the carry exactly the `n` bytes at `p`, which may lie in the carry itself; False if memory is
    out."""
    cdef char *kept
    cdef size_t cap
    if n == 0:
        carry_drop(r, c)
        return True
    if c.carry_cap >= n and c.carry_cap <= n * 4 + 4096:
        memmove(c.carry, p, n)
    else:
        cap = (n + 255) & ~<size_t>255
        kept = <char *>malloc(cap)
        if kept == NULL:
            return False
        memcpy(kept, p, n)
        carry_drop(r, c)
        c.carry = kept
        c.carry_cap = cap
        charge(r, CARRY, <long long>cap)
    c.ncarry = n
    return True


cdef void carry_drop(ReactorC *r, Conn *c) noexcept nogil:
    if c.carry == NULL:
        return
    free(c.carry)
    charge(r, CARRY, -<long long>c.carry_cap)
    c.carry = NULL
    c.ncarry = c.carry_cap = 0


cdef Piece *piece_add(Conn *c) noexcept nogil:
    """A zeroed piece at the end of the unsent output; NULL if memory is out."""
    cdef Piece *pieces
    cdef uint32_t cap
    if c.npieces == c.pieces_cap:
        cap = c.pieces_cap * 2 if c.pieces_cap else 4
        pieces = <Piece *>realloc(c.pieces, cap * sizeof(Piece))
        if pieces == NULL:
            return NULL
        c.pieces = pieces
        c.pieces_cap = cap
    memset(&c.pieces[c.npieces], 0, sizeof(Piece))
    c.npieces += 1
    return &c.pieces[c.npieces - 1]


cdef Piece *piece_hold(ReactorC *r, Conn *c, size_t n) noexcept nogil:
    """Add a piece with a heap block of `n` bytes for the caller to fill; NULL if memory is out."""
    cdef char *block = <char *>malloc(n if n else 1)
    cdef Piece *p
    if block == NULL:
        return NULL
    p = piece_add(c)
    if p == NULL:
        free(block)
        return NULL
    p.base = p.block = block
    p.len = p.size = n
    c.held += n
    charge(r, HELD, <long long>n)
    return p


cdef bint piece_pin(ReactorC *r, Conn *c, const char *base, size_t n, uint64_t pin) noexcept nogil:
    """Add a piece that leaves its bytes in the store; False if memory is out (the pin stays the caller's)."""
    cdef Piece *p = piece_add(c)
    if p == NULL:
        return False
    p.base = <char *>base
    p.len = n
    p.pin = pin
    c.pinned += n
    charge(r, PINNED, <long long>n)
    return True


cdef void piece_shrink(ReactorC *r, Conn *c, size_t n) noexcept nogil:
    """`n` bytes of a piece that lies in the store were sent."""
    c.pinned -= n
    charge(r, PINNED, -<long long>n)


cdef void piece_done(ReactorC *r, Conn *c, Piece *p) noexcept nogil:
    """Give back what a piece holds: it was sent, or never will be."""
    if p.block != NULL:
        free(p.block)
        p.block = NULL
        c.held -= p.size
        charge(r, HELD, -<long long>p.size)
    else:
        piece_shrink(r, c, p.len)
        if p.pin:
            engine_unpin(r.engine, p.pin)
            p.pin = 0
    p.len = 0
