"""What only TLS connections have: records in pieces, last words, OpenSSL's memory.

The other modules of this folder run their tests over TLS, too.
"""

import contextlib
import fcntl
import random
import socket
import ssl
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cacheserver.net.budget import Budget
from cacheserver.net.transport import Secure
from tests.descriptors import open_files
from tests.integration.net.conftest import PATIENCE, REST_BYTES
from tests.requirements import require_tool
from tests.secure import secure_pair

MakeRig = Callable[..., Any]
pytestmark = pytest.mark.parametrize("make_rig", ["tls"], indirect=True)

GET = b"get none\r\n"
RECORDS = 32  # of one connection in one wake-up
KEY_CHANGE = 27  # bytes of a record of TLS 1.3 that holds one
RECORDS_WITHOUT_DATA = 256  # one after the other, that a connection survives


def test_a_record_may_come_byte_by_byte_and_counts_while_it_is_half(make_rig: MakeRig) -> None:
    secure = Budget(1 << 20)
    rig = make_rig(max_secure=secure)
    client, other = rig.connect_unix(), rig.connect_unix()
    at_rest = secure.used
    assert at_rest == 2 * REST_BYTES
    record = client.encrypted(GET)
    for number, byte in enumerate(record):
        client.raw.send(bytes([byte]))
        rig.pump_all()
        assert (secure.used > at_rest) == (number < len(record) - 1)
        rig.ask(other, GET, b"END\r\n")
    assert rig.read(client, 5) == b"END\r\n"


def test_a_large_value_in_records_of_odd_sizes_cut_anywhere(rig: Any) -> None:
    client, dice = rig.connect(), random.Random(1)
    value = dice.randbytes(900000)
    request = b"set k 0 0 900000\r\n" + value + b"\r\n"
    stream, at = b"", 0
    while at < len(request):
        size = dice.choice((1, 3, 700, 5000, 16384))
        stream += client.encrypted(request[at : at + size])
        at += size
    while stream:
        try:
            sent = client.raw.send(stream[: dice.randrange(1, 100000)])
        except BlockingIOError:
            sent = 0
        stream = stream[sent:]
        rig.pump_all()
    assert rig.read(client, 8) == b"STORED\r\n"
    rig.ask(client, b"get k\r\n", b"VALUE k 0 900000\r\n" + value + b"\r\nEND\r\n")


def test_drain_waits_for_the_rest_of_a_record(rig: Any) -> None:
    client, idle = rig.connect(), rig.connect()
    record = client.encrypted(GET)
    client.raw.send(record[:10])
    rig.pump_all()
    rig.reactor.drain()
    assert rig.read_to_end(idle) == b""
    assert rig.reactor.connections == 1
    client.raw.send(record[10:])
    assert rig.read_to_end(client) == b"END\r\n"
    assert rig.reactor.drained


def test_who_breaks_the_records_is_closed_and_counted(rig: Any) -> None:
    client, other = rig.connect(), rig.connect()
    rig.send(client, b"set k 0 0 100000\r\n" + b"x" * 50000)
    client.raw.send(b"get a\r\n" * 20)
    rig.pump(lambda: rig.reactor.connections == 1)
    rig.ask(other, b"get k\r\n", b"END\r\n")
    assert rig.reactor.counters()["ssl_proto_errors"] == 1


def test_the_server_says_the_last_word(rig: Any) -> None:
    """Without it a client cannot tell the end of the answers from an answer that was cut off."""
    client = rig.connect()
    rig.send(client, GET + b"quit\r\n")
    assert rig.read_to_end(client) == b"END\r\n"
    assert client.last_word


def test_who_says_his_last_word_alone_still_gets_his_answers(rig: Any) -> None:
    client = rig.connect()
    client.send(GET * 3)
    client.raw.send(_last_word(client))
    assert rig.read_to_end(client) == b"END\r\n" * 3
    rig.pump(lambda: rig.reactor.connections == 0)


def test_a_last_word_right_behind_a_request_waits_for_a_slow_reader(rig: Any) -> None:
    """It comes to light with the request, once; what has to be sent first must not make it forgotten."""
    value = random.Random(2).randbytes(3000000)
    rig.store(rig.connect(), b"k", value)
    client = rig.connect(rcvbuf=4096, sndbuf=8192)
    client.raw.send(client.encrypted(b"get k\r\n") + _last_word(client))
    expected = b"VALUE k 0 3000000\r\n" + value + b"\r\nEND\r\n"
    assert rig.read_to_end(client) == expected
    assert client.last_word
    rig.pump(lambda: rig.reactor.connections == 1)


def test_many_tiny_records_are_answered_a_few_in_a_wake_up(rig: Any) -> None:
    client = rig.connect()
    client.raw.send(b"".join(client.encrypted(GET) for _ in range(100)))
    before = rig.reactor.counters()
    assert rig.pump_once()
    after = rig.reactor.counters()
    assert after["bytes_read"] - before["bytes_read"] == RECORDS * len(GET)
    assert after["conn_yields"] == before["conn_yields"] + 1
    assert rig.read(client, 500) == b"END\r\n" * 100


def poll_until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.001)


