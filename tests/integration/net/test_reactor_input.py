"""What comes in: fragments, large values, fairness, ends of input, commands, the bound on held input."""

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from cacheserver.net.budget import Budget

MakeRig = Callable[..., Any]
pytestmark = pytest.mark.parametrize("make_rig", ["plain", "tls"], indirect=True)

LARGE = bytes(range(256)) * 4000  # 1,024,000 bytes


def hundred_sets(noreply: bytes = b"") -> bytes:
    return b"".join(b"set k%d 0 0 4%s\r\n%04d\r\n" % (i, noreply, i) for i in range(100))


@pytest.mark.parametrize("piece", [1, 2, 5, 10, 100, 1000, 1 << 20])
def test_requests_mean_the_same_in_any_fragments(rig: Any, piece: int) -> None:
    client = rig.connect_unix()
    value = LARGE[: min(900000, 4000 * piece)]
    requests = (
        b"set a 0 0 5\r\nhello\r\nget a none a\r\nnonsense\r\n"
        + b"set big 0 0 %d\r\n%s\r\nget big\r\nstats\r\nversion\r\n" % (len(value), value)
    )
    replies = (
        b"STORED\r\n"
        + b"VALUE a 0 5\r\nhello\r\n" * 2
        + b"END\r\nERROR\r\nSTORED\r\n"
        + b"VALUE big 0 %d\r\n%s\r\nEND\r\n" % (len(value), value)
        + b"STAT line 5\r\nEND\r\nVERSION "
    )
    rig.send(client, requests, piece)
    assert rig.read(client, len(replies)) == replies
    assert rig.reactor.counters()["carry_bytes"] == 0
    assert rig.reactor.counters()["bytes_read"] == len(requests)


@pytest.mark.parametrize("size", [4094, 65536, 700001, 1 << 20, (4 << 20) - 4096])
def test_pipelined_large_values_arrive_whole(rig: Any, size: int) -> None:
    client = rig.connect()
    values = [bytes([seed]) + (LARGE * 5)[seed : size + seed - 1] for seed in range(1, 6)]
    for number, value in enumerate(values):
        rig.send(client, b"set k%d 0 0 %d\r\n%s\r\nget k%d\r\n" % (number, size, value, number))
        expected = b"STORED\r\nVALUE k%d 0 %d\r\n%s\r\nEND\r\n" % (number, size, value)
        assert rig.read(client, len(expected)) == expected


def test_costly_pipeline_does_not_hold_up_the_others(rig: Any) -> None:
    busy, other = rig.connect(), rig.connect_unix()
    rig.store(busy, b"k", LARGE)
    busy.setblocking(True)
    busy.sendall(b"append k 0 0 1 noreply\r\n!\r\n" * 2000 + b"incr none 1\r\n")
    rig.pump_once()
    other.send(b"get none\r\n")
    rig.pump_once()
    assert other.recv(100) == b"END\r\n"
    assert rig.reactor.counters()["carry_bytes"] > 0, "the pipeline had ended already"
    busy.setblocking(False)
    assert rig.read(busy, 11) == b"NOT_FOUND\r\n"
    rig.ask(busy, b"get k\r\n", b"VALUE k 0 %d\r\n%s%s\r\nEND\r\n" % (len(LARGE) + 2000, LARGE, b"!" * 2000))


def test_idle_connections_hold_at_most_1_kib(rig: Any) -> None:
    before = rig.reactor.counters()["conn_bytes"]
    clients = [rig.connect_unix() for _ in range(100)]
    for client in clients:
        rig.send(client, b"get " + b"k" * 100)
        rig.ask(client, b"\r\n", b"END\r\n")
    counters = rig.reactor.counters()
    assert counters["carry_bytes"] == counters["pending_bytes"] == 0
    assert 0 < counters["conn_bytes"] - before <= 100 * 1024


