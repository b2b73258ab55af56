# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""A conversation without a socket, for the tests of the codec.

Knows: ask, judge. Must not know: connections. Memory: its own. Threads: the caller's.
"""
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memmove

from loadtest.engine.ask cimport ask_get, ask_set
from loadtest.engine.content cimport content_free, content_init
from loadtest.engine.desk cimport (
    ANY_SIZE, GET, MEMORY, SET, STRANGE, UNASKED, Desk, Key, Talk, Protocol, desk_free, desk_init, talk_free,
)
from loadtest.engine.draw cimport dice_seed
from loadtest.engine.judge cimport judge

cdef enum:
    KEYS_MAX = 1000

TROUBLES = {STRANGE: "strange", UNASKED: "unasked", MEMORY: "memory"}


cdef class Hearing:
    """protocol: 0 text, 1 meta, 2 resp. ttl: seconds, 0 for none. The rest as for content.Names."""
    cdef Desk *desk
    cdef Talk talk
    cdef bytes carried

    def __cinit__(self, protocol: int, prefix: bytes, key_sizes: object, value_sizes: object, *,
                  verify: bool = False, fill: bool = False, apart: bool = False, ttl: int = 0) -> None:
        self.carried = b""
        self.desk = <Desk *>calloc(1, sizeof(Desk))
        if self.desk == NULL:
            raise MemoryError
        desk_init(self.desk)
        content_init(&self.desk.content, prefix, key_sizes, value_sizes)
        dice_seed(&self.desk.dice, 1)
        self.desk.protocol = <Protocol><int>protocol
        self.desk.verify = verify
        self.desk.fill = fill
        self.desk.apart = apart or verify
        self.desk.ttl_low = self.desk.ttl_high = ttl

    def __dealloc__(self) -> None:
        talk_free(&self.talk)
        if self.desk != NULL:
            content_free(&self.desk.content)
            desk_free(self.desk)
            free(self.desk)

    def get(self, *numbers: int) -> bytes:
        """Ask for keys, up to KEYS_MAX; returns the request's bytes."""
        cdef Key keys[KEYS_MAX]
        cdef int i
        for i in range(len(numbers)):
            keys[i].number = numbers[i]
            keys[i].size = ANY_SIZE
        self.desk.nout = 0
        ask_get(self.desk, &self.talk, keys, len(numbers), 0, 0)
        return (<char *>self.desk.out)[:self.desk.nout]

    def set(self, number: int, size: int = ANY_SIZE) -> bytes:
        """Store a value of `size` bytes, or of its law's; returns the request's bytes."""
        cdef Key key
        key.number = number
        key.size = size
        self.desk.nout = 0
        ask_set(self.desk, &self.talk, SET, &key, 0, 0)
        return (<char *>self.desk.out)[:self.desk.nout]

    def hear(self, data: bytes) -> str:
        """Take bytes of replies; returns "", or the kind of trouble and what was said."""
        cdef bytes whole = self.carried + data
        cdef const uint8_t *start = whole
        cdef const uint8_t *end = start + len(whole)
        cdef const uint8_t *rest = judge(self.desk, &self.talk, start, end, 0)
        self.carried = whole[rest - start:]
        if self.desk.trouble in TROUBLES:
            return f"{TROUBLES[self.desk.trouble]}: {(<bytes>self.desk.said).decode(errors='replace')}"
        return ""

    def tally(self) -> dict[str, int]:
        """The counts; `open` are the requests without a reply."""
        return {**self.desk.tally, "open": self.talk.asked_count}

    def missed(self) -> list[int]:
        """The keys to be filled, since the last call."""
        found = [self.desk.missed[i].number for i in range(self.desk.nmissed)]
        self.desk.nmissed = 0
        return found