class KeyChanger:
    """openssl's own client: the ssl module has no way to change keys in the middle of a connection."""

    def __init__(self, rig: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            command = [require_tool("openssl"), "s_client", "-brief", "-crlf", "-connect"]
            address = f"127.0.0.1:{listening.getsockname()[1]}"
            pipe = subprocess.PIPE
            self.process = subprocess.Popen([*command, address], stdin=pipe, stdout=pipe, stderr=pipe)
            self.server, _ = listening.accept()
        self.server.setblocking(False)
        secure = Secure(self.server, rig.contexts[1])
        done = False
        while not done:
            with contextlib.suppress(ssl.SSLWantReadError):
                secure.do_handshake()
                done = True
        assert rig.reactor.adopt_tls(secure, REST_BYTES)
        rig.pump_all()

    def say(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def change(self, times: int, word: bytes = b"k\n") -> None:
        """Change keys so often; K asks the server to change its own. Raises OSError when it is closed."""
        assert self.process.stderr is not None
        for _ in range(times):
            self.say(word)
            while (line := self.process.stderr.readline()) != b"KEYUPDATE\n":
                if not line:
                    raise ConnectionError("the server has closed the connection")

    def unread(self) -> int:
        """Bytes that the server's kernel has for the reactor."""
        return int.from_bytes(fcntl.ioctl(self.server, termios.FIONREAD, b"\0" * 4), "little")


@pytest.fixture
def key_changer() -> Iterator[Callable[[Any], KeyChanger]]:
    made: list[KeyChanger] = []

    def make(rig: Any) -> KeyChanger:
        made.append(KeyChanger(rig))
        return made[-1]

    yield make
    for each in made:
        each.process.kill()
        each.process.communicate()


def test_changes_of_keys_are_a_few_in_a_wake_up_and_cost_nothing_that_stays(
    make_rig: MakeRig, key_changer: Callable[[Any], KeyChanger]
) -> None:
    rig = make_rig(max_secure=(secure := Budget(1 << 20)))
    client = key_changer(rig)
    client.change(3 * RECORDS)
    poll_until(lambda: client.unread() == 3 * RECORDS * KEY_CHANGE)
    for turn in (2, 1, 0):
        assert rig.pump_once()
        assert client.unread() == turn * RECORDS * KEY_CHANGE
    assert secure.used == REST_BYTES
    client.change(10, b"K\n")
    rig.pump_all()
    client.say(b"get none\n")
    rig.pump(lambda: rig.reactor.counters()["bytes_read"] == len(GET))
    rig.pump_all()
    assert client.process.stdout is not None
    assert client.process.stdout.readline() == b"END\r\n"
    rig.reactor.drain()
    assert rig.reactor.drained


def test_who_only_changes_keys_is_closed(rig: Any, key_changer: Callable[[Any], KeyChanger]) -> None:
    client, other = key_changer(rig), rig.connect()
    client.change(RECORDS_WITHOUT_DATA - RECORDS)
    rig.pump_all()
    client.change(RECORDS)
    poll_until(lambda: client.unread() == RECORDS * KEY_CHANGE)
    rig.pump_all()
    assert rig.reactor.connections == 2
    with contextlib.suppress(OSError):
        client.change(RECORDS)
    rig.pump(lambda: rig.reactor.connections == 1)
    rig.ask(other, GET, b"END\r\n")
    assert rig.reactor.counters()["ssl_proto_errors"] == 1


def _last_word(client: Any) -> bytes:
    with pytest.raises(Exception, match="did not complete"):
        client.tls.unwrap()
    return bytes(client._out.read())


def test_an_exceeded_budget_of_openssl_s_memory_closes_who_is_silent_longest(make_rig: MakeRig) -> None:
    secure = Budget(8 * REST_BYTES)
    rig = make_rig(max_secure=secure)
    clients = [rig.connect() for _ in range(8)]
    for now, client in enumerate(clients):
        rig.reactor.sweep(float(now))
        rig.ask(client, GET, b"END\r\n")
    newest = rig.connect()
    rig.ask(newest, GET, b"END\r\n")
    assert rig.reactor.connections == 8
    assert rig.read_to_end(clients[0]) == b""
    secure.limit = 3 * REST_BYTES
    rig.reactor.sweep(10.0)
    assert secure.used == 3 * REST_BYTES
    for client in (*clients[6:], newest):
        rig.ask(client, GET, b"END\r\n")


def test_whatever_ends_connections_gives_all_their_memory_back(make_rig: MakeRig) -> None:
    secure = Budget(1 << 30)
    before = open_files()
    rig = make_rig(max_secure=secure)
    writer = rig.connect()
    rig.store(writer, b"k", b"v" * 1000000)
    deaf = [rig.connect(rcvbuf=4096, sndbuf=8192) for _ in range(3)]
    for client in deaf:
        rig.send(client, b"get k k\r\n")
    half = rig.connect()
    half.raw.send(half.encrypted(GET)[:7])
    rig.pump_all()
    assert rig.reactor.relieve(True) > 0
    rig.reactor.close()
    counters = rig.reactor.counters()
    names = ("pending_bytes", "pinned_bytes", "carry_bytes", "ssl_connections", "curr_connections")
    assert [counters[name] for name in names] == [0] * 5
    assert secure.used == 0
    rig.close()
    assert open_files() <= before


def test_a_socket_handed_to_a_closed_reactor_is_closed(rig: Any) -> None:
    client, server = socket.socketpair()
    with client:
        _, secure = secure_pair(client, server, rig.contexts)
        rig.reactor.close()
        assert not rig.reactor.adopt_tls(secure, REST_BYTES)
        assert secure.fileno() == -1


def test_a_handed_over_socket_that_nobody_took_is_closed_with_the_reactor(rig: Any) -> None:
    client, server = socket.socketpair()
    with client:
        _, secure = secure_pair(client, server, rig.contexts)
        assert rig.reactor.adopt_tls(secure, REST_BYTES)
        rig.reactor.close()
        assert secure.fileno() == -1
        assert rig.reactor.drained