def test_flood_leaves_its_neighbour_its_turn(rig: Any) -> None:
    flood, modest = rig.connect(inbuf=1 << 19), rig.connect()
    shared, alone = 1 << 17, 1 << 18  # bytes received at once: beside others, and after them
    data = hundred_sets(b" noreply") * 100
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += flood.send(data[sent % len(data) :])
    assert sent > shared + alone + len(data)
    modest.send(b"get none\r\n")
    read = rig.reactor.counters()["bytes_read"]
    assert rig.pump_once()
    assert modest.recv(100) == b"END\r\n"
    assert rig.reactor.counters()["bytes_read"] - read <= shared + alone + len(b"get none\r\n")
    assert rig.reactor.counters()["conn_yields"] >= 1
    rig.pump(lambda: rig.reactor.counters()["bytes_read"] == sent + len(b"get none\r\n"))


def test_many_at_once_are_each_answered_for_themselves(rig: Any) -> None:
    clients = [rig.connect() for _ in range(40)]
    values = [b"%d:" % i + LARGE[: 60_000 if i % 13 == 5 else i] for i in range(40)]
    rests = []
    for i, client in enumerate(clients):
        request = b"set k%d 0 0 %d\r\n%s\r\nget k%d\r\n" % (i, len(values[i]), values[i], i)
        rests.append(request[client.send(request) :])  # TLS does not take all of a large one at once
    for i, client in enumerate(clients):
        rig.send(client, rests[i])
        expected = b"STORED\r\nVALUE k%d 0 %d\r\n%s\r\nEND\r\n" % (i, len(values[i]), values[i])
        assert rig.read(client, len(expected)) == expected
    for client in clients[::3]:
        client.send(b"get k1 k2")
    for i, client in enumerate(clients):
        client.send(b"\r\n" if i % 3 == 0 else b"delete k%d\r\n" % i)
    for i, client in enumerate(clients):
        if i % 3:
            assert rig.read(client, 9) == b"DELETED\r\n"
        else:
            assert rig.read(client, 5) in (b"VALUE", b"END\r\n")  # before or after somebody has deleted them


def test_the_event_loop_has_its_turn_while_several_flood(rig: Any) -> None:
    floods = [rig.connect(inbuf=1 << 21) for _ in range(8)]
    data = hundred_sets(b" noreply") * 100
    for flood in floods:
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < len(data):
                sent += flood.send(data[sent:])
    read = rig.reactor.counters()["bytes_read"]
    assert rig.pump_once()
    first = rig.reactor.counters()["bytes_read"] - read
    assert 0 < first <= 8 * ((1 << 16) + 512), "it took longer than another batch may begin"
    assert rig.pump_once(), "there was more to do"


GETS = (
    [b"k%d" % i for i in range(40)]
    + [b"t\tab", b"nul\0", b"c\rr", b"k" * 250, b"missing", b"large"]
    + [b"k%d" % i for i in range(3)]
)


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_gets_in_a_row_are_answered_as_each_alone(rig: Any, piece: int) -> None:
    client = rig.connect_unix()
    alone = []
    for key in GETS:
        if key != b"missing":
            rig.store(client, key, LARGE if key == b"large" else b"<" + key + b">")
    for key in GETS:
        value = LARGE if key == b"large" else b"<" + key + b">"
        reply = b"" if key == b"missing" else b"VALUE %s 0 %d\r\n%s\r\n" % (key, len(value), value)
        alone.append((b"get " + key, reply + b"END\r\n"))
    alone[7:7] = [
        (b"get ", b"CLIENT_ERROR bad command line format\r\n"),
        (b"get k1 k2", b"VALUE k1 0 4\r\n<k1>\r\nVALUE k2 0 4\r\n<k2>\r\nEND\r\n"),
    ]
    alone[20:20] = [(b"get " + b"k" * 251, b"CLIENT_ERROR bad command line format\r\n")]
    expected = b"".join(reply for _, reply in alone)
    for end in (b"\r\n", b"\n"):
        requests = b"".join(request + end for request, _ in alone)
        rig.send(client, requests, piece)
        assert rig.read(client, len(expected)) == expected


