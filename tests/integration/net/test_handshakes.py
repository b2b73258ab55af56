"""Handshakes: done off the workers, and bounded in number, time and memory, whatever strangers do."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cacheserver.handshakes import COST, LOOK_AGAIN, SILENT, Handshakes
from cacheserver.net.budget import Budget
from cacheserver.net.transport import Secure
from tests.certificates import Certificates
from tests.descriptors import open_files
from tests.secure import SecureClient

PATIENCE = 10.0


class Door:
    """Handshakes with every socket they were given and whatever they handed over."""

    def __init__(self, made: Certificates, **options: object) -> None:
        self.budget = Budget(8 * COST)
        self.handed: list[Secure] = []
        self.settled = 0
        self.context = made.server_context()
        self.errors: list[BaseException] = []
        options = {"budget": self.budget, "most": 4, "on_error": self.errors.append, **options}
        self.handshakes = Handshakes(lambda: self.context, self.handed.append, settled=self.settle, **options)  # type: ignore[arg-type]
        self.handshakes.start()
        self.client_context = made.client_context()
        self.clients: list[SecureClient] = []
        self.listening = socket.create_server(("127.0.0.1", 0))

    def settle(self) -> None:
        self.settled += 1

    def connect(self) -> SecureClient:
        here = socket.create_connection(self.listening.getsockname())
        here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there, _ = self.listening.accept()
        here.setblocking(False)
        there.setblocking(False)
        self.clients.append(SecureClient(here, self.client_context))
        self.handshakes.take(there.detach())
        return self.clients[-1]

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, self.handshakes.counters()
            time.sleep(0.002)

    def count(self, name: str) -> int:
        return self.handshakes.counters()[name]

    def close(self) -> None:
        assert self.handshakes.stop(PATIENCE)
        assert self.errors == []
        for each in (self.listening, *self.handed, *(client.raw for client in self.clients)):
            each.close()


@pytest.fixture
def make_door(certificates: Certificates) -> Iterator[Callable[..., Door]]:
    doors: list[Door] = []

    def make(**options: object) -> Door:
        doors.append(Door(certificates, **options))
        return doors[-1]

    yield make
    for door in doors:
        door.close()


@pytest.fixture
def door(make_door: Callable[..., Door]) -> Door:
    return make_door()


def ended(client: SecureClient) -> bool:
    """Whether the server has closed this client's connection."""
    try:
        return client.raw.recv(1 << 16) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_a_finished_one_is_handed_over_and_costs_nothing_here_any_more(door: Door) -> None:
    client = door.connect()
    door.until(client.shake)
    door.until(lambda: door.settled == 1)
    (secure,) = door.handed
    assert not secure.sock.getblocking()
    assert door.handshakes.counters() == {
        "ssl_handshakes": 1, "ssl_handshake_errors": 0, "ssl_unfinished": 0, "ssl_bytes": 0,
    }  # fmt: skip


def test_who_says_nothing_costs_openssl_nothing(door: Door) -> None:
    door.connect()
    door.until(lambda: door.count("ssl_unfinished") == 1)
    assert door.budget.used == 0


def test_garbage_is_closed_at_once_and_never_reaches_openssl(door: Door) -> None:
    client = door.connect()
    client.raw.send(b"get a\r\n")
    door.until(lambda: ended(client))
    door.until(lambda: door.settled == 1)
    assert door.count("ssl_handshake_errors") == 1
    assert door.context.session_stats()["accept"] == 0


def test_a_record_that_is_no_hello_is_closed(door: Door) -> None:
    client = door.connect()
    client.raw.send(b"\x16\x03\x01\x00\x05hello")
    door.until(lambda: ended(client))
    assert door.budget.used == 0


def test_who_does_not_finish_in_time_is_closed(make_door: Callable[..., Door]) -> None:
    door = make_door(seconds=0.15)
    silent, begun = door.connect(), door.connect()
    begun.shake()
    door.until(lambda: door.budget.used == COST)
    door.until(lambda: ended(silent) and ended(begun))
    door.until(lambda: door.settled == 2)
    assert (door.count("ssl_handshake_errors"), door.budget.used) == (2, 0)


def test_beyond_the_bound_the_oldest_goes_and_the_newest_gets_in(door: Door) -> None:
    stalled = [door.connect() for _ in range(4)]
    door.until(lambda: door.count("ssl_unfinished") == 4)
    newest = door.connect()
    door.until(newest.shake)
    door.until(lambda: ended(stalled[0]))
    assert not any(ended(each) for each in stalled[1:])
    door.until(lambda: len(door.handed) == 1)


def begin(client: SecureClient) -> None:
    """Send what a handshake begins with; the server may close at once."""
    with contextlib.suppress(ConnectionError):
        client.shake()


def shake_all(door: Door, clients: list[SecureClient]) -> None:
    """Let all of `clients` go on together until they are done."""
    left = set(clients)

    def go_on() -> bool:
        left.difference_update([client for client in left if client.shake()])
        return not left

    door.until(go_on)


