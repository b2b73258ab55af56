# cython: language_level=3
"""What the modules of the generator share: a conversation, and the desk on which all of a process are judged."""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from loadtest.engine.content cimport Content
from loadtest.engine.draw cimport Dice
from loadtest.engine.histogram cimport Hist

cdef enum Protocol:
    TEXT
    META
    RESP

cdef enum Verb:
    GET
    SET
    FILL                        # a set after a miss

cdef enum Trouble:
    NONE
    STRANGE                     # a reply that is none of those the request can have
    UNASKED                     # a reply to nothing
    GONE                        # no connection for as long as the load is patient
    SILENT                      # no reply for REPLY_NS
    MEMORY                      # there is none
    SYSTEM                      # the kernel refuses what it must not

cdef enum:
    SAID = 96                   # bytes of a reply that are kept to be shown
    ANY_SIZE = -1               # of a value: by its law

cdef struct Key:
    uint64_t number
    int64_t size

cdef struct Asked:
    int64_t due                 # when it should have been sent; nanoseconds, as all times here
    int64_t sent
    uint32_t keys
    Verb verb

cdef struct Talk:               # one connection's requests without a reply, oldest first, and the reply that comes
    Asked *asked                # a ring; its room is a power of 2, as that of the keys
    uint32_t asked_head
    uint32_t asked_count
    uint32_t asked_room
    Key *keys                   # of these requests, one after the other
    uint32_t keys_head
    uint32_t keys_count
    uint32_t keys_room
    uint32_t passed             # keys of the oldest request whose answer has come
    bint listed                 # resp: the head of the list has come
    int64_t value               # bytes of the value that comes
    int64_t left                # of it and of the end of its line, still to come
    bint spoiled                # it is not what was stored

cdef struct Tally:
    int64_t requests
    int64_t hits
    int64_t misses
    int64_t sets
    int64_t stored
    int64_t refused
    int64_t fills
    int64_t errors
    int64_t wrong
    int64_t reconnects
    int64_t bytes_in
    int64_t bytes_out

cdef struct Desk:
    Protocol protocol
    bint verify
    bint fill
    bint apart                  # keys of a multiget are told apart, because somebody has to know which one came
    bint open_loop
    int64_t ttl_low             # seconds; 0: none
    int64_t ttl_high
    Content content
    Dice dice
    Tally tally
    Hist *latency               # open loop only: in a closed one it is the service
    Hist *service
    Hist *sets                  # the part of the latency that is that of sets, fills left out
    Key *missed                 # to be filled, as far as the bytes of one read go
    uint32_t nmissed
    uint32_t missed_room
    uint8_t *out                # the bytes for the connection in hand
    size_t nout
    size_t out_room
    Trouble trouble
    int code                    # errno of SYSTEM
    char said[SAID]             # what was said that is STRANGE or UNASKED
    char complaint[SAID]        # the first error reply, or refusal


cdef inline Asked *oldest(Talk *t) noexcept nogil:
    return &t.asked[t.asked_head & (t.asked_room - 1)]


cdef inline Key *key_of(Talk *t, uint32_t at) noexcept nogil:
    """The key `at` of the oldest request."""
    return &t.keys[(t.keys_head + at) & (t.keys_room - 1)]

cdef bint out_grow(Desk *d, size_t more) noexcept nogil
cdef bint ring_grow(void **ring, size_t each, uint32_t *head, uint32_t count, uint32_t *room, uint32_t wanted,
                    uint32_t first) noexcept nogil
cdef bint talk_grow(Talk *t, uint32_t keys) noexcept nogil
cdef void talk_clear(Talk *t) noexcept nogil
cdef void talk_free(Talk *t) noexcept nogil
cdef bint miss(Desk *d, Key *key) noexcept nogil
cdef void say(char *to, const uint8_t *line, size_t n) noexcept nogil
cdef int desk_init(Desk *d) except -1
cdef void desk_free(Desk *d) noexcept


cdef inline bint out_reserve(Desk *d, size_t more) noexcept nogil:
    """Room for that many more bytes in `out`; False, and trouble, where there is no memory."""
    return d.out_room - d.nout >= more or out_grow(d, more)


cdef inline bint talk_reserve(Talk *t, uint32_t keys) noexcept nogil:
    """Room for one more request with that many keys; False where there is no memory."""
    return (t.asked_count < t.asked_room and t.keys_room - t.keys_count >= keys) or talk_grow(t, keys)


cdef inline void ask(Talk *t, Verb verb, uint32_t keys, int64_t due, int64_t sent) noexcept nogil:
    """Note a request; its keys are note()d after it. talk_reserve() has made the room."""
    cdef Asked *a = &t.asked[(t.asked_head + t.asked_count) & (t.asked_room - 1)]
    a.verb = verb
    a.keys = keys
    a.due = due
    a.sent = sent
    t.asked_count += 1


cdef inline void note(Talk *t, uint64_t number, int64_t size) noexcept nogil:
    cdef Key *key = &t.keys[(t.keys_head + t.keys_count) & (t.keys_room - 1)]
    key.number = number
    key.size = size
    t.keys_count += 1
