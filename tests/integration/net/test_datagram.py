"""A UDP socket driven by hand: how much work one turn does, what it gives back, what a handler may do."""

import contextlib
import logging
import select
import socket
import time
from collections.abc import Iterator

import pytest

from cacheserver.engine import Engine
from cacheserver.net.datagram import Datagrams
from cacheserver.store.store import Store
from tests.udp import Udp, frame

TURN_SECONDS = 0.002
PAGE = 1 << 20
CAP = 4 * 1392  # bytes of text in one reply


class Rig:
    """One store, one engine, one UDP socket and its client."""

    def __init__(self) -> None:
        self.store = Store(capacity=64 << 20)
        self.engine = Engine(self.store)
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.setblocking(False)
        bound.bind(("127.0.0.1", 0))
        self.client = Udp(bound.getsockname())
        self.datagrams = Datagrams(bound, self.engine)

    def serve(self) -> int:
        """Turns until nothing is left; returns how many."""
        turns = 1
        while self.datagrams.on_ready() or select.select([self.datagrams.fileno()], [], [], 0)[0]:
            turns += 1
        return turns

    def ask(self, text: bytes) -> bytes:
        """Send requests in one datagram that is answered by one."""
        self.client.send(frame(text))
        self.serve()
        return self.client.socket.recv(0x10000)[8:]

    def assert_all_can_be_released(self) -> None:
        """A pin or a reservation would keep its page."""
        assert self.store.shrink(1 << 40, True) > 0
        assert self.store.snapshot()["committed"] < PAGE

    def count(self, name: str) -> int:
        return self.datagrams.counters()[name]


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    with made.client, contextlib.closing(made.datagrams):
        yield made


def test_a_turn_receives_a_bounded_number(rig: Rig) -> None:
    for _ in range(200):
        rig.client.send(frame(b"touch none 0 noreply\r\n"))
    assert not rig.datagrams.on_ready()
    assert 0 < rig.count("udp_datagrams") <= 64
    assert rig.serve() >= 3
    assert rig.count("udp_datagrams") == 200
    assert rig.client.drain() == 0


def test_a_datagram_that_takes_long_is_executed_in_turns(rig: Rig) -> None:
    """Appending to a large value copies it each time: what 60 KB can order takes a quarter of a second."""
    rig.store.put("set", b"k", b"x" * 250_000)
    rig.client.send(frame(b"append k 0 0 0 noreply\r\n\r\n" * 2300 + b"get none\r\n"))
    longest, turns, more = 0.0, 0, True
    while more:
        began = time.thread_time()
        more = rig.datagrams.on_ready()
        longest = max(longest, time.thread_time() - began)
        turns += 1
    assert turns > 3
    assert longest < 10 * TURN_SECONDS
    assert rig.client.socket.recv(100)[8:] == b"END\r\n"


def test_a_reply_that_just_fits_is_sent_and_one_byte_more_is_not(rig: Rig) -> None:
    room = CAP - len(b"VALUE k 0 5555\r\n" + b"\r\nEND\r\n")
    rig.store.put("set", b"k", b"x" * room)
    rig.client.send(frame(b"get k\r\n"))
    rig.serve()
    assert rig.client.drain() == 4
    rig.store.put("set", b"k", b"x" * (room + 1))
    assert rig.ask(b"get k\r\n") == b"SERVER_ERROR reply too large for UDP, use TCP\r\n"
    assert rig.count("udp_too_large") == 1


def test_a_reply_that_is_too_large_pins_nothing_and_ends_the_work(rig: Rig) -> None:
    rig.store.put("set", b"large", b"x" * 900_000)
    rig.store.put("set", b"small", b"x" * 3000)
    many = b"get" + b" small" * 9000 + b"\r\nset late 0 0 1\r\nx\r\n"
    for text in (b"get large\r\n", b"get small large\r\n", many):
        rig.client.send(frame(text))
        assert not rig.datagrams.on_ready(), "one turn is enough to see that it is too much"
        assert rig.client.drain() == 1
    assert rig.count("udp_too_large") == 3
    assert rig.store.get(b"late") is None
    rig.assert_all_can_be_released()


def test_an_announced_value_makes_no_room(rig: Rig) -> None:
    before = rig.store.snapshot()["committed"]
    assert rig.ask(b"set k 0 0 1000000\r\nbeginning") == b"CLIENT_ERROR bad data chunk\r\n"
    after = rig.store.snapshot()
    assert (after["committed"], after["reserved"]) == (before, 0)


def test_a_handler_answers_in_order_and_what_is_no_line_of_text_is_an_error(rig: Rig) -> None:
    answers = {b"stats": b"STAT a 1\r\nEND\r\n", b"quiet": b"", b"dump": iter([b"x"]), b"big": b"x" * CAP}
    rig.engine.handler = answers.get  # type: ignore[assignment]
    assert rig.ask(b"get a\r\nstats\r\nquiet\r\nget b\r\n") == b"END\r\nSTAT a 1\r\nEND\r\nEND\r\n"
    assert rig.ask(b"dump\r\nget b\r\n") == b"ERROR\r\nEND\r\n"
    assert rig.ask(b"get a\r\nbig\r\nget a\r\n").startswith(b"SERVER_ERROR reply too large")
    assert rig.ask(b"get a\r\nunknown: None\r\nget a\r\n") == b"END\r\n"


def test_a_handler_that_fails_drops_its_datagram_only(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def handler(line: bytes) -> bytes:
        raise ValueError("broken on purpose")

    rig.engine.handler = handler
    with caplog.at_level(logging.ERROR):
        rig.client.send(frame(b"stats\r\nget a\r\n"))
        rig.serve()
    assert "broken on purpose" in caplog.text
    assert rig.client.drain() == 0
    assert rig.ask(b"get a\r\n") == b"END\r\n"


def test_a_handler_may_close_the_socket_it_is_asked_by(rig: Rig) -> None:
    def handler(line: bytes) -> bytes:
        rig.datagrams.close()
        return b"OK\r\n"

    rig.engine.handler = handler
    rig.client.send(frame(b"shutdown\r\nget a\r\n"))
    assert not rig.datagrams.on_ready()
    assert rig.datagrams.fileno() == -1
    assert not rig.datagrams.on_ready()


def test_closing_in_the_middle_of_a_datagram_gives_everything_back(rig: Rig) -> None:
    rig.store.put("set", b"k", b"x" * 250_000)
    rig.client.send(frame(b"append k 0 0 0 noreply\r\n\r\n" * 2300))
    assert rig.datagrams.on_ready()
    rig.datagrams.close()
    assert not rig.datagrams.on_ready()
    rig.assert_all_can_be_released()


def test_a_client_that_is_gone_and_one_that_cannot_be_answered_stop_nothing(rig: Rig) -> None:
    with Udp(rig.datagrams.socket.getsockname()) as gone:
        gone.send(frame(b"get a\r\n"))
    rig.serve()  # the answer meets a closed port, which the network tells the server
    assert rig.ask(b"get a\r\n") == b"END\r\n"