def test_half_closed_client_gets_all_replies_then_the_end(rig: Any) -> None:
    client = rig.connect(rcvbuf=4096, sndbuf=8192)
    rig.store(client, b"big", LARGE)
    rig.send(client, hundred_sets() + b"get big\r\nget unfinished")
    client.shutdown(socket.SHUT_WR)
    rig.pump_all()
    expected = b"STORED\r\n" * 100 + b"VALUE big 0 %d\r\n%s\r\nEND\r\n" % (len(LARGE), LARGE)
    assert rig.read_to_end(client) == expected
    assert rig.reactor.connections == 0


def test_half_closed_client_gets_a_paused_reply_whole(rig: Any) -> None:
    client = rig.connect()
    rig.store(client, b"k", b"v" * 2000)
    rig.send(client, b"get k\r\n" * 2000)
    client.shutdown(socket.SHUT_WR)
    assert rig.read_to_end(client) == (b"VALUE k 0 2000\r\n" + b"v" * 2000 + b"\r\nEND\r\n") * 2000


def test_last_words_of_a_client_that_closes_are_obeyed(rig: Any) -> None:
    client, other = rig.connect_unix(), rig.connect()
    client.send(b"set will 0 0 5 noreply\r\nheirs\r\n")
    client.close()
    rig.pump_all()
    rig.ask(other, b"get will\r\n", b"VALUE will 0 5\r\nheirs\r\nEND\r\n")
    assert rig.reactor.connections == 1


def test_reset_in_the_middle_of_a_value_harms_nobody(rig: Any) -> None:
    other = rig.connect()
    rig.store(other, b"k", b"old")
    for sent in (10, 70000):
        client = rig.connect()
        rig.send(client, b"set k 0 0 1000000\r\n" + b"x" * sent)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        rig.pump(lambda: rig.reactor.connections == 1)
    rig.ask(other, b"get k\r\n", b"VALUE k 0 3\r\nold\r\nEND\r\n")


def test_commands_keep_their_place_in_a_pipeline(rig: Any) -> None:
    client = rig.connect()
    rig.send(client, b"get a\r\nstats\r\nget a\r\nstats ab\r\nget a\r\n" * 100)
    expected = b"END\r\nSTAT line 5\r\nEND\r\nEND\r\nSTAT line 8\r\nEND\r\nEND\r\n" * 100
    assert rig.read(client, len(expected)) == expected


def test_pipelined_commands_take_turns_and_gets_are_served_in_between(rig: Any) -> None:
    calls: list[bytes] = []

    def handler(line: bytes) -> bytes:
        calls.append(line)
        time.sleep(0.001)  # more than the commands of one wake-up may take
        return b"OK\r\n"

    rig.engine.handler = handler
    clients, other = [rig.connect() for _ in range(4)], rig.connect()
    for number, client in enumerate(clients):
        client.send(b"stats %d\r\n" % number * 5)
    for wakeup in range(1, 21):
        other.send(b"get a\r\n")
        rig.pump_once()
        assert len(calls) == wakeup
        assert other.recv(100) == b"END\r\n"
    assert calls == calls[:4] * 5
    assert len(set(calls)) == 4


def test_overlong_command_line_is_refused_and_a_waiting_one_is_counted(rig: Any) -> None:
    client = rig.connect(rcvbuf=4096, sndbuf=8192)
    rig.ask(client, b"stats %s\r\nget none\r\n" % (b"x" * 5000), b"ERROR\r\nEND\r\n")
    rig.store(client, b"k", LARGE)
    before = rig.reactor.counters()["conn_bytes"]
    rig.send(client, b"get k\r\nstats %s\r\n" % (b"x" * 2000))
    assert rig.reactor.counters()["conn_bytes"] >= before + 2000
    tail = b"END\r\nSTAT line 2006\r\nEND\r\n"
    assert rig.read(client, len(b"VALUE k 0 1024000\r\n") + len(LARGE) + 2 + len(tail)).endswith(tail)
    assert rig.reactor.counters()["conn_bytes"] == before


