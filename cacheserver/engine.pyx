# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The engine: see engine.pxd. Storage commands are in storage, the get family in retrieval, those of
one line in oneline, the meta commands in meta; here is the loop."""
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy, memset

from cacheserver.login cimport login
from cacheserver.meta cimport answer_meta
from cacheserver.observe cimport COUNT_PREFIXES, saw_connection
from cacheserver.oneline cimport answer_oneline
from cacheserver.output cimport (
    Writer, add_span, output_room, put_line, writer_fed, writer_close_run, writer_open, writer_room,
)
from cacheserver.retrieval cimport answer_gets, answer_line
from cacheserver.session cimport (
    AUTH_CMDS, AUTH_ERRORS, COMMAND, COUNTERS, KEYS, LINE, LOGIN, OUTPUT_PAUSE, SKIP, STRANGER_MAX, SWALLOW,
    TURN_NS, TURN_STEPS, VALUE, session_start, store_exptime,
)
from cacheserver.storage cimport give_up_value, store_block, take_value
from cacheserver.store.journal cimport SEE_CONNECTIONS, journal_close
from cacheserver.store.operations cimport store_tick
from cacheserver.store.platform cimport atomic_add, atomic_get
from cacheserver.store.receive cimport store_abandon, store_is_revoked, store_progress
from cacheserver.store.view cimport store_unpin
from protocol.buffer cimport buffer_free, buffer_put, buffer_reserve
from protocol.reply cimport REPLY_BAD_FORMAT, REPLY_ERROR, REPLY_NO_MEMORY
from protocol.request cimport (
    BAD_REQUEST, GOT_KEYS, GOT_REQUEST, LINE_MAX, OP_COMMAND, OP_GAT, OP_GATS, OP_GETS, OP_MG, OP_MN, OP_MS,
    OP_QUIT, Parsed, Request,
)
from protocol.text cimport parse


cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    enum:
        CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *t)

cdef enum:
    TARGET_MIN = 16384       # bytes still to come from which receiving straight into the item pays

COUNTER_NAMES = (
    "cmd_get", "cmd_set", "cmd_touch", "cmd_flush", "get_hits", "get_misses", "get_expired", "delete_hits",
    "delete_misses", "incr_hits", "incr_misses", "decr_hits", "decr_misses", "cas_hits", "cas_misses", "cas_badval",
    "touch_hits", "touch_misses", "store_too_large", "store_no_memory", "cmd_meta",
    "auth_cmds", "auth_errors",
)


cdef void session_open(EngineC *e, Session *s) noexcept nogil:
    memset(s, 0, sizeof(Session))
    s.trusted = not e.guarded
    s.mode = session_start(s)


cdef void session_close(EngineC *e, Session *s) noexcept nogil:
    """Give up what the session holds; it may be opened again."""
    if s.reservation.item != NULL:
        store_abandon(e.store, &s.reservation)
    buffer_free(&s.command)


cdef void engine_tick(EngineC *e) noexcept nogil:
    """Read the clocks; once a batch is enough, since expiry has a resolution of a second."""
    cdef timespec mono, wall
    clock_gettime(CLOCK_MONOTONIC_COARSE, &mono)
    clock_gettime(CLOCK_REALTIME_COARSE, &wall)
    e.now = <uint32_t>(mono.tv_sec - clock_start)
    e.wall = wall.tv_sec - e.now
    store_tick(e.store, e.now)


cdef bint engine_sees_connections(EngineC *e) noexcept nogil:
    """Whether engine_saw_connection() has anybody to tell."""
    return atomic_get(&e.watched) & SEE_CONNECTIONS != 0


cdef void engine_saw_connection(EngineC *e, int32_t cfd, bint closed, CloseReason reason, Transport transport,
                                const char *address, uint32_t naddress, uint32_t port) noexcept nogil:
    """Tell watchers that a client has come or gone; `address` is at most 64 bytes of text."""
    saw_connection(e, cfd, closed, reason, transport, address, naddress, port)


cdef void engine_unpin(EngineC *e, uint64_t pin) noexcept nogil:
    store_unpin(e.store, pin)


cdef Feed reject(Session *s, Writer *w, Request *r, size_t n, size_t *used) noexcept nogil:
    """A line that is no request: its error, and its data block dropped where the length is known."""
    s.behind = True
    if r.error != NULL and not r.noreply and writer_room(w, r.nerror):
        buffer_put(&w.out.text, r.error, r.nerror)
    used[0] = r.length
    if r.close:
        s.broken = True
        used[0] = 0          # nothing of it was understood: whoever closes may see that the client is still sending
        return FEED_CLOSE
    if r.swallow:
        s.mode = SWALLOW
        s.remaining = r.swallow
    return FEED_MORE


cdef Feed request(EngineC *e, Session *s, Writer *w, Request *r, const char *p, size_t n, size_t *used,
                  bint *wait) noexcept nogil:
    """Execute the request at `p`; `used` bytes of the `n` are done with. `wait`: none, it needs more."""
    cdef const char *stop
    cdef Feed feed
    used[0] = r.length
    if r.op != OP_COMMAND:
        s.behind = r.op > OP_GATS and r.op != OP_MN  # memcached sends the replies of these at once
    if r.op <= OP_GATS:
        s.with_cas = r.op == OP_GETS or r.op == OP_GATS
        s.touching = r.op == OP_GAT or r.op == OP_GATS
        s.exptime = store_exptime(e, r.exptime) if s.touching else 0
        s.warm = False
        feed = answer_line(e, s, w, r.keys, r.keys + r.nkeys, True, &stop)
        if feed == FEED_PAUSED:
            used[0] = stop - p
        return feed
    if r.op <= OP_MS:
        wait[0] = not store_block(e, s, w, r, p + r.length, n - r.length, used)
        used[0] = 0 if wait[0] else used[0] + r.length
        return FEED_MORE
    if r.op == OP_QUIT:
        return FEED_CLOSE
    if r.op == OP_COMMAND:
        if r.nline > LINE_MAX:      # no command is that long, and the line is kept while output waits
            put_line(w, REPLY_ERROR)
            return FEED_MORE
        s.command.len = 0
        if not buffer_reserve(&s.command, r.nline + 1):
            return FEED_CLOSE
        buffer_put(&s.command, r.line, r.nline)
        s.mode = COMMAND
        return FEED_COMMAND
    if r.op >= OP_MG:
        answer_meta(e, w, r)
    else:
        answer_oneline(e, w, r)
    return FEED_MORE


cdef Feed line(EngineC *e, Session *s, Writer *w, const char *p, size_t n, size_t *used, bint *wait) noexcept nogil:
    """Mode LINE: parse one request and execute it; or several of the most frequent kind."""
    cdef Request r
    cdef const char *stop
    cdef Parsed parsed
    cdef Feed feed
    cdef uint32_t gets = answer_gets(e, s, w, p, n, used) if p[0] == 0x67 else 0
    if gets:
        s.behind = False
        e.cost = gets
        return FEED_MORE
    parsed = parse(p, n, &r)
    if parsed == GOT_REQUEST:
        return request(e, s, w, &r, p, n, used, wait)
    if parsed == BAD_REQUEST:
        return reject(s, w, &r, n, used)
    if parsed == GOT_KEYS:
        s.with_cas = r.op == OP_GETS
        s.touching = False
        s.warm = False
        feed = answer_line(e, s, w, r.keys, r.keys + r.nkeys, False, &stop)
        used[0] = stop - p
        return feed
    if s.whole:
        put_line(w, REPLY_BAD_FORMAT)
        used[0] = n
        return FEED_MORE
    wait[0] = True
    return FEED_MORE


cdef Feed keys(EngineC *e, Session *s, Writer *w, const char *p, size_t n, size_t *used, bint *wait) noexcept nogil:
    """Mode KEYS: the rest of a get line, or some of it."""
    cdef const char *lf = <const char *>memchr(p, 0x0a, n)
    cdef const char *end = lf if lf != NULL else p + n
    cdef const char *stop
    cdef Feed feed
    if lf != NULL and end > p and (end - 1)[0] == 0x0d:
        end -= 1
    feed = answer_line(e, s, w, p, end, lf != NULL, &stop)
    if s.mode != KEYS and lf != NULL:
        used[0] = lf + 1 - p
    else:
        used[0] = stop - p
        wait[0] = s.mode == KEYS
    return feed


cdef Feed step(EngineC *e, Session *s, Writer *w, const char *p, size_t n, size_t *used, bint *wait) noexcept nogil:
    """One step of the conversation, whatever it is in; `n` > 0."""
    cdef const char *lf
    used[0] = 0
    if s.owes_error:
        s.owes_error = False
        put_line(w, REPLY_NO_MEMORY)
    if s.mode == LINE:
        return line(e, s, w, p, n, used, wait)
    if s.mode == VALUE:
        e.cost = TURN_STEPS
        s.behind = True
        used[0] = take_value(e, s, w, p, n)
    elif s.mode == SWALLOW:
        used[0] = n if <int64_t>n < s.remaining else <size_t>s.remaining
        s.remaining -= used[0]
        if s.remaining == 0:
            s.mode = session_start(s)
    elif s.mode == KEYS:
        return keys(e, s, w, p, n, used, wait)
    elif s.mode == SKIP:
        lf = <const char *>memchr(p, 0x0a, n)
        used[0] = n if lf == NULL else <size_t>(lf + 1 - p)
        if lf != NULL:
            s.mode = LINE
    elif s.mode == LOGIN:
        e.cost = TURN_STEPS
        return login(e, s, w, p, n, used, wait)
    else:
        return FEED_COMMAND
    return FEED_MORE


cdef inline int64_t turn_clock() noexcept nogil:
    """Nanoseconds of a precise clock."""
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef Feed engine_feed(EngineC *e, Session *s, const char *buf, size_t n, size_t *consumed, Output *out) noexcept nogil:
    """Execute what is complete in `buf`; the caller keeps what was not consumed and puts it before the next bytes."""
    cdef Writer w
    cdef size_t pos = 0, used, most = OUTPUT_PAUSE if s.trusted else STRANGER_MAX
    cdef int64_t until = 0
    cdef uint32_t steps = 0
    cdef bint wait = False
    cdef Feed feed = FEED_MORE
    e.cfd = s.cfd
    s.behind = s.after_command
    s.after_command = False
    writer_open(&w, out)
    while pos < n and not wait and feed == FEED_MORE:
        if writer_fed(&w) >= most:
            feed = FEED_PAUSED
            break
        if steps >= TURN_STEPS:
            # The clock starts here, not above: most feeds are shorter than that and need none.
            steps = 0
            if until == 0:
                until = turn_clock() + TURN_NS
            elif turn_clock() >= until:
                feed = FEED_PAUSED
                break
        e.cost = 1
        feed = step(e, s, &w, buf + pos, n - pos, &used, &wait)
        pos += used
        steps += e.cost
        if w.failed:
            feed = FEED_CLOSE
    writer_close_run(&w)
    consumed[0] = pos
    return feed


cdef char *engine_target(EngineC *e, Session *s, size_t *room) noexcept nogil:
    """Where the session's next bytes may be received directly (`room` of them), or NULL: receive into a buffer and feed."""
    if s.mode != VALUE:
        return NULL
    if store_is_revoked(&s.reservation):
        give_up_value(e, s)
        return NULL
    if s.remaining < TARGET_MIN:
        return NULL
    room[0] = <size_t>s.remaining
    return s.reservation.value + s.reservation.received


