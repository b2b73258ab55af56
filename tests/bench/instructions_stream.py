"""The requests whose instructions are counted, and the process in which they are served: see instructions.

Runs under callgrind, which counts only while a reactor serves a batch. For each case two children are forked,
which begin alike; one serves a round of its requests, the other two. What the second took more is a round of
a server that has run for a while: without the first touch of anything. Every reply is compared with what must
come, so that a case measures what its name says. Prints the children: name, rounds, process id.

Knows: engine, reactor and store by their Python face. Must not know: callgrind, budgets.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cacheserver.engine import Engine
from cacheserver.net.reactor import Reactor
from cacheserver.prefixes import Prefixes
from cacheserver.store.store import Store

KEYS = 400  # a round of most cases asks for each once
BATCH = 16  # requests received at once; of more the engine might leave some for later, by the clock
CAPACITY = 64 << 20  # bytes: nothing is evicted
SMALL, LARGE = b"v" * 100, b"V" * 65536
FEW = 20  # large values
STORED = b"STORED\r\n"

Line = Callable[[int], bytes]  # of the request's number, from 0 on over all rounds


def small(number: int) -> bytes:
    """The key of a small value; 20 bytes."""
    return b"bench:user:%09d" % (number % KEYS)


def large(number: int) -> bytes:
    return b"bench:page:%09d" % (number % FEW)


def fresh(number: int) -> bytes:
    """A key of its own for each request."""
    return b"bench:once:%09d" % number


def absent(number: int) -> bytes:
    return b"bench:none:%09d" % (number % KEYS)


def setting(key: Callable[[int], bytes], value: bytes) -> Line:
    return lambda number: b"set %b 0 0 %d\r\n%b\r\n" % (key(number), len(value), value)


def hits(keys: Sequence[bytes], value: bytes) -> bytes:
    """What a get answers that finds `value` under each of its keys."""
    return b"".join(b"VALUE %b 0 %d\r\n%b\r\n" % (key, len(value), value) for key in keys) + b"END\r\n"


def hundred(number: int) -> list[bytes]:
    return [small(100 * number + each) for each in range(100)]


def mixed(number: int) -> bytes:
    """One set to seven gets."""
    return SMALL_SET(number) if number % 8 == 0 else b"get %b\r\n" % small(number)


def mixed_reply(number: int) -> bytes:
    return STORED if number % 8 == 0 else hits([small(number)], SMALL)


def meta_hit(number: int) -> bytes:
    return b"VA 100 k%b\r\n%b\r\n" % (small(number), SMALL)


def counter(number: int) -> bytes:
    """The value of a counter that has been counted up once in each round before this request and by it."""
    return b"%d" % (1000001 + number // KEYS)


SMALL_SET = setting(small, SMALL)
NUMBERS = setting(small, b"1000000")
ONCE = setting(fresh, SMALL)


@dataclass(frozen=True)
class Case:
    """One kind of request. `ask` and `reply`: the bytes of request and reply by the request's number.

    before: the sets that prepare it, by number, and how many. round: requests that are measured together.
    batch: of these, those that are received at once. cut: the bytes of a batch that are received before the
    others; 0 for all.
    """

    ask: Line
    reply: Line
    before: Line = SMALL_SET
    prepared: int = KEYS
    round: int = KEYS
    batch: int = BATCH
    cut: int = 0


CASES = {
    "get": Case(lambda n: b"get %b\r\n" % small(n), lambda n: hits([small(n)], SMALL)),
    "get_alone": Case(lambda n: b"get %b\r\n" % small(n), lambda n: hits([small(n)], SMALL), batch=1),
    "get_miss": Case(lambda n: b"get %b\r\n" % absent(n), lambda n: b"END\r\n"),
    "get_100_keys": Case(
        lambda n: b"get %b\r\n" % b" ".join(hundred(n)), lambda n: hits(hundred(n), SMALL), round=40, batch=1
    ),
    "get_64k": Case(
        lambda n: b"get %b\r\n" % large(n),
        lambda n: hits([large(n)], LARGE),
        before=setting(large, LARGE),
        prepared=FEW,
        round=FEW,
        batch=1,
    ),
    "gat": Case(lambda n: b"gat 3600 %b\r\n" % small(n), lambda n: hits([small(n)], SMALL)),
    "set": Case(SMALL_SET, lambda n: STORED),
    "set_new": Case(ONCE, lambda n: STORED),
    "set_64k": Case(
        setting(large, LARGE), lambda n: STORED, prepared=0, round=FEW, batch=1, cut=16384
    ),  # the others are received into the item
    "append": Case(
        lambda n: b"append %b 0 0 10\r\n0123456789\r\n" % small(n), lambda n: STORED, batch=2
    ),  # after each, the engine looks at the clock
    "delete": Case(
        lambda n: b"delete %b\r\n" % fresh(n), lambda n: b"DELETED\r\n", before=ONCE, prepared=2 * KEYS
    ),
    "incr": Case(lambda n: b"incr %b 1\r\n" % small(n), lambda n: b"%b\r\n" % counter(n), before=NUMBERS),
    "touch": Case(lambda n: b"touch %b 3600\r\n" % small(n), lambda n: b"TOUCHED\r\n"),
    "mg": Case(lambda n: b"mg %b k v\r\n" % small(n), meta_hit),
    "mg_miss": Case(lambda n: b"mg %b k v\r\n" % absent(n), lambda n: b"EN k%b\r\n" % absent(n)),
    "ms": Case(lambda n: b"ms %b 100\r\n%b\r\n" % (small(n), SMALL), lambda n: b"HD\r\n"),
    "md": Case(lambda n: b"md %b\r\n" % fresh(n), lambda n: b"HD\r\n", before=ONCE, prepared=2 * KEYS),
    "ma": Case(lambda n: b"ma %b v\r\n" % small(n), lambda n: b"VA 7\r\n%b\r\n" % counter(n), before=NUMBERS),
    "mn": Case(lambda n: b"mn\r\n", lambda n: b"MN\r\n"),
    "mixed": Case(mixed, mixed_reply),
}


class Served:
    """One store, engine and reactor, as a worker has them, and a client's end of one connection."""

    def __init__(self) -> None:
        engine = Engine(Store(capacity=CAPACITY), prefixes=Prefixes(":"))
        self.reactor = Reactor(engine)
        self.client, server = socket.socketpair()
        self.client.setblocking(False)
        server.setblocking(False)
        self.reactor.adopt(server.detach())
        self.reactor.on_ready()

    def exchange(self, request: bytes, reply: bytes, cut: int) -> None:
        """Have the server receive `request`, in two parts if `cut`, and say `reply`."""
        for part in filter(None, (request[:cut], request[cut:])):
            if self.client.send(part) != len(part):
                raise SystemExit(f"{len(part)} bytes of requests are too many for one batch")
            self.reactor.on_ready()
        got = self.received(len(reply) + 1)
        if got != reply:
            raise SystemExit(f"{request[:60]!r} was answered {got[:60]!r} instead of {reply[:60]!r}")

    def received(self, most: int) -> bytes:
        got = bytearray()
        while len(got) < most:
            try:
                part = self.client.recv(most - len(got))
            except BlockingIOError:
                break
            if not part:
                break
            got += part
        return bytes(got)


def batches(ask: Line, reply: Line, count: int, batch: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield what is sent and must come back, a batch at a time, for requests 0 to `count`."""
    for first in range(0, count, batch):
        numbers = range(first, min(first + batch, count))
        yield b"".join(map(ask, numbers)), b"".join(map(reply, numbers))


def run(case: Case, rounds: int) -> None:
    """Serve what prepares the case and `rounds` rounds of it. SystemExit: the server answered otherwise."""
    served = Served()
    for request, reply in batches(case.before, lambda number: STORED, case.prepared, case.batch):
        served.exchange(request, reply, 0)
    for request, reply in batches(case.ask, case.reply, rounds * case.round, case.batch):
        served.exchange(request, reply, case.cut)


def fork(case: Case, rounds: int) -> int:
    """Run a case in a child; returns its process id once it has ended well."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            run(case, rounds)
            status = 0
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise SystemExit(1)
    return pid


def main(names: Sequence[str]) -> None:
    # The store's random key decides which keys share a bucket: here the same ones each time.
    os.urandom = lambda size: bytes(range(1, size + 1))
    for name in names:
        run(CASES[name], 1)  # callgrind translates the code once, not in each child
        for rounds in (1, 2):
            print(name, rounds, fork(CASES[name], rounds), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