def test_gat_counts_as_a_touch_only(rig: Any) -> None:
    client = rig.connect_unix()
    rig.store(client, b"k", b"v")
    rig.ask(client, b"gat 0 k none none\r\nget k none\r\n", b"VALUE k 0 1\r\nv\r\nEND\r\n" * 2)
    counted = rig.engine.counters()
    names = ("cmd_touch", "touch_hits", "touch_misses", "cmd_get", "get_hits", "get_misses")
    assert [counted[name] for name in names] == [3, 1, 2, 2, 1, 1]


def test_slow_reader_gets_many_long_command_replies(rig: Any) -> None:
    client = rig.connect(rcvbuf=4096, sndbuf=8192)
    block = b"STAT filler " + b"x" * 49986 + b"\r\n"
    rig.engine.handler = lambda line: block
    rig.send(client, b"stats\r\n" * 200 + b"get a\r\n")
    assert rig.reactor.counters()["pending_bytes"] <= 3 << 20
    assert rig.read(client, len(block) * 200 + 5) == block * 200 + b"END\r\n"


def test_command_that_closes_or_fails_ends_only_its_connection(
    rig: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(line: bytes) -> bytes | None:
        if line.endswith(b"fail"):
            raise ValueError("broken on purpose")
        return None

    rig.engine.handler = handler
    other = rig.connect()
    for line in (b"stats\r\n", b"stats fail\r\n"):
        client = rig.connect()
        rig.send(client, b"get a\r\n" + line + b"get a\r\n")
        assert rig.read_to_end(client) == b"END\r\n"
        client.close()
    assert "broken on purpose" in caplog.text
    rig.ask(other, b"get a\r\n", b"END\r\n")
    rig.pump_all()
    assert rig.reactor.connections == 1


def test_client_that_sends_on_after_a_fatal_line_still_reads_its_replies(rig: Any) -> None:
    client = rig.connect()
    rig.send(client, b"get none\r\n" + b"x" * 500000, 100000)  # a reset would break the sending
    client.shutdown(socket.SHUT_WR)
    assert rig.read_to_end(client).startswith(b"END\r\n")
    rig.pump_all()
    assert rig.reactor.connections == 0


def test_input_budget_closes_the_largest_holder_and_nobody_else(make_rig: MakeRig) -> None:
    rig = make_rig(max_input=Budget(300000))
    modest = rig.connect()
    rig.send(modest, b"get mod")
    for _ in range(10):
        rig.send(rig.connect(), b"get " + b"k " * 30000)
        assert rig.reactor.counters()["carry_bytes"] <= 300000
    assert rig.reactor.counters()["budget_kicks"] >= 1
    rig.ask(modest, b"est\r\n", b"END\r\n")


def test_input_budget_spares_whoever_is_sending(make_rig: MakeRig) -> None:
    rig = make_rig(max_input=Budget(64 << 10))
    stale = [rig.connect_unix() for _ in range(30)]
    for client in stale:
        rig.send(client, b"get " + b"s" * 1900)
    for now in (0.0, 5.0):
        rig.reactor.sweep(now)
    active = rig.connect_unix()
    rig.send(active, b"get " + b" ".join([b"k" * 200] * 80))
    assert rig.reactor.counters()["budget_kicks"] > 0
    rig.ask(active, b"\r\n", b"END\r\n")


def test_quit_closes(rig: Any) -> None:
    client = rig.connect()
    rig.send(client, b"get a\r\nquit\r\nget a\r\n")
    assert rig.read_to_end(client) == b"END\r\n"