cdef Feed engine_received(EngineC *e, Session *s, size_t n, Output *out) noexcept nogil:
    """`n` bytes have been received at engine_target()."""
    s.reservation.received += <uint32_t>n
    s.remaining -= n
    store_progress(e.store, &s.reservation, e.now)
    return FEED_MORE


cdef bint engine_revoked(EngineC *e, Session *s) noexcept nogil:
    return s.mode == VALUE and store_is_revoked(&s.reservation)


cdef int64_t clock_start


def store_clock() -> int:
    """Seconds on the store's clock: monotonic, the same for all engines of the process, 2 when the process began."""
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t)
    return t.tv_sec - clock_start


cdef void start_clock() noexcept:
    global clock_start
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t)
    clock_start = t.tv_sec - 2     # 0 means "never" and 1 "expired already"


start_clock()


@cython.no_gc_clear  # whoever still holds pins of the store must be able to give them back
cdef class Engine:
    def __cinit__(self, Store store not None, *, bint flush_enabled=True, str version="0.0.0", Prefixes prefixes=None):
        cdef bytes text = f"VERSION {version}\r\n".encode()
        if len(text) > sizeof(self.c.version):
            raise ValueError(f"version {version!r} is too long")
        self.store = store
        self.handler = None
        self.check = None
        self.c.store = &store.c
        self.prefixes = prefixes
        if prefixes is not None:
            self.c.prefixes = &prefixes.c
        self.c.flush_enabled = flush_enabled
        memcpy(self.c.version, <const char *>text, len(text))
        self.c.nversion = <uint32_t>len(text)
        engine_tick(&self.c)

    @property
    def authenticator(self):
        return self.check

    @authenticator.setter
    def authenticator(self, check):
        self.check = check
        self.c.guarded = check is not None

    def __dealloc__(self):
        journal_close(&self.c.journal)

    def count_prefixes(self, bint on):
        cdef bint was = atomic_get(&self.c.watched) & COUNT_PREFIXES != 0
        if self.prefixes is not None and on != was:
            atomic_add(&self.c.watched, COUNT_PREFIXES if on else -<int64_t>COUNT_PREFIXES)

    cdef int run_command(self, Session *s, Output *out) except -1:
        """Give the waiting command to the handler and write its reply; returns a Ran."""
        cdef bytes line = s.command.data[:s.command.len]
        buffer_free(&s.command)
        if not s.trusted:
            return self.log_in(s, out, line)
        s.mode = LINE
        answer = self.handler(line) if self.handler is not None else b"ERROR\r\n"
        if answer is None:
            return RAN_CLOSE
        if s.behind:
            answer = getattr(answer, "refusal", answer)
        s.after_command = isinstance(answer, bytes)
        if not isinstance(answer, bytes):
            self.job = answer
            return RAN_JOB
        return RAN_ON if self.say(out, answer) else RAN_CLOSE

    cdef int log_in(self, Session *s, Output *out, bytes token) except -1:
        """Let the client in if its token is good; returns a Ran."""
        s.mode = LOGIN
        self.c.counters[AUTH_CMDS] += 1
        if self.check is not None and self.check(token):
            s.trusted = True
            s.mode = LINE
            return RAN_ON if self.say(out, b"STORED\r\n") else RAN_CLOSE
        self.c.counters[AUTH_ERRORS] += 1
        return RAN_ON if self.say(out, b"CLIENT_ERROR authentication failure\r\n") else RAN_CLOSE

    cdef bint say(self, Output *out, bytes reply) except -1:
        """Add a reply to the output; False if memory is out."""
        if len(reply) == 0:
            return True
        if not output_room(out, len(reply), 1):
            return False
        add_span(out, NULL, out.text.len, len(reply), 0)
        buffer_put(&out.text, reply, len(reply))
        return True

    def counters(self):
        return {COUNTER_NAMES[i]: self.c.counters[i] for i in range(<int>COUNTERS)}