@pytest.mark.parametrize("options", [{"most": 2}, {"budget": Budget(2 * COST)}], ids=["places", "memory"])
def test_clients_that_come_together_wait_and_are_all_served(
    make_door: Callable[..., Door], options: dict[str, object]
) -> None:
    door = make_door(**options)
    shake_all(door, [door.connect() for _ in range(30)])
    door.until(lambda: len(door.handed) == 30)
    assert door.count("ssl_handshake_errors") == 0


def test_who_goes_on_slowly_is_given_time_though_others_wait(make_door: Callable[..., Door]) -> None:
    door = make_door(most=1)
    slow = door.connect()
    slow.shake()
    door.until(lambda: door.budget.used == COST)
    waiting = door.connect()
    waiting.shake()
    time.sleep(SILENT + LOOK_AGAIN)
    shake_all(door, [slow, waiting])
    door.until(lambda: len(door.handed) == 2)


def test_what_a_client_offers_is_bounded_before_openssl_sees_it(door: Door) -> None:
    door.client_context.set_alpn_protocols([str(i) + "x" * 200 for i in range(50)])
    begin(door.connect())
    hidden = door.connect()  # its length, in a second record
    hidden.raw.send(b"\x16\x03\x01\x00\x02\x01\x00" + b"\x16\x03\x01\x3f\xff" + bytes(100))
    door.until(lambda: door.settled == 2)
    assert door.count("ssl_handshake_errors") == 2
    assert door.context.session_stats()["accept"] == 0


def test_what_a_client_says_in_all_is_bounded(door: Door, certificates: Certificates, tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_bytes(certificates.client.read_bytes() + 80 * certificates.ca.read_bytes())
    door.client_context.load_cert_chain(chain, certificates.client_key)
    door.context.load_verify_locations(certificates.ca)
    door.context.verify_mode = ssl.CERT_REQUIRED
    client = door.connect()
    door.until(client.shake)
    door.until(lambda: door.settled == 1)
    assert (door.count("ssl_handshakes"), door.count("ssl_handshake_errors")) == (0, 1)


def test_what_follows_the_handshake_at_once_counts_for_nothing(door: Door) -> None:
    client = door.connect()
    with contextlib.suppress(ssl.SSLWantReadError):
        client.tls.do_handshake()
    client.raw.send(client._out.read())
    door.until(client._take)
    client.tls.do_handshake()
    client.tls.write(b"x" * 16000)
    client.tls.write(b"x" * 16000)
    client.raw.settimeout(PATIENCE)
    client.raw.sendall(client._out.read())
    door.until(lambda: door.settled == 1)
    assert len(door.handed) == 1


def test_no_memory_for_one_costs_that_one_only(door: Door) -> None:
    class Spent:
        def wrap_bio(self, *_: object, **__: object) -> ssl.SSLSocket:
            raise MemoryError

    context, door.context = door.context, Spent()  # type: ignore[assignment]
    unlucky = door.connect()
    begin(unlucky)
    door.until(lambda: ended(unlucky))
    assert door.budget.used == 0
    door.context = context
    door.until(door.connect().shake)


def test_when_memory_is_spent_the_oldest_that_holds_some_gives_way(make_door: Callable[..., Door]) -> None:
    door = make_door(budget=(budget := Budget(2 * COST)))
    silent, *begun = (door.connect() for _ in range(3))
    for client in begun:
        client.shake()
    door.until(lambda: budget.used == 2 * COST)
    newest = door.connect()
    door.until(newest.shake)
    door.until(lambda: ended(begun[0]))
    assert not ended(silent)
    assert not ended(begun[1])
    door.until(lambda: len(door.handed) == 1)
    assert budget.used == COST


def test_when_others_hold_all_the_memory_the_new_one_is_refused(make_door: Callable[..., Door]) -> None:
    door = make_door(budget=(budget := Budget(COST)))
    assert budget.take(1)
    client = door.connect()
    begin(client)
    door.until(lambda: ended(client))
    assert budget.used == 1


def test_a_handshake_may_come_byte_by_byte(door: Door) -> None:
    client = door.connect()
    client.raw.settimeout(PATIENCE)
    finished, pieces = False, 0
    while not finished:
        with contextlib.suppress(ssl.SSLWantReadError):
            client.tls.do_handshake()
            finished = True
        for byte in client._out.read():
            client.raw.send(bytes([byte]))
            pieces += 1
        if not finished:
            client._take()
    door.until(lambda: len(door.handed) == 1)
    assert pieces > 300


def test_stopping_closes_what_is_not_done_and_leaves_nothing(certificates: Certificates) -> None:
    before = open_files()
    door = Door(certificates)
    clients = [door.connect() for _ in range(3)]
    clients[0].shake()
    door.until(lambda: door.budget.used == COST)
    assert door.handshakes.stop(PATIENCE)
    for client in clients:
        door.until(lambda client=client: ended(client))  # type: ignore[misc]
    assert (door.settled, door.budget.used) == (3, 0)
    late = door.connect()
    assert ended(late)
    door.close()
    assert open_files() <= before
